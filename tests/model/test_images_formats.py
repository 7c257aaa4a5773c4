"""What phones and cameras make, and the formats that no other test reads: to the value, upright, with what they say."""

import io
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import ImageError, read_image
from model.files import PICTURE_EXTENSIONS, RAW_EXTENSIONS
from model.images.readers.choose_reader import from_pil, pixel_count
from tests.pictures import dng, every_format, exif_of, heic, mosaic_of, read, refusal, saved, scene

codecs = pytest.importorskip("imagecodecs")
pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")
pytest.importorskip("rawpy")
pytest.importorskip("tifffile")

ROOT = Path(__file__).resolve().parents[2]
DEEP = np.random.default_rng(3).integers(0, 65536, (12, 20, 4)).astype(np.uint16)


# HEIC, AVIF, JPEG XL, JPEG 2000


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic(tmp_path, name):
    picture = read(tmp_path / name, heic(scene(64, 64)))
    assert picture.pixels.dtype == np.uint8 and np.abs(picture.pixels.astype(int) - scene(64, 64)).max() <= 2


def test_heic_of_10_bits(tmp_path):
    deep = scene(64, 64).astype(np.uint16) * 257
    picture = read(tmp_path / "a.heic", heic(deep))
    assert picture.pixels.dtype == np.uint16 and np.abs(picture.pixels.astype(int) - deep).max() <= 3 * 64


def test_heic_is_turned_once(tmp_path):
    import pillow_heif

    file = io.BytesIO()
    made = pillow_heif.from_pillow(Image.fromarray(scene(64, 96)))
    made.info["exif"] = exif_of(6).tobytes()
    made.save(file, quality=-1, chroma=444, matrix_coefficients=0)
    picture = read(tmp_path / "a.heic", file.getvalue())
    assert np.abs(picture.pixels.astype(int) - np.rot90(scene(64, 96), -1)).max() <= 2
    exif = Image.Exif()
    exif.load(picture.metadata.exif)
    assert 0x0112 not in exif and exif.get_ifd(0x8769)[0xA002] == 64 and exif.get_ifd(0x8769)[0xA003] == 96


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_of_10_bits_is_turned(tmp_path, orientation):
    exif = exif_of(orientation)
    flat = read(
        tmp_path / "a.avif", saved(Image.fromarray(scene(64, 96)), "AVIF", exif=exif, quality=100, subsampling="4:4:4")
    )
    wanted = Image.fromarray(scene(64, 96))
    wanted.getexif()[0x0112] = orientation
    from PIL import ImageOps

    wanted = np.asarray(ImageOps.exif_transpose(wanted)).astype(int)
    assert np.abs(flat.pixels - wanted).max() <= 6


def test_avif_of_10_bits(tmp_path):
    deep = scene(64, 96).astype(np.uint16) * 4
    picture = read(tmp_path / "a.avif", codecs.avif_encode(deep, bitspersample=10, level=100))
    assert picture.pixels.dtype == np.uint16
    assert np.abs(picture.pixels - np.rint(deep * (65535 / 1023))).max() <= 8 * 64


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_jpeg_xl(tmp_path, channels, bits):
    values = DEEP[..., :channels] if bits == 16 else (DEEP[..., :channels] >> 8).astype(np.uint8)
    picture = read(tmp_path / "a.jxl", codecs.jpegxl_encode(values[..., 0] if channels == 1 else values, lossless=True))
    colors = values[..., : 1 if channels < 3 else 3]
    assert np.array_equal(picture.pixels, np.broadcast_to(colors, (12, 20, 3))) and picture.gray == (channels < 3)
    assert picture.alpha is None if channels in (1, 3) else np.array_equal(picture.alpha, values[..., -1])


@pytest.mark.parametrize("offset", [b"", bytes(4), b"\0\0\0\2xx", b"\1\0\0\0"])
def test_exif_of_jpeg_xl(tmp_path, offset):
    """After its offset, without one, as pillow-jxl-plugin writes it, and after one that leads nowhere."""
    pixels = codecs.jpegxl_encode((DEEP[..., :3] >> 8).astype(np.uint8), lossless=True, usecontainer=True)
    exif = offset + exif_of(1).tobytes()[6:]
    picture = read(tmp_path / "a.jxl", pixels + struct.pack(">I", 8 + len(exif)) + b"Exif" + exif)
    if offset[:1] == b"\1":
        assert picture.metadata.exif is None and picture.notes == ("unreadable EXIF data, left out",)
    else:
        assert b"2020:01:02 03:04:05" in picture.metadata.exif and not picture.notes


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000(tmp_path, bits, channels):
    values = (DEEP[..., :channels] >> (16 - bits)).astype(np.uint8 if bits == 8 else np.uint16)
    data = codecs.jpeg2k_encode(values.squeeze(), level=0, reversible=True, bitspersample=bits)
    picture = read(tmp_path / "a.jp2", data)
    wanted = values if bits != 12 else np.rint(values * (65535 / 4095))
    assert np.array_equal(picture.pixels, np.broadcast_to(wanted, (12, 20, 3)))


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        ("pillow_heif", "8.heic", "pillow-heif"),
        ("pillow_jxl", "8.jxl", "pillow-jxl-plugin"),
        ("rawpy", "a.dng", "rawpy"),
    ],
)
def test_missing_modules_are_named(tmp_path, monkeypatch, module, name, package):
    (tmp_path / name).write_bytes(every_format()[name])
    monkeypatch.setitem(sys.modules, module, None)
    assert refusal(tmp_path / name).endswith(f"which needs {package}; pip install '.[formats]', or {package} by itself")
    assert pixel_count(tmp_path / name) >= 0


