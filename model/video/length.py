"""Detect video files that are cut off: compare their length with what their own headers and indexes say."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import av

# The boxes of MP4 and QuickTime at the top level. Anything may follow the last of them.
BOXES = b"ftyp moov mdat free skip wide moof mfra styp sidx uuid udta meta pnot pdin emsg".split()
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
TRANSPORT = ((0, 188), (4, 192))  # offset of the sync byte and length of MPEG-TS packets; the second is M2TS
_OGG_PAGE = 27 + 255 + 255 * 255  # the most bytes of a page


def missing_bytes(path: Path) -> int:
    """The least number of bytes missing at the end of the file; 0 if it is complete, or nothing tells its length."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(4096)
        if start[4:8] in BOXES:
            promised = _mp4(file, size)
        elif start[:4] == b"RIFF":
            promised = _riff(file, size)
        elif start[:4] == _EBML:
            promised = _matroska(start)
        elif start[:16] == _ASF:
            promised = _asf(start)
        elif start[:3] == b"FLV":
            promised = _flv(start)
        elif start[:4] == b"OggS":
            promised = _ogg(file, size)
        else:
            promised = _transport(start, size)
    return max(promised - size, 0)


def promised_packets(stream: av.VideoStream, format: str) -> int:
    """The number of packets of the stream by the file's index or tags, known after reading; 0 if nothing tells it."""
    if format.startswith("mov"):
        return len(stream.index_entries)  # without those that an edit list leaves out
    if format == "avi":
        return sum(entry.size > 0 for entry in stream.index_entries)  # empty ones repeat the frame before
    number = _tag(stream, format, "NUMBER_OF_FRAMES")
    return int(number) if number.isdecimal() else 0


def promised_end(stream: av.VideoStream, format: str) -> float:
    """The end of the stream's last frame by the file's tags, in seconds of its clock; 0 if nothing tells it."""
    try:
        hours, minutes, seconds = _tag(stream, format, "DURATION").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0


def _tag(stream: av.VideoStream, format: str, name: str) -> str:
    """One of Matroska's statistics tags, whose name may end with a language; empty in other formats."""
    tags = (value for key, value in stream.metadata.items() if key.upper().startswith(name))
    return next(tags, "") if format.startswith("matroska") else ""


def _mp4(file: BinaryIO, size: int) -> int:
    """The end of the last box."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(16)
        if len(header) < 8 or header[4:8] not in BOXES:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:  # the length follows, as a 64-bit number
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: to the end of the file
            break
        at += length
    return at


def _riff(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF chunk of an AVI file, which has several above 1 GB."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # the latter two if writing was interrupted
            break
        at += 8 + length
    return at


def _matroska(start: bytes) -> int:
    """The end of the segment, which contains everything."""
    length, width = _number(start, 4)
    at = 4 + width + length
    if start[at : at + 4] != _SEGMENT:
        return 0
    length, width = _number(start, at + 4)
    unknown = (1 << 7 * width) - 1  # as in live streams
    return 0 if length == unknown else at + 4 + width + length


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of EBML and its width in bytes: one more than the first byte has leading zero bits."""
    if at >= len(data) or not data[at]:
        return 0, 1
    width = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), width


def _asf(start: bytes) -> int:
    """The size of the file by its properties; 0 if it was a live stream."""
    at = start.find(_ASF_PROPERTIES)
    if at < 0 or len(start) < at + 92:
        return 0
    live = start[at + 88] & 1
    return 0 if live else int.from_bytes(start[at + 40 : at + 48], "little")


def _flv(start: bytes) -> int:
    """The size of the file by its metadata, if they give it."""
    at = start.find(b"filesize\0")
    if at < 0 or len(start) < at + 17:
        return 0
    size = struct.unpack(">d", start[at + 9 : at + 17])[0]
    return int(size) if 0 < size < 2**53 else 0


def _ogg(file: BinaryIO, size: int) -> int:
    """The end of the last page, plus one byte if that page is not marked as the last."""
    file.seek(max(size - 2 * _OGG_PAGE, 0))
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return size + 1
    end = size - len(page) + 27 + page[26] + sum(page[27 : 27 + page[26]])
    return end if page[5] & 4 or end > size else size + 1


def _transport(start: bytes, size: int) -> int:
    """The end of the last packet, complete or not."""
    for mark, length in TRANSPORT:
        if len(start) > 4 * length and all(start[mark + k * length] == 0x47 for k in range(4)):
            return -(-size // length) * length
    return 0
