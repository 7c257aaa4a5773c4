"""AVIF and JPEG 2000 pictures with more than 8 bits per channel, which Pillow would read at 8."""

import struct
from pathlib import Path

import numpy as np

from ..color_profiles import color_code_notes
from ..optional_packages import optional, read_at_8_bits
from ..samples import scaled

JP2_MAGIC = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_SRGB, _GRAY = 16, 17  # JPEG 2000's numbers of color spaces
_SEARCHED = 1 << 16  # bytes at the beginning of a file, which hold its header


def avif_samples(path: Path, notes: list[str]) -> np.ndarray | None:
    """The samples of an AVIF picture with all their bits, or None if Pillow should read it: 8 bits, or no imagecodecs.

    Notes say what cannot be read, and which colors are not those of sRGB.
    """
    head = _head(path)
    notes.extend(_avif_colors(head))
    at = head.find(b"av1C")
    if at < 0 or len(head) < at + 7 or not head[at + 6] & 0x40:  # high bit depth
        return None
    bits = 12 if head[at + 6] & 0x20 else 10
    codecs = _codecs(bits, notes)
    return None if codecs is None else scaled(codecs.avif_decode(path.read_bytes()), (1 << bits) - 1)


def jpeg2000_samples(path: Path, notes: list[str]) -> np.ndarray | None:
    """The samples of a JPEG 2000 picture with all their bits, or None if Pillow should read it.

    Pillow reads pictures of 8 bits, all if imagecodecs is missing, and those with unusual channels.
    """
    head = _head(path)
    at = head.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(head) < at + 45:
        return None
    (channels,) = struct.unpack(">H", head[at + 40 : at + 42])
    depths = {head[at + 42 + 3 * index] for index in range(channels) if at + 42 + 3 * index < len(head)}
    bits = (max(depths, default=7) & 0x7F) + 1
    if bits <= 8 or len(depths) != 1 or not 1 <= channels <= 4 or max(depths) & 0x80:
        return None
    space = head.find(b"colr\x01", 0, at)
    if space >= 0 and int.from_bytes(head[space + 7 : space + 11], "big") not in (_SRGB, _GRAY):
        notes.append(f"{bits}-bit color that is not RGB, read at 8 bits")
        return None
    codecs = _codecs(bits, notes)
    return None if codecs is None else scaled(codecs.jpeg2k_decode(path.read_bytes()), (1 << min(bits, 16)) - 1)


def _codecs(bits: int, notes: list[str]):
    codecs = optional("imagecodecs")
    if codecs is None:
        notes.append(read_at_8_bits(bits))
    return codecs


def _avif_colors(head: bytes) -> list[str]:
    at = head.find(b"colrnclx")
    if at < 0 or b"colrprof" in head or b"colrrICC" in head or len(head) < at + 12:
        return []
    return color_code_notes(*struct.unpack(">HH", head[at + 8 : at + 12]))


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_SEARCHED)