# Raw files


def test_a_gray_scene_is_gray_under_the_cameras_white_balance(tmp_path):
    # A camera with half the sensitivity for red and three quarters for blue sees a gray of 0.2.
    mosaic = mosaic_of((round(0.5 * 0.2 * 65535), round(0.2 * 65535), round(0.75 * 0.2 * 65535)))
    picture = read(tmp_path / "a.dng", dng(mosaic, (0.5, 1.0, 0.75)))
    middle = picture.pixels[20:-20, 20:-20].reshape(-1, 3) / 65535
    assert picture.pixels.dtype == np.uint16 and np.ptp(middle) < 0.01
    assert abs(middle.mean() - (1.055 * 0.2 ** (1 / 2.4) - 0.055)) < 0.02
    exif = Image.Exif()
    exif.load(picture.metadata.exif)
    assert exif[271].strip("\0") == "maker" and not set(exif) & {254, 256, 258, 273, 50706, 33421}


def test_raw_files_by_content_turned_and_at_half_size(tmp_path):
    data = dng(mosaic_of((20000, 30000, 10000)), orientation=6)
    for name in ("a.dng", "a.tif", "a.jpg"):
        assert read(tmp_path / name, data).pixels.shape == (96, 64, 3)
    assert read_image(tmp_path / "a.dng", half=True).pixels.shape == (48, 32, 3)


def test_the_thumbnail_of_a_raw_file_is_never_taken_for_the_picture(tmp_path):
    import tifffile

    for name in ("a.tif", "a.nef"):
        with tifffile.TiffWriter(tmp_path / name) as file:
            thumbnail = np.zeros((16, 16, 3), np.uint8)
            file.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
            file.write(mosaic_of((20000, 30000, 10000)), photometric=32803, metadata=None)
        try:
            assert read_image(tmp_path / name).pixels.max() > 0  # LibRaw takes the mosaic; the thumbnail is black
        except ImageError as error:
            assert "LibRaw" in str(error)


def test_raw_extensions_are_searched_for_and_judged_by_content(tmp_path):
    assert set(RAW_EXTENSIONS) < set(PICTURE_EXTENSIONS) and {".cr3", ".nef", ".arw", ".dng"} < set(RAW_EXTENSIONS)
    assert np.array_equal(read(tmp_path / "a.raw", saved(Image.fromarray(scene()), "PNG")).pixels, scene())
    (tmp_path / "b.nef").write_bytes(saved(Image.fromarray(scene()), "TIFF"))
    assert "raw file" in refusal(tmp_path / "b.nef")
    (tmp_path / "c.cr2").write_bytes(b"something else")
    assert "LibRaw" in refusal(tmp_path / "c.cr2")


# What is no file of its own


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file (a pipe)" in refusal(tmp_path / "pipe.png") and pixel_count(tmp_path / "pipe.png") == 0
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s.png"))
        assert "not a regular file (a socket)" in refusal(tmp_path / "s.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    assert "not a regular file (a device)" in refusal(tmp_path / "device.png")


def test_c_libraries_print_nothing(tmp_path):
    from tests.tiffs import tiff

    for compression in ("lzw", "deflate"):
        data = bytearray(tiff(np.full((64, 64, 3), 77), 8, "rgb", compression=compression))
        data[-30:] = bytes(30)
        (tmp_path / f"{compression}.tif").write_bytes(data)
    code = (
        "import sys\nfrom model.streams import own_stderr, quiet\nown_stderr(); own_stderr()\n"
        "from model import ImageError, read_image\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        read_image(path)\n    except ImageError as error:\n        print(error)\n"
        "import os\nwith quiet:\n    os.write(2, b'lost ')\n    print('mine', file=sys.stderr)\nos.write(2, b'seen ')\n"
        "with quiet:\n    child = os.fork()\n    if not child:\n        os.write(2, b'child')\n        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.stderr == "mine\nseen child" and done.returncode == 0
    assert len(done.stdout.splitlines()) == 2


def test_from_pil_is_as_from_a_file(tmp_path):
    image = Image.fromarray(scene())
    data = saved(
        image, "JPEG", exif=exif_of(6), xmp=b'<x tiff:Orientation="6"/>', dpi=(200, 100), icc_profile=b"profile"
    )
    with Image.open(io.BytesIO(data)) as opened:
        first, second = from_pil(opened), read(tmp_path / "a.jpg", data)
        assert opened.size == (32, 24)
    assert np.array_equal(first.pixels, second.pixels) and first.metadata == second.metadata
    assert first.metadata.xmp == b'<x tiff:Orientation="1"/>' and first.metadata.dpi == (200, 100)
