"""PNG files of 16 bits and other colors, and PBM, PGM, PPM and PAM files of any maximum, to the value."""

import struct
import zlib

import numpy as np
import pytest

from tests.pictures import exif_of, png16, png_chunk, read, refusal

DEEP = np.random.default_rng(3).integers(0, 65536, (12, 20, 4)).astype(np.uint16)


# PNG


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(tmp_path, channels):
    pytest.importorskip("imagecodecs")
    values = DEEP[..., :channels]
    picture = read(tmp_path / "a.png", png16(values))
    colors = values[..., : 1 if channels < 3 else 3]
    assert np.array_equal(picture.pixels, np.broadcast_to(colors, (12, 20, 3))) and not picture.notes
    assert picture.gray == (channels < 3)
    assert (picture.alpha is None) if channels in (1, 3) else np.array_equal(picture.alpha, values[..., -1])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_with_a_transparent_color(tmp_path, channels):
    pytest.importorskip("imagecodecs")
    values = DEEP[..., :channels]
    picture = read(tmp_path / "a.png", png16(values, png_chunk(b"tRNS", values[2, 3].astype(">u2").tobytes())))
    assert picture.alpha.dtype == np.uint16 and picture.alpha[2, 3] == 0
    assert (picture.alpha == 65535).sum() == picture.alpha.size - 1


def test_png_of_16_bits_interlaced_and_turned(tmp_path):
    pytest.importorskip("imagecodecs")
    assert np.array_equal(read(tmp_path / "a.png", png16(DEEP, interlaced=True)).pixels, DEEP[..., :3])
    exif = png_chunk(b"eXIf", exif_of(6).tobytes()[6:])
    picture = read(tmp_path / "b.png", png16(DEEP, exif))
    assert np.array_equal(picture.pixels, np.rot90(DEEP[..., :3], -1))
    assert np.array_equal(picture.alpha, np.rot90(DEEP[..., 3], -1))


def test_png_of_16_bits_without_imagecodecs(tmp_path, monkeypatch):
    from model.images.readers import png

    monkeypatch.setattr(png, "optional", lambda module: None)
    picture = read(tmp_path / "a.png", png16(DEEP[..., :3]))
    assert np.array_equal(picture.pixels, DEEP[..., :3] >> 8)
    assert picture.notes[0].startswith("16-bit color, read at 8 bits") and "imagecodecs by itself" in picture.notes[0]


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        (b"", None),
        (png_chunk(b"gAMA", struct.pack(">I", 45455)), None),
        (png_chunk(b"gAMA", struct.pack(">I", 100000)), "gamma of 1 (gAMA)"),
        (png_chunk(b"gAMA", struct.pack(">I", 100000)) + png_chunk(b"sRGB", b"\0"), None),
        (png_chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)), None),
        (png_chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)), "primaries"),
        (png_chunk(b"cICP", bytes([1, 13, 0, 1])), None),
        (png_chunk(b"cICP", bytes([9, 16, 0, 1])), "HDR (PQ)"),
        (png_chunk(b"cICP", bytes([9, 18, 0, 1])), "HDR (HLG)"),
        (png_chunk(b"cICP", bytes([12, 13, 0, 1])), "Display P3"),
    ],
)
def test_png_colors_that_are_not_srgb_are_noted(tmp_path, chunks, said):
    pytest.importorskip("imagecodecs")
    notes = read(tmp_path / "a.png", png16(DEEP[..., :3], chunks)).notes
    assert (said in notes[0]) if said else not notes


# PBM, PGM, PPM, PAM


