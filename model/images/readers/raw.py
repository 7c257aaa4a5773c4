"""Raw files of cameras, developed by LibRaw to 16-bit sRGB with the camera's white balance."""

import contextlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ...files import ImageError, damaged
from ..exif import metadata_of, read_directory
from ..optional_packages import need
from ..picture import Picture
from ..samples import check_pixels, picture_of

_MAGIC = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_HALF_OF_TIFF = (b"II", b"MM")
_GAMMA = (2.4, 12.92)  # of sRGB
_NOT_SUPPORTED = ("LibRawFileUnsupportedError", "LibRawNotImplementedError", "LibRawRequestForNonexistentImageError")


def is_raw_content(head: bytes) -> bool:
    """Whether a file that begins with `head` is a raw file that is not also a TIFF file."""
    return head.startswith(_MAGIC) or head[6:14] == b"HEAPCCDR" or (head[:2] in _HALF_OF_TIFF and head[8:10] == b"CR")


def raw_size(path: str | Path) -> tuple[int, int]:
    """Width and height, which may be swapped if the picture is to be turned. Raises ImageError, or anything."""
    with _opened(path) as raw:
        return raw.sizes.width, raw.sizes.height


def read_raw(path: Path, half: bool = False) -> Picture:
    """A raw file, developed and turned upright.

    Args:
        half: develop it at half the width and height, in a quarter of the time.

    Raises:
        ImageError: rawpy is missing, or the file is too large or of a kind that LibRaw does not support.
        Exception: anything, if the file is damaged.
    """
    rawpy = need(path, "a raw file", "rawpy", "rawpy")
    notes: list[str] = []
    with _opened(path) as raw:
        check_pixels(path, raw.sizes.raw_width, raw.sizes.raw_height)
        check_pixels(path, raw.sizes.width, raw.sizes.height)
        try:
            pixels = raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                gamma=_GAMMA,
                output_color=rawpy.ColorSpace.sRGB,
                half_size=half,
            )
        except rawpy.LibRawError as error:
            raise _refusal(path, error) from None
        exif = _exif(path, raw)
    size = (pixels.shape[1], pixels.shape[0])
    metadata = metadata_of(None, exif, None, None, size, notes, from_tiff=True)
    return picture_of(np.atleast_3d(pixels)[..., :3], metadata=metadata, notes=notes)


@contextlib.contextmanager
def _opened(path: str | Path):
    rawpy = need(path, "a raw file", "rawpy", "rawpy")
    try:
        raw = rawpy.imread(str(path))
    except rawpy.LibRawError as error:
        raise _refusal(path, error) from None
    try:
        yield raw
    finally:
        raw.close()


def _refusal(path: str | Path, error: Exception) -> ImageError:
    reason = " ".join(part.decode() if isinstance(part, bytes) else str(part) for part in error.args)
    if type(error).__name__ in _NOT_SUPPORTED:
        return ImageError(
            f"{path}: a raw file that LibRaw does not support; convert it to DNG, or develop it to TIFF or JPEG"
        )
    return damaged(path, f"LibRaw: {reason}")


def _exif(path: Path, raw) -> Image.Exif:
    """EXIF data of a raw file that is built like TIFF, else of its embedded preview; empty if there is none."""
    # On damaged data the parser raises nearly anything, and there may be no preview.
    with contextlib.suppress(Exception), open(path, "rb") as file:
        if (head := file.read(8))[:2] in _HALF_OF_TIFF:
            little = head[:2] == b"II"
            return read_directory(file, int.from_bytes(head[4:], "little" if little else "big"), little)
        preview = raw.extract_thumb()
        with Image.open(io.BytesIO(preview.data), formats=["JPEG"]) as image:
            return image.getexif()
    return Image.Exif()
