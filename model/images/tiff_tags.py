"""Read the tags of a TIFF file: how and where its pixels are stored."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..files import damaged

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
RAW = (32803, 34892)  # a color filter array, and linear raw
CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
UNCOMPRESSED, LZW, JPEG, DEFLATE, ADOBE_DEFLATE, PACKBITS = 1, 5, 7, 32946, 8, 32773
PREDICTED = (LZW, ADOBE_DEFLATE, DEFLATE, 34925, 50000)  # compressions that may be combined with a predictor
FAX = (2, 3, 4)
ASSOCIATED, UNASSOCIATED = 1, 2
_DNG_VERSION, _SUB_DIRECTORIES, _PHOTOMETRIC = 50706, 330, 262
_REDUCED, _MASK = 1, 4
_MOST_PAGES = 1000
_MOST_VALUES = 1 << 24
# Size in bytes and struct's letter for each supported type: unsigned and signed integers, fractions, bytes, text.
_TYPES = {1: (1, "B"), 2: (1, "s"), 3: (2, "H"), 4: (4, "I"), 5: (8, "II"), 6: (1, "b"), 7: (1, "s"), 8: (2, "h")}
_TYPES |= {9: (4, "i"), 13: (4, "I"), 16: (8, "Q"), 17: (8, "q"), 18: (8, "Q")}


class DamagedError(ValueError):
    """A directory, strip or tile is missing or too short."""


@dataclass(frozen=True)
class Layout:
    """How the first full picture of a file is stored, in TIFF's own numbers."""

    width: int
    height: int
    bits: tuple[int, ...]
    samples: int
    photometric: int | None
    planar: bool
    compression: int
    predictor: int
    reversed_bits: bool
    sample_formats: tuple[int, ...]
    extra: tuple[int, ...]  # the meaning of each channel beyond the colors; 0: unknown
    tiled: bool
    segment: tuple[int, int]  # width and height of a strip or tile
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    little: bool
    big: bool  # BigTIFF, with 64-bit addresses
    ink_set: int
    colors: tuple[int, ...]  # the palette
    orientation: int  # 0 if the tags do not say
    page: int
    pages: int
    is_raw: bool
    address: int  # where its directory is
    profile: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None

    @property
    def alpha(self) -> int | None:
        """The index of the channel that is transparency, if there is one."""
        found = [index for index, kind in enumerate(self.extra) if kind in (ASSOCIATED, UNASSOCIATED)]
        return self.samples - len(self.extra) + found[0] if found else None

    @property
    def associated(self) -> bool:
        """Whether the colors were multiplied by transparency."""
        return next((kind for kind in self.extra if kind in (ASSOCIATED, UNASSOCIATED)), None) == ASSOCIATED


def read_tags(path: str | Path, file: BinaryIO) -> Layout:
    """The layout of the first page that is not a thumbnail or mask.

    Raises:
        ImageError: there is no page.
        Exception: anything, if the tags are damaged.
    """
    pages, is_raw = _pages(file)
    if not pages:
        raise damaged(path, "a TIFF without a picture")
    full = [index for index, page in enumerate(pages) if not page.integer(254, 0) & (_REDUCED | _MASK)]
    index = full[0] if full else 0
    is_raw = is_raw or _DNG_VERSION in pages[0].entries or pages[index].integer(_PHOTOMETRIC, 0) in RAW
    return _layout(pages[index], index, len(pages), is_raw)