@pytest.mark.parametrize("maximum", [1, 3, 100, 255, 256, 1000, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_ppm_of_any_maximum(tmp_path, kind, maximum):
    channels = 3 if kind in (3, 6) else 1
    values = np.random.default_rng(maximum).integers(0, maximum + 1, (5, 7, channels))
    values[0, 0], values[0, 1] = 0, maximum
    header = b"P%d\n# a comment\n7 5\n%d\n" % (kind, maximum)
    text = b"\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in values)
    body = text if kind < 4 else values.astype(np.uint8 if maximum < 256 else ">u2").tobytes()
    picture = read(tmp_path / "a.ppm", header + body)
    top = 255 if maximum < 256 else 65535
    assert np.array_equal(picture.pixels, np.broadcast_to(np.rint(values * top / maximum), (5, 7, 3)))
    assert picture.pixels.max() == top and picture.gray == (channels == 1) and not picture.notes


def test_bitmaps_are_black_where_1(tmp_path):
    picture = read(tmp_path / "a.pbm", b"P1\n3 2\n101\n0 1 0")
    assert picture.gray and (picture.pixels[..., 0] == [[0, 255, 0], [255, 0, 255]]).all()
    assert np.array_equal(
        read(tmp_path / "b.pbm", b"P4\n3 2\n" + bytes([0b10100000, 0b01000000])).pixels, picture.pixels
    )


def test_pam(tmp_path):
    header = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s\nENDHDR\n"
    picture = read(tmp_path / "a.pam", header % (4, 255, b"RGB_ALPHA") + bytes(range(8)))
    assert picture.pixels.tolist() == [[[0, 1, 2], [4, 5, 6]]] and picture.alpha.tolist() == [[3, 7]]
    picture = read(tmp_path / "a.pam", header % (1, 1, b"BLACKANDWHITE") + bytes([0, 1]))
    assert picture.pixels[..., 0].tolist() == [[0, 255]] and picture.gray
    (tmp_path / "b.pam").write_bytes(header % (5, 255, b"CMYKA") + bytes(10))
    assert "'CMYKA', which is not supported" in refusal(tmp_path / "b.pam")


@pytest.mark.parametrize(
    "data",
    [b"P5 4 4 255\n" + bytes(15), b"P2 2 2 255 1 2 3", b"P5 4 4 0\n" + bytes(16), b"P2 2 1 9 3 10", b"P2 2 1 9 3 x",
     b"P6 99999 9999999 255\n", b"P5 2 1 9\n\x03\x0a", b"P5 -1 4 255\n"],
)  # fmt: skip
def test_damaged_ppm(tmp_path, data):
    (tmp_path / "a.ppm").write_bytes(data)
    assert "truncated or damaged" in refusal(tmp_path / "a.ppm") or "pixels; allow" in refusal(tmp_path / "a.ppm")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_of_16_bits_with_exif_and_xmp_after_the_pixels(tmp_path, channels):
    """Where ImageMagick writes them."""
    pytest.importorskip("imagecodecs")
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    text = png_chunk(b"eXIf", exif_of(6).tobytes()[6:]) + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    whole = png16(DEEP[..., :channels])
    picture = read(tmp_path / "a.png", whole[:-12] + text + whole[-12:])
    colors = DEEP[..., : 1 if channels == 2 else 3]
    assert np.array_equal(picture.pixels, np.broadcast_to(np.rot90(colors, -1), (20, 12, 3))) and not picture.notes
    assert b"2020:01:02 03:04:05" in picture.metadata.exif and picture.metadata.xmp == xmp.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_of_few_bits_with_a_transparent_gray(tmp_path, bits):
    levels = 1 << bits
    values = np.arange(64).reshape(4, 16) % levels
    rows = np.packbits((values[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).reshape(4, -1), axis=1)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 4, bits, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    for key in {1, levels // 2, levels - 1}:
        transparent = png_chunk(b"tRNS", struct.pack(">H", key))
        data = b"\x89PNG\r\n\x1a\n" + header + transparent + pixels + png_chunk(b"IEND", b"")
        picture = read(tmp_path / "a.png", data)
        assert np.array_equal(picture.pixels[..., 0], values * 255 // (levels - 1)) and picture.gray
        assert np.array_equal(picture.alpha, np.where(values == key, 0, 255))
