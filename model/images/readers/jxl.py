"""JPEG XL pictures: the header is parsed here, for size and bits; pillow-jxl-plugin or imagecodecs reads the pixels."""

from pathlib import Path

import numpy as np

from ...files import ImageError
from ..color_profiles import fitting_profile
from ..exif import metadata_of, parse_exif
from ..optional_packages import need, optional, read_at_8_bits
from ..picture import Picture
from ..samples import check_pixels, picture_of

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_HEADER = 64  # bytes at the start of the codestream, more than size and depth ever take


class _Bits:
    """Reads numbers from bits, the lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header ends too early")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value

    def one_of(self, *widths: int, plus: int = 0) -> int:
        """A number whose width is selected by the two bits before it."""
        return self.take(widths[self.take(2)]) + plus


def is_jxl(head: bytes) -> bool:
    """Whether a file that begins with `head` is a JPEG XL picture."""
    return head.startswith((_CODESTREAM, _CONTAINER))


def jxl_header(path: str | Path) -> tuple[int, int, int | None]:
    """Width, height and bits per channel; None bits for floating point.

    Raises:
        ValueError: the header is damaged.
    """
    bits = _Bits(_codestream(path)[2:])
    small = bits.take(1)

    def side() -> int:
        return (bits.take(5) + 1) * 8 if small else bits.one_of(9, 13, 18, 30, plus=1)

    height = side()
    ratio = bits.take(3)
    width = side() if not ratio else height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1]
    return width, height, _depth(bits)


def read_jxl(path: Path) -> Picture:
    """The first frame of a JPEG XL picture; libjxl turns it upright.

    Raises:
        ImageError: pillow-jxl-plugin is missing, or the picture is too large or has an unknown range.
        Exception: anything, if the file is damaged.
    """
    width, height, depth = jxl_header(path)
    check_pixels(path, width, height)
    if depth is None or depth > 16:
        raise ImageError(f"{path}: a JPEG XL picture of more than 16 bits, whose range is not known; save it with 16")
    plugin = need(path, "a JPEG XL picture", "pillow_jxl", "pillow-jxl-plugin")
    notes: list[str] = []
    data = path.read_bytes()
    _, info, decoded, profile, boxes = plugin.Decoder(num_threads=1)(data)
    samples = _samples(data, decoded, info, depth, notes)
    del decoded
    if samples.dtype not in (np.uint8, np.uint16) or samples.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{path}: a JPEG XL picture of an unsupported kind; save it as PNG")
    channels = samples.shape[2]
    found = {bytes(box.box_type): bytes(box.data) for box in boxes}
    exif = parse_exif(_without_offset(found.get(b"Exif", b"")), notes)
    profile = fitting_profile(bytes(profile) if profile else None, channels < 3, notes)
    size = (samples.shape[1], samples.shape[0])
    metadata = metadata_of(profile, exif, found.get(b"xml "), None, size, notes)
    return picture_of(samples, channels in (2, 4), metadata=metadata, notes=notes)


def _samples(data: bytes, decoded: bytes, info, depth: int, notes: list[str]) -> np.ndarray:
    """The samples (H, W, channels); above 8 bits by imagecodecs, as pillow-jxl-plugin gives only 8 of colors."""
    codecs = optional("imagecodecs") if depth > 8 else None
    if codecs is not None:
        samples = codecs.jpegxl_decode(data, numthreads=1)
        return samples if samples.ndim == 3 and samples.shape[2] <= 4 else samples[..., None]
    if depth > 8 and info.mode != "I;16":
        notes.append(read_at_8_bits(depth))
    dtype = np.uint16 if info.mode == "I;16" else np.uint8
    return np.frombuffer(decoded, dtype).reshape(info.height, info.width, -1)


def _without_offset(box: bytes) -> bytes | None:
    """The EXIF data in its box, after an offset, which pillow-jxl-plugin does not write."""
    if len(box) <= 8:
        return None
    start = 0 if box.startswith((b"II*\0", b"MM\0*")) else 4 + int.from_bytes(box[:4], "big")
    return box[start:] or box


def _codestream(path: str | Path) -> bytes:
    """The first bytes of the codestream, which may be inside a box."""
    with open(path, "rb") as file:
        head = file.read(_HEADER)
        if head.startswith(_CODESTREAM):
            return head
        file.seek(len(_CONTAINER))
        for _ in range(1000):
            at = file.tell()
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
                file.seek(at + 16)
            else:
                file.seek(at + 8)
            if kind == b"jxlp":
                file.seek(4, 1)
            if kind in (b"jxlc", b"jxlp"):
                found = file.read(_HEADER)
                if found.startswith(_CODESTREAM):
                    return found
            if length < 8:
                break
            file.seek(at + length)
    raise ValueError("no codestream")


def _depth(bits: _Bits) -> int | None:
    """Bits per channel, from the metadata after the size."""
    if bits.take(1):  # all values are the defaults
        return 8
    if bits.take(1):  # extra fields
        bits.take(3)  # orientation
        if bits.take(1):  # a size to display it at
            _skip_size(bits)
        if bits.take(1):  # a preview
            raise ValueError("it has a preview, which is not read")
        if bits.take(1):  # an animation
            bits.one_of(0, 0, 10, 30)
            bits.one_of(0, 0, 8, 10)
            bits.one_of(0, 3, 16, 32)
            bits.take(1)
    if bits.take(1):  # floating point
        return None
    choice = bits.take(2)
    return (8, 10, 12)[choice] if choice < 3 else bits.take(6) + 1


def _skip_size(bits: _Bits) -> None:
    small = bits.take(1)
    for side in range(2):
        if small:
            bits.take(5)
        else:
            bits.one_of(9, 13, 18, 30)
        if side == 0 and bits.take(3):
            return
