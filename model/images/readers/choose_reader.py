"""`read_image`: choose the reader by the content of a file, and turn every failure into an error of one line."""

import os
import stat
from pathlib import Path

from PIL import Image

from ...files import RAW_EXTENSIONS, ImageError, damaged, reason_of
from ...streams import quiet
from ..picture import Picture
from ..samples import check_pixels, too_large
from ..tiff_tags import MAGIC as TIFF_MAGIC
from .avif_jpeg2000 import JP2_MAGIC, avif_samples, jpeg2000_samples
from .heif import heif_size, read_heif
from .heif_brands import brand_kind
from .jxl import is_jxl, jxl_header, read_jxl
from .netpbm import is_netpbm, netpbm_size, read_netpbm
from .pillow import picture_of_image, pillow_formats, read_with_pillow
from .png import MAGIC as PNG_MAGIC
from .png import png_size, read_png
from .raw import is_raw_content, raw_size, read_raw
from .tiff import read_tiff, tiff_layout

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def read_image(path: str | Path, half: bool = False) -> Picture:
    """Read the picture in a file, turned upright. The content decides the format, whatever the extension.

    Gray, palette, CMYK and other color modes become RGB; transparency is kept separately. More than 8 bits become 16.
    `notes` says what could not be read in full; of several frames the first is read.

    Args:
        half: develop a raw file at half its width and height, in a quarter of the time.

    Raises:
        ImageError: the file is missing, empty, not a picture, truncated, too large, or of a kind whose values are not
            certain, or a package that its format needs is not installed.
    """
    path = Path(path)
    try:
        _check_file(path)
        with quiet:
            return _read(path, half)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise too_large(path) from None
    except Image.UnidentifiedImageError:
        known = ", ".join(["TIFF", "HEIC", "JPEG XL", "PPM", "raw", *pillow_formats()])
        raise ImageError(f"{path}: not a picture in a known format ({known}), or damaged") from None
    except PermissionError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except MemoryError:
        raise ImageError(f"{path}: not enough memory to read it; scale the picture down or cut it up") from None
    except Exception as error:  # damaged files make decoders raise nearly anything: OSError, SyntaxError, IndexError
        raise damaged(path, reason_of(error)) from None


def pixel_count(path: str | Path) -> int:
    """The number of pixels according to the header; 0 if that cannot be read, and `read_image` will say why."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return 0
        with quiet:
            width, height = _size(Path(path))
        return width * height
    except Exception:  # see `read_image`
        return 0


def allow_pixels(limit: int) -> None:
    """Allow pictures of up to `limit` pixels in this process; the default, of Pillow, is 178,956,970."""
    # Pillow warns above this and refuses above twice as much.
    Image.MAX_IMAGE_PIXELS = limit / 2  # type: ignore[assignment]  # exact for an odd limit; it is only compared with


def from_pil(image: Image.Image) -> Picture:
    """Turn a PIL image of any mode into the picture that `read_image` would read from a file, upright.

    Raises:
        ImageError: the image has 32 bits per channel, whose range is not known.
    """
    with quiet:
        return picture_of_image("image", image, [])


def _check_file(path: Path) -> None:
    """Raises ImageError for anything but a regular file: opening a pipe would wait forever."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise ImageError(f"{path}: no such file, or not readable; expected a picture") from None
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path}: not a file (a folder); expected a picture")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise ImageError(f"{path}: not a regular file ({kind}); expected a picture")
    if status.st_size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes); replace it with a whole copy")


def _kind(path: Path) -> str:
    """The reader that a file needs, by its first bytes, and for some raw files by the extension."""
    with open(path, "rb") as file:
        head = file.read(256)
    if head.startswith(PNG_MAGIC):
        return "png"
    if is_jxl(head):
        return "jxl"
    if (brand := brand_kind(head)) is not None:
        return "raw" if brand == "cr3" else brand
    if head.startswith(JP2_MAGIC):
        return "jpeg2000"
    if is_netpbm(head):
        return "netpbm"
    if head.startswith(_PICTURES):
        return "other"
    if is_raw_content(head) or path.suffix.lower() in RAW_EXTENSIONS:
        return "raw"
    return "tiff" if head.startswith(TIFF_MAGIC) else "other"


def _read(path: Path, half: bool) -> Picture:
    kind = _kind(path)
    if kind == "tiff":
        layout = tiff_layout(path)
        return read_raw(path, half) if layout.is_raw else read_tiff(path, layout)
    if kind == "raw":
        return read_raw(path, half)
    simple = {"png": read_png, "heif": read_heif, "jxl": read_jxl, "netpbm": read_netpbm}
    if kind in simple:
        return simple[kind](path)
    notes: list[str] = []
    if kind == "avif" and "AVIF" not in pillow_formats():
        raise ImageError(f"{path}: an AVIF picture, which this Pillow was built without; pip install --upgrade pillow")
    deep = None
    if kind in ("avif", "jpeg2000"):
        check_pixels(path, *_size_in_pillow(path))
        deep = (avif_samples if kind == "avif" else jpeg2000_samples)(path, notes)
    return read_with_pillow(path, pillow_formats(), notes, deep=deep)


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the header alone. Raises anything if it is damaged."""
    kind = _kind(path)
    if kind == "tiff":
        layout = tiff_layout(path)
        return layout.width, layout.height
    readers = {"png": png_size, "heif": heif_size, "netpbm": netpbm_size, "raw": raw_size}
    if kind in readers:
        return readers[kind](path)
    return jxl_header(path)[:2] if kind == "jxl" else _size_in_pillow(path)


def _size_in_pillow(path: Path) -> tuple[int, int]:
    with Image.open(path, formats=pillow_formats()) as image:
        return image.size
