"""TIFF files of which something is not known for certain: refused in one line. Made byte by byte."""

import pytest

from model import read_image
from tests.pictures import refusal


def directory(entries: dict[int, int | list[int]], data: bytes, header: bytes = b"II*\0\x08\0\0\0") -> bytes:
    """A TIFF file of one directory with numbers of 16 bits, lists of four bytes each, its pixels behind it.

    StripOffsets and StripByteCounts are added.
    """
    entries = {**entries, 273: 0, 279: len(data)}
    end = 8 + 2 + 12 * len(entries) + 4
    body, more = b"", b""
    for tag, value in sorted(entries.items()):
        values = value if isinstance(value, list) else [value]
        packed = b"".join(one.to_bytes(4, "little") for one in values)
        if len(values) > 1:
            packed, more = (end + len(more)).to_bytes(4, "little"), more + packed
        body += tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + len(values).to_bytes(4, "little") + packed
    whole = header + len(entries).to_bytes(2, "little") + body + bytes(4) + more
    at = whole.index((273).to_bytes(2, "little") + (4).to_bytes(2, "little"), 10) + 8
    return whole[:at] + len(whole).to_bytes(4, "little") + whole[at + 4 :] + data


GRAY = {256: 4, 257: 2, 258: 8, 259: 1, 262: 1, 277: 1, 278: 2}


def test_reversed_bits(tmp_path):
    values = bytes(range(8))
    (tmp_path / "a.tif").write_bytes(directory(GRAY | {266: 2}, bytes(int(f"{v:08b}"[::-1], 2) for v in values)))
    assert read_image(tmp_path / "a.tif").pixels[..., 0].tobytes() == values


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({262: 32844}, "PhotometricInterpretation 32844"),
        ({258: [5, 6, 5], 277: 3, 262: 2}, "5, 6, 5 bits"),
        ({258: 40}, "40-bit pixels"),
        ({259: 6}, "old JPEG"),
        ({259: 34712}, "JPEG 2000"),
        ({259: 12345}, "compression 12345"),
        ({259: 5, 317: 3}, "predictor 3"),
        ({317: 2}, "predictor 2"),  # some readers apply it here, others do not
        ({277: 3, 258: [8, 8, 8], 262: 6}, "YCbCr"),
        ({277: 4, 258: [8] * 4, 262: 5, 332: 2}, "inks other than CMYK"),
        ({277: 2, 258: [8] * 2, 262: 2}, "do not fit"),
        ({256: 1 << 20, 257: 1 << 20}, "more than 178,956,970 pixels"),
        ({256: 1 << 13, 257: 1 << 13}, "truncated or damaged"),
        ({256: 0}, "truncated or damaged"),
        ({278: 1}, "strips or tiles are missing"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, entries, said):
    (tmp_path / "a.tif").write_bytes(directory(GRAY | entries, bytes(8)))
    assert said in refusal(tmp_path / "a.tif")


def test_no_photometric_interpretation(tmp_path):
    entries = {tag: value for tag, value in GRAY.items() if tag != 262}
    (tmp_path / "a.tif").write_bytes(directory(entries, bytes(8)))
    assert "does not say what its values are" in refusal(tmp_path / "a.tif")