class _Directory:
    """The tags at one address of a file; their values are read on demand."""

    def __init__(self, file: BinaryIO, address: int, little: bool, big: bool) -> None:
        self._file, self._order, self.address = file, "<" if little else ">", address
        self.little, self.big = little, big
        self._word, word, head, entry = ("Q", 8, 8, 20) if big else ("I", 4, 2, 12)
        file.seek(address)
        (count,) = self._numbers(file.read(head), "Q" if big else "H")
        data = file.read(count * entry if count < 1 << 16 else 0)
        if not count or len(data) < count * entry:
            raise DamagedError("its directory lies beyond the end of the file")
        following = file.read(word)
        self.next = self._numbers(following, self._word)[0] if len(following) == word else 0
        self.entries: dict[int, tuple[int, int, bytes]] = {}
        for tag, kind, number, inline in struct.iter_unpack(f"{self._order}HH{self._word}{word}s", data):
            self.entries.setdefault(tag, (kind, number, inline))

    def integers(self, tag: int) -> tuple[int, ...]:
        """The integers of a tag; none if it is missing."""
        kind, data = self._data(tag)
        if kind in (2, 5, 7, None):
            return ()
        size, letter = _TYPES[kind]
        return self._numbers(data, f"{len(data) // size}{letter}")

    def integer(self, tag: int, default: int) -> int:
        """The first integer of a tag."""
        values = self.integers(tag)
        return values[0] if values else default

    def content(self, tag: int) -> bytes | None:
        """The bytes of a tag."""
        return self._data(tag)[1] or None

    def fraction(self, tag: int) -> float | None:
        """The first fraction of a tag."""
        kind, data = self._data(tag)
        if kind != 5 or len(data) < 8:
            return None
        top, bottom = self._numbers(data[:8], "II")
        return top / bottom if bottom else None

    def _data(self, tag: int) -> tuple[int | None, bytes]:
        kind, count, inline = self.entries.get(tag, (None, 0, b""))
        if kind not in _TYPES:
            return None, b""
        size = _TYPES[kind][0] * count
        if count > _MOST_VALUES:
            raise DamagedError(f"tag {tag} with {count} values")
        if size <= len(inline):
            return kind, inline[:size]
        self._file.seek(self._numbers(inline, self._word)[0])
        data = self._file.read(size)
        if len(data) < size:
            raise DamagedError(f"tag {tag} lies beyond the end of the file")
        return kind, data

    def _numbers(self, data: bytes, letters: str) -> tuple[int, ...]:
        return struct.unpack(self._order + letters, data)


def _pages(file: BinaryIO) -> tuple[list[_Directory], bool]:
    """The directories of a file in their order, and whether a directory inside one of them holds raw data."""
    file.seek(0)
    header = file.read(16)
    little, big = header[:1] == b"I", b"+" in header[2:4]
    following = int.from_bytes(header[8:16] if big else header[4:8], "little" if little else "big")
    pages: list[_Directory] = []
    seen: set[int] = set()
    is_raw = False
    while following and following not in seen and len(pages) < _MOST_PAGES:
        seen.add(following)
        try:
            directory = _Directory(file, following, little, big)
        except (DamagedError, struct.error):
            if not pages:
                raise
            break  # the pages before it can still be read
        following = directory.next
        if 256 in directory.entries and 257 in directory.entries:
            pages.append(directory)
        for below in directory.integers(_SUB_DIRECTORIES)[:8]:
            is_raw = is_raw or _Directory(file, below, little, big).integer(_PHOTOMETRIC, 0) in RAW
    return pages, is_raw


def _layout(directory: _Directory, page: int, pages: int, is_raw: bool) -> Layout:
    integer, integers = directory.integer, directory.integers
    width, height, samples = integer(256, 0), integer(257, 0), integer(277, 1)
    photometric = integer(_PHOTOMETRIC, -1)
    tiled = 322 in directory.entries
    bits = integers(258) or (1,)
    compression = integer(259, 1)
    if photometric < 0 and compression in FAX:
        photometric = WHITE_IS_ZERO
    beyond = min(16, max(0, samples - CHANNELS.get(photometric, samples)))
    return Layout(
        width=width,
        height=height,
        bits=bits * samples if len(bits) == 1 and samples <= 16 else bits,
        samples=samples,
        photometric=photometric if photometric >= 0 else None,
        planar=integer(284, 1) == 2 and samples > 1,
        compression=compression,
        predictor=integer(317, 1),
        reversed_bits=integer(266, 1) == 2,
        sample_formats=integers(339) or (1,),
        extra=(integers(338) + (0,) * beyond)[:beyond],
        tiled=tiled,
        segment=(integer(322, 0), integer(323, 0)) if tiled else (width, max(1, min(integer(278, height), height))),
        offsets=integers(324 if tiled else 273),
        counts=integers(325 if tiled else 279),
        little=directory.little,
        big=directory.big,
        ink_set=integer(332, 1),
        colors=integers(320),
        orientation=integer(274, 0),
        page=page,
        pages=pages,
        is_raw=is_raw,
        address=directory.address,
        profile=directory.content(34675),
        xmp=directory.content(700),
        dpi=_resolution(directory),
    )


def _resolution(directory: _Directory) -> tuple[float, float] | None:
    """The resolution in dots per inch, which is the unit if none is given."""
    inches = {2: 1.0, 3: 2.54}.get(directory.integer(296, 2))
    x, y = directory.fraction(282), directory.fraction(283)
    return (x * inches, y * inches) if x and y and inches else None
