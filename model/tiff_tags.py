"""What the tags of a TIFF file say of its pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .picture import ImageError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
RAW = (32803, 34892)  # a mosaic of colors, and a camera's linear colors
CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
UNCOMPRESSED, LZW, JPEG, DEFLATE, ADOBE_DEFLATE, PACKBITS = 1, 5, 7, 32946, 8, 32773
FAX = (2, 3, 4)
ASSOCIATED, UNASSOCIATED = 1, 2
_DNG_VERSION, _SUB_DIRECTORIES, _PHOTOMETRIC = 50706, 330, 262
_REDUCED, _MASK = 1, 4
_MOST_PAGES = 1000


@dataclass(frozen=True)
class Layout:
    """How the first full picture of a file is stored; TIFF's own numbers."""

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
    extra: tuple[int, ...]  # of each channel beyond the colors; 0: unknown
    tiled: bool
    segment: tuple[int, int]  # width and height of a strip or tile
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    little: bool
    big: bool  # BigTIFF, with addresses of 64 bits
    ink_set: int
    colors: tuple[int, ...]  # of the palette
    orientation: int
    page: int
    pages: int
    is_raw: bool
    address: int  # of its directory
    profile: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None

    @property
    def alpha(self) -> int | None:
        """The channel that is transparency."""
        found = [index for index, kind in enumerate(self.extra) if kind in (ASSOCIATED, UNASSOCIATED)]
        return self.samples - len(self.extra) + found[0] if found else None

    @property
    def associated(self) -> bool:
        """Whether the colors were multiplied with transparency."""
        return next((kind for kind in self.extra if kind in (ASSOCIATED, UNASSOCIATED)), None) == ASSOCIATED


def read_tags(path: str | Path, file: BinaryIO) -> Layout:
    """The layout of the first page that is no thumbnail.

    Raises:
        ImageError: there is no page.
        Exception: anything, where the tags are damaged.
    """
    pages, is_raw = _pages(file)
    if not pages:
        raise ImageError(f"{path}: truncated or damaged (a TIFF without a picture); replace it with a whole copy")
    full = [index for index, page in enumerate(pages) if not _integer(page[1], 254, 0) & (_REDUCED | _MASK)]
    index = full[0] if full else 0
    address, tags = pages[index]
    is_raw = is_raw or _DNG_VERSION in pages[0][1] or _integer(tags, _PHOTOMETRIC, 0) in RAW
    return _layout(address, tags, index, len(pages), is_raw)


def _pages(file: BinaryIO) -> tuple[list[tuple[int, ImageFileDirectory_v2]], bool]:
    """The directories of a file, one after another, and whether one of their own holds a camera's raw data."""
    file.seek(0)
    header = file.read(8)
    if header[2:4] in (b"\x2b\0", b"\0\x2b"):
        header += file.read(8)
    tags = ImageFileDirectory_v2(header)
    pages, seen, is_raw = [], set(), False
    while tags.next and tags.next not in seen and len(pages) < _MOST_PAGES:
        address = tags.next
        seen.add(address)
        file.seek(address)
        tags = _directory(file, header, address)
        if 256 in tags and 257 in tags:
            pages.append((address, tags))
        for below in _integers(tags, _SUB_DIRECTORIES)[:8]:
            is_raw = is_raw or _integer(_directory(file, header, below), _PHOTOMETRIC, 0) in RAW
    return pages, is_raw


def _directory(file: BinaryIO, header: bytes, address: int) -> ImageFileDirectory_v2:
    tags = ImageFileDirectory_v2(header)
    file.seek(address)
    tags.load(file)
    return tags


def _layout(address: int, tags: ImageFileDirectory_v2, page: int, pages: int, is_raw: bool) -> Layout:
    width, height = _integer(tags, 256, 0), _integer(tags, 257, 0)
    samples = _integer(tags, 277, 1)
    photometric = _integer(tags, _PHOTOMETRIC, -1)
    tiled = 322 in tags
    segment = (_integer(tags, 322, 0), _integer(tags, 323, 0))
    bits = _integers(tags, 258) or (1,)
    compression = _integer(tags, 259, 1)
    if photometric < 0 and compression in FAX:
        photometric = WHITE_IS_ZERO
    beyond = max(0, samples - CHANNELS.get(photometric, samples))
    return Layout(
        width=width,
        height=height,
        bits=bits * samples if len(bits) == 1 and samples <= 16 else bits,
        samples=samples,
        photometric=photometric if photometric >= 0 else None,
        planar=_integer(tags, 284, 1) == 2 and samples > 1,
        compression=compression,
        predictor=_integer(tags, 317, 1),
        reversed_bits=_integer(tags, 266, 1) == 2,
        sample_formats=_integers(tags, 339) or (1,),
        extra=(_integers(tags, 338) + (0,) * min(beyond, 16))[: min(beyond, 16)],
        tiled=tiled,
        segment=segment if tiled else (width, max(1, min(_integer(tags, 278, height), height))),
        offsets=_integers(tags, 324 if tiled else 273),
        counts=_integers(tags, 325 if tiled else 279),
        little=tags._endian == "<",
        big=tags._bigtiff,
        ink_set=_integer(tags, 332, 1),
        colors=_integers(tags, 320),
        orientation=_integer(tags, 274, 1),
        page=page,
        pages=pages,
        is_raw=is_raw,
        address=address,
        profile=_bytes(tags, 34675),
        xmp=_bytes(tags, 700),
        dpi=_resolution(tags),
    )


def _integers(tags: ImageFileDirectory_v2, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    values = value if isinstance(value, tuple) else (value,)
    return tuple(int(one) for one in values)


def _integer(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    values = _integers(tags, tag)
    return values[0] if values else default


def _bytes(tags: ImageFileDirectory_v2, tag: int) -> bytes | None:
    value = tags.get(tag)
    if isinstance(value, tuple):
        value = bytes(one & 255 for one in value)
    return value if isinstance(value, bytes) and value else None


def _resolution(tags: ImageFileDirectory_v2) -> tuple[float, float] | None:
    """In dots per inch, which are the unit where none is named."""
    inches = {2: 1.0, 3: 2.54}.get(_integer(tags, 296, 2))
    try:
        return (float(tags[282]) * inches, float(tags[283]) * inches)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
