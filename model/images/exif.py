"""What a picture says of itself, EXIF, XMP and resolution, as far as it holds for the enhanced version."""

import math
import re
from collections.abc import Iterable
from typing import BinaryIO, SupportsFloat

from PIL import Image

from .picture import Metadata

ORIENTATION = 0x0112
INTEROP = 0xA005
_EXIF, _GPS = 0x8769, 0x8825
_WIDTH, _HEIGHT = 0xA002, 0xA003  # PixelXDimension, PixelYDimension
# Sizes, bits, strips, tiles, colors, thumbnails: they describe how the file stored its pixels.
_STRUCTURE = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 284, 285, 290, 291, 292, 293),
    *(301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 338, 339, 340, 341, 342, 347),
    *(512, 513, 514, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724),
}
# Of a TIFF or raw file only what speaks of the photograph: the rest has hundreds of kinds, private ones among them.
_OF_THE_PHOTOGRAPH = {
    *(269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432, 33434, 33437, 34850, 34855),
    *(36867, 37377, 37378, 37380, 37383, 37384, 37385, 37386, 40091, 40092, 40093, 40094, 40095, 42034, 42036, 42037),
    *(_EXIF, _GPS),
}
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))([1-8])")
_XMP_MOTION = re.compile(rb"(GCamera:(?:MotionPhoto|MicroVideo)(?:\s*=\s*[\"']|\s*>\s*))1")
UNREADABLE = "unreadable EXIF data, left out"


def parsed(data: bytes | None, notes: list[str]) -> Image.Exif:
    """EXIF data as a file stores it; empty, with a note, where it cannot be read."""
    exif = Image.Exif()
    try:
        exif.load(data or b"")
        exif.get(ORIENTATION)
    except Exception:  # the parser raises SyntaxError, struct.error, KeyError and others
        notes.append(UNREADABLE)
        return Image.Exif()
    return exif


def of_directory(file: BinaryIO, address: int, little: bool, big: bool = False) -> Image.Exif:
    """A directory of a TIFF or raw file, with those that it refers to. Raises nearly anything where it is damaged.

    big: of BigTIFF.
    """
    exif = Image.Exif()
    exif.endian, exif.bigtiff = "<" if little else ">", big
    exif.load_from_fp(file, address)
    for directory in (_EXIF, _GPS, INTEROP):
        exif.get_ifd(directory)
    return exif


def orientation_of(exif: Image.Exif, xmp: bytes | None) -> int:
    """How the pixels are stored, 1 to 8: by EXIF, else by XMP, else upright."""
    try:
        value = exif.get(ORIENTATION)
    except Exception:  # see `parsed`
        value = None
    if value is None and xmp and (found := _XMP_ORIENTATION.search(xmp)):
        value = int(found.group(2))
    return int(value) if value is not None and value in range(1, 9) else 1


def motion_notes(xmp: bytes | None) -> list[str]:
    """What to say where a short video is appended to the picture, as phones do."""
    if not xmp or not _XMP_MOTION.search(xmp):
        return []
    return ["a motion photo: a picture and a short video, of which the picture is read"]


def metadata_of(
    profile: bytes | None,
    exif: Image.Exif,
    xmp: bytes | str | None,
    dpi: Iterable[SupportsFloat] | None,
    size: tuple[int, int],
    notes: list[str],
    from_tiff: bool = False,
) -> Metadata:
    """Everything for the enhanced version of an upright picture.

    Args:
        size: width and height, upright.
        from_tiff: the EXIF data is the structure of a TIFF or raw file.
    """
    try:
        data = _kept(exif, size, from_tiff)
    except Exception:  # see `parsed`; and values that their own tag cannot hold
        data = None
        if UNREADABLE not in notes:
            notes.append(UNREADABLE)
    return Metadata(profile, data, upright_xmp(xmp), _resolution(dpi))


def upright_xmp(xmp: bytes | str | None) -> bytes | None:
    """XMP data of the turned picture, without the video that may have followed it."""
    if not xmp:
        return None
    data = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
    return _XMP_MOTION.sub(rb"\g<1>0", _XMP_ORIENTATION.sub(rb"\g<1>1", data))


def _kept(exif: Image.Exif, size: tuple[int, int], from_tiff: bool) -> bytes | None:
    """EXIF data as bytes, or None where nothing is left."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in (_EXIF, _GPS) or tag in _STRUCTURE or (from_tiff and tag not in _OF_THE_PHOTOGRAPH):
            continue
        kept[tag] = _as_stored(value)
    for tag in (_EXIF, _GPS):
        directory = {inner: _as_stored(value) for inner, value in exif.get_ifd(tag).items()}
        if tag == _EXIF:
            _mend(directory, exif, size)
        if directory:
            kept[tag] = directory
    # Resolution alone is no description of a photograph, and is kept apart.
    if not set(kept) - {282, 283, 296}:
        return None
    return kept.tobytes()


class _Text(str):
    """Text of a file that is written as the same bytes again: Pillow reads it as Latin-1, whatever it is in."""

    def encode(self, encoding: str = "latin-1", errors: str = "replace") -> bytes:
        return super().encode("latin-1", "replace")


def _as_stored(value: object) -> object:
    return _Text(value) if isinstance(value, str) and not value.isascii() else value


def _mend(directory: dict, exif: Image.Exif, size: tuple[int, int]) -> None:
    """Puts the size of the upright picture into an Exif directory, and a directory in place of its address."""
    for tag, value in zip((_WIDTH, _HEIGHT), size, strict=True):
        if tag in directory:
            directory[tag] = value
    if INTEROP in directory:
        inner = dict(exif.get_ifd(INTEROP))
        if inner:
            directory[INTEROP] = inner
        else:
            del directory[INTEROP]


def _resolution(dpi: Iterable[SupportsFloat] | None) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi or ())
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 and math.isfinite(x + y) else None
