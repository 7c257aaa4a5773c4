"""PNG files with 16 bits per channel, which Pillow writes only for gray pictures."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from ..picture import Metadata
from .metadata import exif_directories

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels: gray, gray and alpha, RGB, RGB and alpha
_SUB, _UP = 1, 2  # filters: the difference to the pixel on the left, and to the one above
_INCH = 0.0254  # meters


def write_deep_png(
    file: BinaryIO, bands: Iterable[np.ndarray], shape: tuple[int, int, int], metadata: Metadata
) -> None:
    """Write a picture with 16 bits per channel.

    Args:
        bands: the picture from its top, uint16 `(rows, W, C)`, C from 1 to 4: gray, gray and alpha, RGB, RGB and alpha.
        shape: `(H, W, C)` of the whole picture.
    """
    height, width, channels = shape
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0))
    if metadata.icc_profile:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile))
    if metadata.dpi:
        _chunk(file, b"pHYs", struct.pack(">IIB", *(round(value / _INCH) for value in metadata.dpi), 1))
    if metadata.exif:
        _chunk(file, b"eXIf", exif_directories(metadata.exif))
    if metadata.xmp:
        _chunk(file, b"iTXt", xmp_text(metadata.xmp))
    for data in _compressed(bands):
        if data:
            _chunk(file, b"IDAT", data)
    _chunk(file, b"IEND", b"")


def xmp_text(xmp: bytes) -> bytes:
    """The content of an iTXt chunk for XMP data: not compressed, without a language."""
    return b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(name))))


def _compressed(bands: Iterable[np.ndarray]) -> Iterator[bytes]:
    # The low bytes are mostly noise, in which a search for repeated strings finds nothing: Huffman coding with run
    # lengths alone gives smaller files at twice the speed.
    packer = zlib.compressobj(level=1, memLevel=9, strategy=zlib.Z_RLE)
    above = None
    for band in bands:
        rows = band.astype(">u2").view(np.uint8).reshape(band.shape[0], -1)
        above = np.zeros_like(rows[:1]) if above is None else above
        yield packer.compress(_filtered(rows, above, 2 * band.shape[2]).data)
        above = rows[-1:]
    yield packer.flush()


def _filtered(rows: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    """Rows of bytes, each with the number of its filter in front: the one with the smaller differences.

    above: the row before the first; pixel: the bytes of one pixel.
    """
    sub = rows.copy()
    sub[:, pixel:] -= rows[:, :-pixel]
    up = rows - np.concatenate([above, rows[:-1]])
    better = (_cost(up) < _cost(sub))[:, None]
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, :1] = np.where(better, _UP, _SUB)
    filtered[:, 1:] = np.where(better, up, sub)
    return filtered


def _cost(differences: np.ndarray) -> np.ndarray:
    """The sum of the absolute differences of each row, as numbers from -128 to 127."""
    # The absolute value of -128 overflows to the same bits, which are 128 when read as unsigned.
    return np.abs(differences.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.int64)
