"""EXIF, XMP and resolution of a picture that is read, adapted so that they hold for the enhanced version."""

import math
import re
from collections.abc import Iterable
from typing import BinaryIO, SupportsFloat

from PIL import Image

from .exif_tags import EXIF, GPS, HEIGHT, INTEROPERABILITY, OF_TIFF_SOURCE, ORIENTATION, RESOLUTION, STORAGE, WIDTH
from .picture import Metadata

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))([1-8])")
_XMP_MOTION = re.compile(rb"(GCamera:(?:MotionPhoto|MicroVideo)(?:\s*=\s*[\"']|\s*>\s*))1")
UNREADABLE = "unreadable EXIF data, left out"


def parse_exif(data: bytes | None, notes: list[str]) -> Image.Exif:
    """EXIF data from the bytes of a file; empty, with a note, if they cannot be read."""
    exif = Image.Exif()
    try:
        exif.load(data or b"")
        exif.get(ORIENTATION)
    except Exception:  # the parser raises SyntaxError, struct.error, KeyError and others
        notes.append(UNREADABLE)
        return Image.Exif()
    return exif


def read_directory(file: BinaryIO, address: int, little: bool, big: bool = False) -> Image.Exif:
    """A directory of a TIFF or raw file, with those that it refers to. Raises nearly anything if it is damaged.

    big: the file is a BigTIFF.
    """
    exif = Image.Exif()
    exif.endian, exif.bigtiff = "<" if little else ">", big
    exif.load_from_fp(file, address)
    for directory in (EXIF, GPS, INTEROPERABILITY):
        exif.get_ifd(directory)
    return exif


def orientation_of(exif: Image.Exif, xmp: bytes | None) -> int:
    """The orientation in which the pixels are stored, 1 to 8: from EXIF, else from XMP, else 1 (upright)."""
    try:
        value = exif.get(ORIENTATION)
    except Exception:  # see `parse_exif`
        value = None
    if value is None and xmp and (found := _XMP_ORIENTATION.search(xmp)):
        value = int(found.group(2))
    return int(value) if value is not None and value in range(1, 9) else 1


def motion_notes(xmp: bytes | None) -> list[str]:
    """A note if a short video is appended to the picture, as phones do."""
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
    """The metadata to write with the enhanced version of an upright picture.

    Args:
        size: width and height of the upright picture.
        from_tiff: the EXIF data is a directory of a TIFF or raw file.
    """
    try:
        data = _kept(exif, size, from_tiff)
    except Exception:  # see `parse_exif`; also for values that do not fit their tag
        data = None
        if UNREADABLE not in notes:
            notes.append(UNREADABLE)
    return Metadata(profile, data, upright_xmp(xmp), _resolution(dpi))


def upright_xmp(xmp: bytes | str | None) -> bytes | None:
    """XMP data for the upright picture, which no video follows any more."""
    if not xmp:
        return None
    data = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
    return _XMP_MOTION.sub(rb"\g<1>0", _XMP_ORIENTATION.sub(rb"\g<1>1", data))


def _kept(exif: Image.Exif, size: tuple[int, int], from_tiff: bool) -> bytes | None:
    """The EXIF data to keep, as bytes, or None if nothing is left."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in (EXIF, GPS) or tag in STORAGE or (from_tiff and tag not in OF_TIFF_SOURCE):
            continue
        kept[tag] = _as_stored(value)
    for tag in (EXIF, GPS):
        directory = {inner: _as_stored(value) for inner, value in exif.get_ifd(tag).items()}
        if tag == EXIF:
            _mend(directory, exif, size)
        if directory:
            kept[tag] = directory
    # Resolution alone says nothing about the photograph, and is kept separately.
    if not set(kept) - RESOLUTION:
        return None
    return kept.tobytes()


class _Text(str):
    """Text that is written with the bytes it was read from: Pillow decodes it as Latin-1, whatever its encoding."""

    def encode(self, encoding: str = "latin-1", errors: str = "replace") -> bytes:
        return super().encode("latin-1", "replace")


def _as_stored(value: object) -> object:
    return _Text(value) if isinstance(value, str) and not value.isascii() else value


def _mend(directory: dict, exif: Image.Exif, size: tuple[int, int]) -> None:
    """Correct an Exif directory: the size of the upright picture, and the inner directory instead of its address."""
    for tag, value in zip((WIDTH, HEIGHT), size, strict=True):
        if tag in directory:
            directory[tag] = value
    if INTEROPERABILITY in directory:
        inner = dict(exif.get_ifd(INTEROPERABILITY))
        if inner:
            directory[INTEROPERABILITY] = inner
        else:
            del directory[INTEROPERABILITY]


def _resolution(dpi: Iterable[SupportsFloat] | None) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi or ())
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 and math.isfinite(x + y) else None
