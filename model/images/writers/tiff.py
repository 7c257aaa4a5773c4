"""TIFF files with 8 or 16 bits per channel and all metadata; not compressed."""

import struct
from collections.abc import Iterable
from fractions import Fraction
from typing import BinaryIO, Literal, NamedTuple, TypeAlias

import numpy as np

from ..exif_tags import EXIF, GPS, IN_TIFF_RESULT, INTEROPERABILITY, RESOLUTION
from ..picture import Metadata
from .metadata import exif_directories

_SHORT, _LONG, _RATIONAL, _UNDEFINED, _BYTE = 3, 4, 5, 7, 1
# Bytes of one value, by its type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
# The directories inside the first one of EXIF data, and inside those.
_Within: TypeAlias = "dict[int, _Within]"
_WITHIN: _Within = {EXIF: {INTEROPERABILITY: {}}, GPS: {}}


class _Entry(NamedTuple):
    """An entry of a directory; `data` is in the file's byte order, or the entries of an inner directory."""

    tag: int
    kind: int
    data: "bytes | list[_Entry]"


def write_tiff(
    file: BinaryIO, bands: Iterable[np.ndarray], shape: tuple[int, int, int], bits: int, metadata: Metadata
) -> None:
    """Write a picture; at 8 bits and without metadata the bytes are the same as those that Pillow writes.

    Args:
        bands: the picture from its top, uint8 or uint16 `(rows, W, C)`, C from 1 to 4: gray, gray and alpha, RGB, RGB
            and alpha.
        shape: `(H, W, C)` of the whole picture.

    Raises:
        ValueError: the file would exceed the 4 GB that 32-bit offsets reach.
    """
    # The byte order of the EXIF data, so that no value has to be swapped, not even those of unknown meaning.
    order, entries = _exif_entries(metadata.exif or b"")
    entries += _metadata_entries(metadata)
    if metadata.dpi:
        entries = [entry for entry in entries if entry.tag not in RESOLUTION] + _resolution(metadata.dpi, order)
    size = shape[0] * shape[1] * shape[2] * bits // 8
    start = len(_directory(entries + _layout(shape, bits, 0, 0, order), order, 8)) + 8
    if start + size >= 1 << 32:
        raise ValueError(f"{size:,} bytes; the limit is 4 GB")
    file.write((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8))
    file.write(_directory(entries + _layout(shape, bits, start, size, order), order, 8))
    for band in bands:
        file.write(np.ascontiguousarray(band, dtype=band.dtype.newbyteorder(order)).data)


def _layout(shape: tuple[int, int, int], bits: int, start: int, size: int, order: str) -> list[_Entry]:
    """The entries that say how the pixels are stored: one strip, not compressed, colors not multiplied by alpha."""

    def numbers(tag: int, kind: int, *values: int) -> _Entry:
        return _Entry(tag, kind, struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values))

    height, width, channels = shape
    entries = [numbers(256, _LONG, width), numbers(257, _LONG, height), numbers(258, _SHORT, *[bits] * channels)]
    entries += [numbers(259, _SHORT, 1), numbers(262, _SHORT, 1 if channels < 3 else 2), numbers(273, _LONG, start)]
    entries += [numbers(277, _SHORT, channels)] if channels > 1 else []
    entries += [numbers(278, _LONG, height), numbers(279, _LONG, size), numbers(284, _SHORT, 1)]
    return entries + ([numbers(338, _SHORT, 2)] if channels in (2, 4) else [])


def _metadata_entries(metadata: Metadata) -> list[_Entry]:
    entries = [_Entry(700, _BYTE, metadata.xmp)] if metadata.xmp else []
    return entries + ([_Entry(34675, _UNDEFINED, metadata.icc_profile)] if metadata.icc_profile else [])


def _resolution(dpi: tuple[float, float], order: str) -> list[_Entry]:
    pairs = [Fraction(value).limit_denominator(10000) for value in dpi]
    across, down = (struct.pack(f"{order}II", pair.numerator, pair.denominator) for pair in pairs)
    inches = struct.pack(f"{order}H", 2)
    return [_Entry(282, _RATIONAL, across), _Entry(283, _RATIONAL, down), _Entry(296, _SHORT, inches)]


def _directory(entries: list[_Entry], order: str, start: int) -> bytes:
    """A directory that begins at byte `start` of the file, followed by its values of more than four bytes."""
    table, behind = [], b""
    start += 2 + 12 * len(entries) + 4
    for tag, kind, data in sorted(entries, key=lambda entry: entry.tag):
        count, value = (1, b"") if isinstance(data, list) else (len(data) // _SIZES[kind], data)
        if isinstance(data, list) or len(data) > 4:
            value = struct.pack(order + "I", start + len(behind))
            behind += _directory(data, order, start + len(behind)) if isinstance(data, list) else data
            behind += b"\0" * (len(behind) % 2)
        table.append(struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0"))
    return struct.pack(order + "H", len(entries)) + b"".join(table) + b"\0\0\0\0" + behind


def _exif_entries(exif: bytes) -> tuple[Literal["<", ">"], list[_Entry]]:
    """The byte order of EXIF data, and the entries of its first directory to keep, without damaged ones."""
    data = exif_directories(exif)
    order: Literal["<", ">"] = ">" if data[:4] == b"MM\0*" else "<"
    if data[:4] not in (b"II*\0", b"MM\0*") or len(data) < 8:
        return order, []
    (start,) = struct.unpack_from(order + "I", data, 4)
    return order, [entry for entry in _read(data, order, start, _WITHIN) if entry.tag in IN_TIFF_RESULT]


def _read(data: bytes, order: str, start: int, within: _Within) -> list[_Entry]:
    """The entries of a directory, each tag once, without those that lie outside the data."""
    entries: dict[int, _Entry] = {}
    room = len(data)  # a limit for all values together, so that repeated references cannot multiply the data
    (count,) = struct.unpack_from(order + "H", data, start) if start + 2 <= len(data) else (0,)
    for place in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, place)
        size = _SIZES.get(kind, 0) * number
        (offset,) = struct.unpack_from(order + "I", data, place + 8)
        first = place + 8 if size <= 4 else offset
        if tag in entries:
            continue
        if tag in within:
            if inner := _read(data, order, offset, within[tag]):
                entries[tag] = _Entry(tag, _LONG, inner)
        elif 0 < size <= room and first + size <= len(data):
            entries[tag] = _Entry(tag, kind, data[first : first + size])
            room -= size
    return list(entries.values())
