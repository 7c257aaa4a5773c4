"""Decode the pixels of a TIFF file exactly: up to 16 bits, in strips or tiles, with or without separate planes."""

import zlib
from pathlib import Path

import numpy as np

from ..optional_packages import optional
from ..samples import BAND_PIXELS
from ..tiff_tags import ADOBE_DEFLATE, DEFLATE, LZW, PACKBITS, UNCOMPRESSED, DamagedError, Layout

# The names of imagecodecs' decoders, for compressions that Python cannot decode by itself.
_CODECS = {LZW: "lzw", PACKBITS: "packbits", 34925: "lzma", 50000: "zstd"}
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def can_decode(layout: Layout) -> bool:
    """Whether `decode` supports this layout with the packages that are installed."""
    if len(set(layout.bits)) != 1 or not 1 <= layout.bits[0] <= 16:
        return False
    if layout.predictor != 1 and (layout.predictor != 2 or layout.bits[0] not in (8, 16)):
        return False
    if layout.compression in (UNCOMPRESSED, DEFLATE, ADOBE_DEFLATE):
        return True
    return layout.compression in _CODECS and optional("imagecodecs") is not None


def needs_codec(layout: Layout) -> bool:
    """Whether imagecodecs could decode its compression."""
    return layout.compression in _CODECS


def check_segments(layout: Layout, size: int) -> None:
    """Raises DamagedError if strips or tiles are missing from a file of `size` bytes."""
    width, height = layout.segment
    if width < 1 or height < 1:
        raise DamagedError("strips or tiles without a size")
    across, down = -(-layout.width // width), -(-layout.height // height)
    expected = across * down * (layout.samples if layout.planar else 1)
    if len(layout.offsets) < expected or len(layout.counts) < expected:
        raise DamagedError("strips or tiles are missing")
    for offset, count in zip(layout.offsets[:expected], layout.counts[:expected], strict=True):
        if count < 1 or offset < 8 or offset + count > size:
            raise DamagedError("strips or tiles lie beyond the end of the file")


def decode(path: str | Path, layout: Layout) -> np.ndarray:
    """The samples (H, W, channels) as stored, not scaled: uint8 for up to 8 bits, uint16 above.

    Raises:
        DamagedError: a strip or tile is too short.
        Exception: anything that a decompressor raises.
    """
    bits = layout.bits[0]
    result = np.empty((layout.height, layout.width, layout.samples), np.uint8 if bits <= 8 else np.uint16)
    planes = [slice(one, one + 1) for one in range(layout.samples)] if layout.planar else [slice(0, layout.samples)]
    width, height = layout.segment
    index = 0
    with open(path, "rb") as file:
        for plane in planes:
            for top in range(0, layout.height, height):
                for left in range(0, layout.width, width):
                    file.seek(layout.offsets[index])
                    data = file.read(layout.counts[index])
                    target = result[top : top + height, left : left + width, plane]
                    _decode_segment(layout, data, target)
                    index += 1
    return result


def _decode_segment(layout: Layout, data: bytes, target: np.ndarray) -> None:
    """Decode one strip or tile into its place in the result."""
    rows, columns, channels = target.shape
    width, height = layout.segment
    row_bytes = -(-width * channels * layout.bits[0] // 8)
    if layout.reversed_bits:
        data = data.translate(_REVERSED)
    # Tiles have their full size at the edges too, and so may the last strip.
    data = _decompress(layout.compression, data, row_bytes * height)
    if len(data) < row_bytes * rows:
        raise DamagedError("a strip or tile is too short")
    lines = np.frombuffer(data, np.uint8, row_bytes * rows).reshape(rows, row_bytes)
    step = max(1, BAND_PIXELS // (width * channels))
    for top in range(0, rows, step):
        values = _unpack(lines[top : top + step], layout, width * channels).reshape(-1, width, channels)
        if layout.predictor == 2:  # differences from the pixel to the left
            values = np.add.accumulate(values, axis=1, dtype=values.dtype)
        target[top : top + step] = values[:, :columns]


def _decompress(compression: int, data: bytes, size: int) -> bytes:
    """Decompress to at most `size` bytes: a damaged file may expand to any number."""
    if compression == UNCOMPRESSED:
        return data
    if compression in (DEFLATE, ADOBE_DEFLATE):
        return zlib.decompressobj().decompress(data, size)
    decoder = getattr(optional("imagecodecs"), f"{_CODECS[compression]}_decode")
    return decoder(data, out=size)


def _unpack(lines: np.ndarray, layout: Layout, count: int) -> np.ndarray:
    """Turn rows of bytes into rows of `count` numbers."""
    bits = layout.bits[0]
    if bits == 8:
        return lines
    if bits == 16:
        return lines.view("<u2" if layout.little else ">u2").astype(np.uint16)
    if bits == 12:
        return _of_12_bits(lines, count)
    single = np.unpackbits(lines, axis=1)[:, : count * bits].reshape(len(lines), count, bits)
    whole = np.zeros((len(lines), count, 8 if bits <= 8 else 16), np.uint8)
    whole[..., -bits:] = single
    packed = np.packbits(whole, axis=2)
    return packed[..., 0] if bits <= 8 else packed.view(">u2")[..., 0].astype(np.uint16)


def _of_12_bits(lines: np.ndarray, count: int) -> np.ndarray:
    """Unpack two 12-bit numbers, as cameras and scanners write, from every three bytes: much faster than bit by bit."""
    lines = np.pad(lines, ((0, 0), (0, -lines.shape[1] % 3)))
    first, middle, last = (lines[:, at::3].astype(np.uint16) for at in range(3))
    values = np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=2)
    return values.reshape(len(lines), -1)[:, :count]
