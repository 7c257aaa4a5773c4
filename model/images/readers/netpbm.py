"""PBM, PGM, PPM and PAM pictures with any maximum value, plain and binary."""

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ...files import ImageError, damaged
from ..picture import Picture
from ..samples import check_pixels, picture_of, scaled

_COMMENT = re.compile(rb"#[^\r\n]*")
_PAM = {"BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3}
_PAM |= {f"{name}_ALPHA": channels + 1 for name, channels in _PAM.items()}
_LONGEST_HEADER = 1 << 16


class Header(NamedTuple):
    """The header of a file."""

    kind: int  # the digit after P
    width: int
    height: int
    channels: int
    maximum: int
    alpha: bool


def is_netpbm(head: bytes) -> bool:
    """Whether a file that begins with `head` has one of these formats."""
    return len(head) > 2 and head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in b" \t\r\n#"


def netpbm_size(path: str | Path) -> tuple[int, int]:
    """Width and height. Raises ImageError."""
    with open(path, "rb") as file:
        header = _header(path, file)
    return header.width, header.height


def read_netpbm(path: Path) -> Picture:
    """The first picture of a PBM, PGM, PPM or PAM file.

    Raises:
        ImageError: the file is truncated, damaged or too large, or of a kind that PAM does not define.
    """
    notes = []
    with open(path, "rb") as file:
        header = _header(path, file)
        check_pixels(path, header.width, header.height)
        if header.kind in (1, 2, 3):
            samples = _plain(path, header, file.read())
        else:
            samples = _binary(path, header, file)
            if is_netpbm(file.read(3)):
                notes.append("several pictures in one file, of which the first is read")
    if header.maximum != (65535 if samples.dtype == np.uint16 else 255) and samples.max() > header.maximum:
        raise damaged(path, f"values above its maximum of {header.maximum}")
    if header.kind in (1, 4):  # 1 is black
        samples = 1 - samples
    return picture_of(scaled(samples, header.maximum), header.alpha, notes=notes)


def _header(path: str | Path, file: BinaryIO) -> Header:
    """Read the header, up to the first byte after it."""
    kind = int(file.read(2)[1:])
    if kind == 7:
        header = _pam_header(path, file)
    else:
        numbers = [_number(path, file) for _ in range(2 if kind in (1, 4) else 3)]
        channels = 3 if kind in (3, 6) else 1
        header = Header(kind, numbers[0], numbers[1], channels, numbers[2] if len(numbers) > 2 else 1, False)
    if not 1 <= header.maximum <= 65535:
        raise damaged(path, f"a maximum of {header.maximum}")
    return header


def _number(path: str | Path, file: BinaryIO) -> int:
    """Read the next number of a header, and one space after it."""
    digits = b""
    for _ in range(_LONGEST_HEADER):
        one = file.read(1)
        if one == b"#":
            file.readline(_LONGEST_HEADER)
            one = b"\n"
        if one.isdigit() and len(digits) < 10:
            digits += one
        elif one.isspace() and digits:
            return int(digits)
        elif not one.isspace():
            break
    raise damaged(path, "its header")


def _pam_header(path: str | Path, file: BinaryIO) -> Header:
    fields: dict[str, str] = {}
    for _ in range(1000):
        line = file.readline(1000).decode("ascii", "replace").split("#")[0].split()
        if line == ["ENDHDR"]:
            break
        if len(line) >= 2:
            fields[line[0]] = " ".join(line[1:])
    try:
        width, height, depth, maximum = (int(fields[name]) for name in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL"))
    except (KeyError, ValueError):
        raise damaged(path, "its header") from None
    kind = fields.get("TUPLTYPE", {1: "GRAYSCALE", 3: "RGB"}.get(depth, ""))
    if _PAM.get(kind) != depth:
        raise ImageError(
            f"{path}: a PAM file of {depth} channels of kind {kind or 'unknown'!r}, which is not supported; "
            "save it as RGB, GRAYSCALE, or one of these with _ALPHA"
        )
    return Header(7, width, height, depth, maximum, kind.endswith("_ALPHA"))


def _binary(path: Path, header: Header, file: BinaryIO) -> np.ndarray:
    shape = (header.height, header.width, header.channels)
    if header.kind == 4:
        row = (header.width + 7) // 8
        packed = _read(path, file, row * header.height).reshape(header.height, row)
        return np.unpackbits(packed, axis=1)[:, : header.width, None]
    if header.maximum <= 255:
        return _read(path, file, int(np.prod(shape, dtype=np.int64))).reshape(shape)
    data = _read(path, file, 2 * int(np.prod(shape, dtype=np.int64)))
    samples = data.view(np.uint16).reshape(shape)
    return samples if np.dtype(">u2") == samples.dtype else samples.byteswap(inplace=True)


def _read(path: Path, file: BinaryIO, count: int) -> np.ndarray:
    """Read `count` bytes; that the file has them all is checked before memory is allocated."""
    if count > path.stat().st_size - file.tell():
        raise damaged(path, "it ends too early")
    return np.fromfile(file, np.uint8, count)


def _plain(path: Path, header: Header, text: bytes) -> np.ndarray:
    """The samples of a plain file, numbers as text; those of PBM are digits that need no space in between."""
    count = header.width * header.height * header.channels
    text = _COMMENT.sub(b" ", text)
    if header.kind == 1:
        digits = np.frombuffer(text, np.uint8)
        values = digits[(digits == ord("0")) | (digits == ord("1"))] - ord("0")
    else:
        if len(text) < 2 * count - 1:
            raise damaged(path, "it ends too early")
        # It stops at what is not a number, with a warning (later versions: an error), and gives fewer values.
        values = np.fromstring(text.decode("latin-1"), np.int64, count, sep=" ")
    if len(values) < count:
        raise damaged(path, "it ends too early")
    values = values[:count]
    if count and not 0 <= values.min() <= values.max() <= header.maximum:
        raise damaged(path, f"values above its maximum of {header.maximum}")
    dtype = np.uint8 if header.maximum <= 255 else np.uint16
    return values.astype(dtype).reshape(header.height, header.width, header.channels)
