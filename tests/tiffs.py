"""A writer of TIFF files of packed numbers, compressed: a kind that tifffile does not write."""

import lzma
import struct
import zlib

import imagecodecs
import numpy as np

NUMBERS = {None: 1, "lzw": 5, "deflate": 8, "packbits": 32773, "zstd": 50000, "lzma": 34925}
PHOTOMETRIC = {"miniswhite": 0, "minisblack": 1, "rgb": 2, "palette": 3, "separated": 5}
EXTRA = {"unspecified": 0, "assocalpha": 1, "unassalpha": 2}


def compressed(data: bytes, compression: str | None) -> bytes:
    if compression is None:
        return data
    if compression in ("deflate", "lzma"):
        return zlib.compress(data) if compression == "deflate" else lzma.compress(data)
    return getattr(imagecodecs, f"{compression}_encode")(data)


def packed(values: np.ndarray, bits: int, order: str) -> bytes:
    """Rows (H, n) of numbers, each row in whole bytes."""
    if bits == 16:
        return values.astype(f"{order}u2").tobytes()
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values.tolist()]
    rows = [row + "0" * (-len(row) % 8) for row in rows]
    return b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)


def pieces(values: np.ndarray, rows: int | None, tile: tuple[int, int] | None) -> list[np.ndarray]:
    """Strips, or tiles filled up at the edges."""
    height, width = values.shape[:2]
    if tile is None:
        return [values[top : top + (rows or height)] for top in range(0, height, rows or height)]
    filled = np.pad(values, ((0, -height % tile[0]), (0, -width % tile[1]), (0, 0)))
    return [
        filled[top : top + tile[0], left : left + tile[1]]
        for top in range(0, height, tile[0])
        for left in range(0, width, tile[1])
    ]


def tiff(
    values: np.ndarray,
    bits: int,
    photometric: str,
    planar: str = "contig",
    extra: str | None = None,
    predictor: bool = False,
    order: str = "<",
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    compression: str | None = None,
    colors: list[int] | None = None,
) -> bytes:
    """The file of values (H, W, channels), with `colors` of a palette."""
    channels = values.shape[2]
    planes = [values[..., one : one + 1] for one in range(channels)] if planar == "separate" else [values]
    parts = [piece for plane in planes for piece in pieces(plane, rows, tile)]
    if predictor:
        parts = [np.diff(part, axis=1, prepend=part[:, :1] * 0) & ((1 << bits) - 1) for part in parts]
    data = [compressed(packed(part.reshape(len(part), -1), bits, order), compression) for part in parts]
    tags = {256: [values.shape[1]], 257: [values.shape[0]], 258: [bits] * channels, 259: [NUMBERS[compression]]}
    tags |= {262: [PHOTOMETRIC[photometric]], 277: [channels], 284: [2 if planar == "separate" else 1]}
    tags |= {317: [2]} if predictor else {}
    tags |= {338: [EXTRA[extra]]} if extra else {}
    tags |= {322: [tile[1]], 323: [tile[0]]} if tile else {278: [rows or values.shape[0]]}
    tags |= {320: colors} if colors else {}
    places, sizes = (324, 325) if tile else (273, 279)
    tags |= {places: [0] * len(data), sizes: [len(one) for one in data]}
    at = (
        8
        + 2
        + 12 * len(tags)
        + 4
        + sum((2 if tag == 320 else 4) * len(one) for tag, one in tags.items() if len(one) > 1)
    )
    tags[places] = [at + sum(map(len, data[:index])) for index in range(len(data))]
    entries, more = b"", b""
    for tag, numbers in sorted(tags.items()):
        letter = "H" if tag == 320 else "I"
        content = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(content) > 4:
            content, more = struct.pack(f"{order}I", 8 + 2 + 12 * len(tags) + 4 + len(more)), more + content
        entries += struct.pack(f"{order}HHI", tag, 3 if letter == "H" else 4, len(numbers)) + content
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + more + b"".join(data)
