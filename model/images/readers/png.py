"""PNG pictures: all 16 bits of color, and the chunks that describe colors without a profile."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..color_profiles import color_code_notes
from ..optional_packages import optional, read_at_8_bits
from ..picture import Picture
from ..samples import check_pixels
from .pillow import read_with_pillow

MAGIC = b"\x89PNG\r\n\x1a\n"
_GRAY = 0
_SRGB_GAMMA = 45455
_SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # white, red, green, blue
_METADATA = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")
_MOST_CHUNKS = 1 << 18


def png_size(path: str | Path) -> tuple[int, int]:
    """Width and height. Raises struct.error if the file is cut off."""
    with open(path, "rb") as file:
        return struct.unpack(">II", file.read(24)[16:])


def read_png(path: Path) -> Picture:
    """The picture in a PNG file, with all 16 bits of color if imagecodecs is installed.

    Raises:
        ImageError: the picture is too large.
        Exception: anything, if the file is damaged.
    """
    check_pixels(path, *png_size(path))
    with open(path, "rb") as file:
        header = file.read(29)
    bits, kind = header[24], header[25]
    notes = _color_notes(path)
    deep = None
    if bits == 16 and kind != _GRAY:
        codecs = optional("imagecodecs")
        if codecs is None:
            notes.append(read_at_8_bits(16))
        else:
            deep = _decode(codecs, path)
    elif bits in (2, 4) and kind == _GRAY and (key := dict(_chunks(path)).get(b"tRNS")):
        deep = _keyed(path, bits, int.from_bytes(key[:2], "big"))
    return read_with_pillow(path, ["PNG"], notes, deep=deep, late=deep is not None and _has_late_metadata(path))


def _decode(codecs, path: Path) -> np.ndarray:
    return codecs.png_decode(path.read_bytes())


def _keyed(path: Path, bits: int, key: int) -> np.ndarray:
    """Gray of 2 or 4 bits and its alpha: Pillow scales pixels to 8 bits, but not the transparent level."""
    with Image.open(path, formats=["PNG"]) as image:
        plane = np.asarray(image)
    return np.stack([plane, np.where(plane == key * 255 // ((1 << bits) - 1), 0, 255).astype(np.uint8)], axis=2)


def _has_late_metadata(path: Path) -> bool:
    """Whether EXIF or XMP data follow the pixels, which is where ImageMagick writes them."""
    names = [name for name, _ in _chunks(path, all_of_them=True) if name in (*_METADATA, b"IDAT")]
    return b"IDAT" in names and any(name in _METADATA for name in names[names.index(b"IDAT") :])


def _color_notes(path: Path) -> list[str]:
    """Notes on colors that the file describes as other than sRGB, unless it has a profile."""
    chunks = dict(_chunks(path))
    if b"cICP" in chunks and len(chunks[b"cICP"]) == 4:
        return color_code_notes(chunks[b"cICP"][0], chunks[b"cICP"][1])
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return []
    notes = []
    gamma, points = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) == 4:
        (value,) = struct.unpack(">I", gamma)
        if value and abs(value - _SRGB_GAMMA) > _SRGB_GAMMA / 100:
            notes.append(f"its gamma of {value / 100000:g} (gAMA) is not applied; read as sRGB, {1 / 2.2:.3f}")
    if len(points) == 32:
        values = struct.unpack(">8I", points)
        if any(abs(one - other) > 500 for one, other in zip(values, _SRGB_POINTS, strict=True)):
            notes.append("its primaries (cHRM) are not those of sRGB and are not applied; read as sRGB")
    return notes


def _chunks(path: Path, all_of_them: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Name and first 64 bytes of each chunk: of those before the pixels, or of all."""
    with open(path, "rb") as file:
        file.seek(len(MAGIC))
        for _ in range(_MOST_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or (head[4:] == b"IDAT" and not all_of_them):
                return
            (length,) = struct.unpack(">I", head[:4])
            data = file.read(min(length, 64))
            yield head[4:], data
            file.seek(length - len(data) + 4, 1)
