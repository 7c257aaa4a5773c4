"""Pictures from files: every color mode to RGB, one clear line for what is no picture."""

import os
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .picture import ImageError, Metadata, Picture, one_line

# Searched for in folders. A file named by itself is opened whatever its extension.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".webp", ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pnm"),
)
# Of cameras, with the data of their sensors.
RAW_EXTENSIONS: tuple[str, ...] = ()
# A short list on purpose: Pillow also opens formats that start other programs (EPS) or hold no photographs.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")
_BAND_PIXELS = 1 << 20


def read_image(path: str | Path, half: bool = False) -> Picture:
    """The picture in a file, turned upright by its EXIF orientation.

    Grey, palette, CMYK and other colour modes become RGB; transparency is kept apart. 16-bit grey keeps its 16 bits.
    16-bit colour is read at 8, all that Pillow gives; of several frames the first is read; both are in `notes`.

    Raises:
        ImageError: the file is missing, empty, no picture, truncated, of an unknown range, or too large.
    """
    path = Path(path)
    if not os.path.isfile(path):
        reason = "not a file" if os.path.exists(path) else "no such file, or not readable"
        raise ImageError(f"{path}: {reason}; expected a picture")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); replace it with a whole copy")
        with _quiet, Image.open(path, formats=_formats()) as image:
            profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
            notes = _notes(image)
            image.load()
            return _to_picture(path, _upright(image, notes), profile, tuple(notes))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        limit = int(2 * Image.MAX_IMAGE_PIXELS)
        raise ImageError(
            f"{path}: more than {limit:,} pixels; allow them by --max-pixels, scale the picture down or cut it up"
        ) from None
    except Image.UnidentifiedImageError:
        if _is_tiff(path):
            raise ImageError(
                f"{path}: a TIFF that is truncated or damaged, or of a kind that Pillow cannot read, as float colours; "
                "save it whole, with 8 or 16 bits a channel"
            ) from None
        raise ImageError(f"{path}: not a picture in a known format ({', '.join(_formats())})") from None
    except MemoryError:
        raise ImageError(f"{path}: not enough memory to read it; scale the picture down or cut it up") from None
    except Exception as error:  # damaged files make decoders raise nearly anything: OSError, SyntaxError, IndexError
        raise ImageError(f"{path}: truncated or damaged ({one_line(error)}); replace it with a whole copy") from None


def _is_tiff(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*")


def pixel_count(path: str | Path) -> int:
    """Pixels of a picture by its header alone; 0 where that cannot be read, which `read_image` will explain."""
    try:
        with _quiet, Image.open(path, formats=_formats()) as image:
            return image.width * image.height
    except Exception:  # see `read_image`
        return 0


def allow_pixels(limit: int) -> None:
    """Read pictures of up to `limit` pixels, in this process; Pillow refuses more than 178,956,970 by itself."""
    Image.MAX_IMAGE_PIXELS = limit / 2  # it warns above this and refuses above twice as much


def from_pil(image: Image.Image) -> Picture:
    """A PIL image of any mode as `read_image` would read it from a file, turned upright.

    Raises:
        ImageError: its range is not known: 32 bits a channel.
    """
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    notes: list[str] = []
    return _to_picture("image", _upright(image.copy(), notes), profile, tuple(notes))


class _Quiet:
    """No warnings while any thread is within: of two threads, `warnings.catch_warnings` mixes up the filters.

    Pillow warns at half the size at which it refuses, where photographs lie, and before most of its errors.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._filters.__exit__()


_quiet = _Quiet()


def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow was built with; it raises KeyError for others."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _notes(image: Image.Image) -> list[str]:
    """What reading will lose. To be asked before the pixels are decoded: the raw mode is forgotten then."""
    notes = []
    args = image.tile[0][3] if image.tile else ""
    raw_mode = args[0] if isinstance(args, tuple) and args else args
    if ";16" in str(raw_mode) and not image.mode.startswith("I;16"):
        notes.append("16-bit colour, read at 8 bits")
    frames = getattr(image, "n_frames", 1)
    # A second frame of a JPEG (MPO) is a preview or a gain map, not another photograph.
    if frames > 1 and image.format != "MPO":
        notes.append(f"{frames} frames, of which the first is read")
    return notes


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """The image turned as its EXIF orientation says; broken EXIF data is no reason to refuse good pixels."""
    try:
        ImageOps.exif_transpose(image, in_place=True)  # a copy of a large picture would be as large
    except Exception:  # the EXIF parser raises SyntaxError, struct.error, KeyError and others
        notes.append("unreadable EXIF data, orientation not applied")
    return image


def _to_picture(path: Path | str, image: Image.Image, icc_profile: bytes | None, notes: tuple[str, ...]) -> Picture:
    """RGB and alpha of a decoded image of any mode."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        plane = np.asarray(image).astype(np.uint16)  # also from big-endian
        alpha = None if key is None else np.where(plane == key, 0, 255).astype(np.uint8)
        return Picture(np.repeat(plane[..., None], 3, axis=2), alpha, True, notes=notes)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{path}: 32-bit pixels (mode {image.mode}), whose range is not known; convert it to 8 or 16 bits"
        )
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = key is not None or image.mode.endswith(("A", "a"))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if transparent else None
    # Band by band: Pillow's own conversions, to arrays too, make copies of the whole.
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        values = np.asarray(band.convert("RGBA" if transparent else "RGB"))
        pixels[top : top + rows] = values[..., :3]
        if alpha is not None:
            alpha[top : top + rows] = values[..., 3]
    return Picture(pixels, alpha, grey, Metadata(icc_profile), notes)
