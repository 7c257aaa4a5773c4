"""Detect damage in the middle of a video file that FFmpeg's demultiplexer skips without an error."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .length import BOXES, TRANSPORT

_START = b"\x00\x00\x01"
_PACK, _END, _STREAMS = 0xBA, 0xB9, 0xBB  # start codes of MPEG-PS; from the last on, a length follows
_MOOF = b"moof\x00\x00\x00\x10mfhd"  # how each fragment of MP4 begins, after its length
_PIECE = 1 << 20  # bytes


def is_broken(path: Path, format: str, pid: int) -> bool:
    """Whether packets of an MPEG-TS or MPEG-PS file are overwritten.

    Args:
        path: the file.
        format: FFmpeg's name of its format.
        pid: the packet identifier of the video in MPEG-TS.
    """
    with open(path, "rb") as file:
        if format == "mpeg":
            return _program(file, os.path.getsize(path))
        start = file.read(4096)
        for mark, length in TRANSPORT:
            if len(start) > 4 * length and all(start[mark + k * length] == 0x47 for k in range(4)):
                return _transport(file, mark, length, pid)
    return False


def broken_fragment(path: Path) -> int:
    """The byte at which an MP4 file is damaged, if a fragment follows; 0 if there is no such damage."""
    size, at = os.path.getsize(path), 0
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(24)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if kind == b"moof" and at + length <= size:
                file.seek(at + 8)
                if not _is_fragment(file.read(length - 8)):
                    return at
            elif kind not in BOXES and not (length >= 8 and _is_box(file, at + length, size)):
                return at if _has_fragment(file, at) else 0
            if length < 8:  # 0: to the end of the file
                break
            at += length
    return 0


def _transport(file: BinaryIO, mark: int, length: int, pid: int) -> bool:
    """Whether a packet has no sync byte, or one that should begin a picture does not."""
    file.seek(0)
    while data := file.read(length * (_PIECE // length)):
        packets = np.frombuffer(data[: len(data) // length * length], np.uint8).reshape(-1, length)[:, mark:]
        if (packets[:, 0] != 0x47).any():
            return True
        numbers = (packets[:, 1] & 0x1F).astype(int) * 256 + packets[:, 2]
        clear = (packets[:, 3] & 0xD0) == 0x10  # not scrambled, and with a payload
        for packet in packets[(numbers == pid) & (packets[:, 1] & 0x40 > 0) & clear]:
            at = 4 + (1 + int(packet[4]) if packet[3] & 0x20 else 0)
            if bytes(packet[at : at + 3]) != _START:
                return True
    return False


def _program(file: BinaryIO, size: int) -> bool:
    """Whether a packet does not begin where the one before ends."""
    at = 0
    while at < size - 14:
        file.seek(at)
        data = file.read(64)
        zeros = max(len(data) - len(data.lstrip(b"\0")) - 2, 0)  # there may be a few in between
        at, header = at + zeros, data[zeros:].ljust(14, b"\0")
        if at >= size - 14:
            break
        if header[:3] != _START or (header[3] < _STREAMS and header[3] not in (_PACK, _END)):
            return True
        if header[3] == _PACK:  # in MPEG-2, or in MPEG-1
            at += 14 + (header[13] & 7) if header[4] >> 6 == 1 else 12
        else:
            at += 4 if header[3] == _END else 6 + int.from_bytes(header[4:6], "big")
    return False


def _is_fragment(data: bytes, needed: bytes = b"mfhd") -> bool:
    """Whether the data is a sequence of boxes up to its end, the needed one among them."""
    at, kinds = 0, set()
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length < 8 or (kind == b"traf" and not _is_fragment(data[at + 8 : at + length], b"tfhd")):
            return False
        kinds.add(kind)
        at += length
    return at == len(data) and needed in kinds


def _is_box(file: BinaryIO, at: int, size: int) -> bool:
    """Whether a known box begins at this byte, or the file ends."""
    file.seek(min(at, size))
    return at == size or file.read(8)[4:] in BOXES


def _has_fragment(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    before = b""
    while data := file.read(_PIECE):
        if _MOOF in before + data:
            return True
        before = data[1 - len(_MOOF) :]
    return False
