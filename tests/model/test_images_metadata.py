"""Color profiles, EXIF and XMP data as they are read: what fits is kept, what does not is left out and said."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from model import Metadata, read_image, write_image
from tests.pictures import exif_of, saved, scene

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = SRGB[:16] + b"GRAY" + SRGB[20:]
CMYK = SRGB[:16] + b"CMYK" + SRGB[20:]
IMAGE = Image.fromarray(scene())


def read(path, data: bytes):
    path.write_bytes(data)
    return read_image(path)


@pytest.mark.parametrize(
    ("mode", "profile", "kept", "said"),
    [
        ("RGB", SRGB, True, None),
        ("RGBA", SRGB, True, None),
        ("P", SRGB, True, None),
        ("RGB", b"profile", True, None),
        ("RGB", GRAY, False, "is for gray, not for RGB"),
        ("L", GRAY, True, None),
        ("LA", GRAY, True, None),
        ("1", GRAY, True, None),
        ("I;16", GRAY, True, None),
        ("L", SRGB, False, "is for RGB, not for gray"),
        ("L", b"profile", False, "cannot be read"),
        ("RGB", CMYK, False, "is for CMYK, not for RGB"),
    ],
)
def test_a_profile_is_kept_where_it_fits(tmp_path, mode, profile, kept, said):
    deep = Image.fromarray(scene()[..., 0].astype(np.uint16) * 257)
    image = deep if mode == "I;16" else IMAGE.convert(mode)
    picture = read(tmp_path / "a.png", saved(image, "PNG", icc_profile=profile))
    assert picture.metadata.icc_profile == (profile if kept else None)
    assert (said in picture.notes[0]) if said else not picture.notes


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_with_a_profile_that_is_broken_is_converted_plainly(tmp_path, kind):
    picture = read(tmp_path / "a", saved(IMAGE.convert("CMYK"), kind, icc_profile=CMYK))
    assert picture.metadata.icc_profile is None and "converted without" in picture.notes[0]


def cmyk_profile() -> bytes:
    """A profile of inks whose table says that every ink is its complement in linear Lab steps: 2 nodes an ink."""
    nodes = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    white = (1 - nodes[:, 0] / 3 - nodes[:, 1] / 3 - nodes[:, 2] / 3).clip(0) * (1 - nodes[:, 3])
    lab = np.stack([white * 65280, np.full(16, 32768), np.full(16, 32768)], -1).round().astype(">u2").tobytes()
    ramp = np.array([0, 65535], ">u2").tobytes()
    matrix = np.array([65536, 0, 0, 0, 65536, 0, 0, 0, 65536], ">i4").tobytes()
    table = (
        b"mft2"
        + bytes(4)
        + bytes([4, 3, 2, 0])
        + matrix
        + np.array([2, 2], ">u2").tobytes()
        + ramp * 4
        + lab
        + ramp * 3
    )
    text = b"desc" + bytes(4) + (2).to_bytes(4, "big") + b"x\0" + bytes(78)
    white_point = b"XYZ " + bytes(4) + np.array([63190, 65536, 54061], ">i4").tobytes()
    entries, body = [], b""
    for name, data in ((b"desc", text), (b"wtpt", white_point), (b"A2B0", table)):
        data += bytes(-len(data) % 4)
        entries.append(name + (128 + 4 + 36 + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big"))
        body += data
    tags = (3).to_bytes(4, "big") + b"".join(entries)
    head = bytes(4) + bytes(4) + bytes([2, 0x40, 0, 0]) + b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    head += np.array([63190, 65536, 54061], ">i4").tobytes() + bytes(128)
    return (128 + len(tags) + len(body)).to_bytes(4, "big") + head[4:128] + tags + body


def test_cmyk_is_converted_by_its_profile(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (4, 0, 8, 8))
    picture = read(tmp_path / "a.tif", saved(image, "TIFF", icc_profile=cmyk_profile()))
    assert picture.notes == ("CMYK, converted to sRGB by its color profile",)
    assert picture.pixels[0, 0].min() > 250 and picture.pixels[0, 7].max() < 5


def test_lab_is_converted(tmp_path):
    image = Image.new("LAB", (4, 4), (128, 128, 128))
    picture = read(tmp_path / "a.tif", saved(image, "TIFF"))
    assert picture.notes == ("Lab colors, converted to sRGB",)
    assert np.ptp(picture.pixels) <= 3 and abs(int(picture.pixels[0, 0, 0]) - 119) <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_is_that_of_the_turned_picture(tmp_path, kind):
    exif = exif_of(6)
    exif[0x0100], exif[0x0101] = 32, 24
    options = {"exif": exif.tobytes() if kind == "TIFF" else exif}
    picture = read(tmp_path / "a", saved(IMAGE, kind, **options))
    assert picture.pixels.shape == (32, 24, 3) and not picture.notes
    kept = Image.Exif()
    kept.load(picture.metadata.exif)
    assert kept[0x010F] == "maker" and not set(kept) & {0x0100, 0x0101, 0x0112}
    inner = kept.get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == (24, 32) and inner[0x9003] == "2020:01:02 03:04:05"
    assert inner[0x927C] == b"maker note" * 3 and kept.get_ifd(0x8825)[1] == "N"
    again = read(tmp_path / "b", saved(Image.fromarray(picture.pixels), "JPEG", exif=picture.metadata.exif))
    assert again.metadata.exif == picture.metadata.exif


def test_the_thumbnail_is_dropped(tmp_path):
    thumbnail = saved(IMAGE.resize((8, 8)), "JPEG")
    entries = [(0x0103, 6), (0x0201, 0), (0x0202, len(thumbnail))]
    first = b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + (26).to_bytes(4, "little")
    entries[1] = (0x0201, 26 + 2 + 36 + 4)
    second = b"\x03\0" + b"".join(
        t.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + v.to_bytes(4, "little") for t, v in entries
    )
    data = saved(IMAGE, "JPEG", exif=b"Exif\0\0" + first + second + bytes(4) + thumbnail)
    picture = read(tmp_path / "a.jpg", data)
    assert picture.pixels.shape == (32, 24, 3) and picture.metadata.exif is None


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize("text", ['<x tiff:Orientation="6"/>', "<tiff:Orientation>6</tiff:Orientation>"])
def test_xmp(tmp_path, kind, text):
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", text)
        data = saved(IMAGE, kind, pnginfo=info)
    elif kind == "TIFF":
        data = saved(IMAGE, kind, tiffinfo={700: text.encode()})
    else:
        data = saved(IMAGE, kind, xmp=text.encode())
    picture = read(tmp_path / "a", data)
    assert picture.metadata.xmp == text.replace("6", "1").encode()


def test_broken_exif_is_left_out(tmp_path):
    for data in (b"Exif\0\0nothing of the kind", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\xff\xff\xff\xff"):
        picture = read(tmp_path / "a.jpg", saved(IMAGE, "JPEG", exif=data))
        assert picture.pixels.shape == (24, 32, 3) and picture.metadata.exif is None


@pytest.mark.parametrize("name", ["GCamera:MotionPhoto", "GCamera:MicroVideo"])
def test_motion_photos_are_named(tmp_path, name):
    data = saved(IMAGE, "JPEG", xmp=f'<x {name}="1"/>'.encode()) + b"\0\0\0\x18ftypmp42" + bytes(500)
    picture = read(tmp_path / "a.jpg", data)
    assert "a motion photo" in picture.notes[0] and picture.metadata.xmp == f'<x {name}="0"/>'.encode()


def test_of_several_pictures_in_a_jpeg_the_first_is_read(tmp_path):
    file = io.BytesIO()
    IMAGE.save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 12))])
    picture = read(tmp_path / "a.jpg", file.getvalue())
    assert picture.pixels.shape == (24, 32, 3)
    assert picture.notes == ("2 pictures in one file (MPO), of which the first is read",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_resolution(tmp_path, kind):
    x, y = read(tmp_path / "a", saved(IMAGE, kind, dpi=(300, 150))).metadata.dpi
    assert abs(x - 300) < 0.1 and abs(y - 150) < 0.1
    assert read(tmp_path / "b", saved(IMAGE, "WEBP")).metadata.dpi is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_beyond_ascii_stay_as_they_are_stored(tmp_path, kind, encoding):
    name = "© Jörg".encode(encoding)
    entry = struct.pack("<HHII", 315, 2, len(name) + 1, 26)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4) + name + b"\0"
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[315] = name
        data = saved(IMAGE, kind, tiffinfo=tags)
    else:
        data = saved(IMAGE, kind, exif=exif)
    assert name + b"\0" in data
    picture = read(tmp_path / "a", data)
    assert name + b"\0" in picture.metadata.exif and not picture.notes


@pytest.mark.parametrize("bits", [8, 16])
def test_exif_of_a_tiff_with_directories_within_directories(tmp_path, bits):
    """As files of cameras have it: an interoperability directory inside the Exif directory."""
    exif = exif_of(1)
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA005: {1: "R98", 2: b"0100"}}
    pixels = scene() if bits == 8 else scene().astype(np.uint16) * 257
    write_image(tmp_path / "a.tif", pixels, metadata=Metadata(exif=exif.tobytes()))
    picture = read_image(tmp_path / "a.tif")
    kept = Image.Exif()
    kept.load(picture.metadata.exif)
    assert kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05" and kept.get_ifd(0x8825)[1] == "N"
    assert kept.get_ifd(0xA005) == {1: "R98", 2: b"0100"} and not picture.notes
