"""Writing pictures: what each format keeps of what a file says, what it cannot hold, and that it is said."""

import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from model import ImageError, Metadata, write_image
from model.images.samples import to_bits
from model.images.writers.choose_writer import to_pil

tifffile = pytest.importorskip("tifffile")

COLOR = bytes(16) + b"RGB " + bytes(range(200))
GRAY = bytes(16) + b"GRAY" + bytes(range(200))
XMP = "<x:xmpmeta>Müller</x:xmpmeta>".encode()


def camera() -> bytes:
    exif = Image.Exif()
    exif[271], exif[306], exif[531] = "Camera", "2024:05:06 07:08:09", 1
    exif.get_ifd(0x8769).update({33434: 0.01, 37380: -0.5, 36867: "2024:05:06 07:08:09"})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 1.5)})
    return exif.tobytes()


ALL = Metadata(COLOR, camera(), XMP, (300.0, 150.0))


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def directories(image: Image.Image) -> tuple:
    """What `camera` says."""
    exif = image.getexif()
    photo, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    return exif[271], exif[306], float(photo[33434]), float(photo[37380]), photo[36867], place[1], tuple(place[2])


WANTED = ("Camera", "2024:05:06 07:08:09", 0.01, -0.5, "2024:05:06 07:08:09", "N", (47.0, 30.0, 1.5))


@pytest.mark.parametrize("extension, bits", [("jpg", 8), ("png", 8), ("webp", 8), ("tif", 8), ("png", 16), ("tif", 16)])
@pytest.mark.parametrize("gray", [False, True])
def test_metadata_are_kept(tmp_path, rgb, extension, bits, gray):
    metadata = Metadata(GRAY if gray else COLOR, ALL.exif, ALL.xmp, ALL.dpi)
    notes = write_image(tmp_path / f"a.{extension}", to_bits(rgb, bits), None, gray, metadata)
    assert notes == (("WebP holds no resolution, which is left out",) if extension == "webp" else ())
    with Image.open(tmp_path / f"a.{extension}") as image:
        image.load()
        assert image.info["icc_profile"] == metadata.icc_profile and directories(image) == WANTED
        xmp = image.info["xmp"]
        assert (xmp.encode() if isinstance(xmp, str) else xmp) == XMP
        if extension != "webp":
            assert tuple(image.info["dpi"]) == pytest.approx((300, 150), abs=0.02)


def test_a_tiff_by_another_reader(tmp_path, rgb):
    write_image(tmp_path / "a.tif", rgb, metadata=ALL)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        (page,) = file.pages
        tags = {tag.code: tag for tag in page.tags}
        assert np.array_equal(page.asarray(), rgb) and tags[700].value == XMP and tags[34675].value == COLOR
        assert tags[271].value == "Camera" and 531 not in tags  # of JPEG alone
        assert (tags[282].value, tags[283].value, tags[296].value) == ((300, 1), (150, 1), 2)
        photo, place = tags[34665].value, tags[34853].value
        assert photo["ExposureTime"] == 0.01 and photo["ExposureBiasValue"] == -0.5
        assert place["GPSLatitudeRef"] == "N" and place["GPSLatitude"] == (47, 1, 30, 1, 3, 2)


def test_bmp_holds_the_resolution_alone(tmp_path, rgb):
    notes = write_image(tmp_path / "a.bmp", rgb, metadata=ALL)
    parts = ("color profile", "EXIF data", "XMP data")
    assert notes == tuple(f"BMP holds no {part}, which is left out" for part in parts)
    with Image.open(tmp_path / "a.bmp") as image:
        assert tuple(image.info["dpi"]) == pytest.approx((300, 150), abs=0.02)
    assert write_image(tmp_path / "a.bmp", rgb, metadata=Metadata(dpi=(72.0, 72.0))) == ()


def test_what_says_nothing_needs_no_note(tmp_path, rgb):
    for dpi in ((72.0, 72.009), (0.0, 0.0), (float("nan"), 300.0), None):
        assert write_image(tmp_path / "a.webp", rgb, metadata=Metadata(b"", b"", b"", dpi)) == ()
        assert write_image(tmp_path / "a.jpg", rgb, metadata=Metadata(dpi=dpi)) == ()


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_a_profile_of_the_other_kind_is_left_out(tmp_path, rgb, extension):
    file = tmp_path / f"a.{extension}"
    notes = write_image(file, rgb, None, True, Metadata(COLOR))
    assert notes == ("the color profile is for color and the picture is gray, so it is left out",)
    assert "icc_profile" not in Image.open(file).info
    notes = write_image(file, rgb, None, False, Metadata(GRAY))
    assert notes == ("the color profile is for gray and the picture is in color, so it is left out",)
    assert "icc_profile" not in Image.open(file).info


def test_large_metadata(tmp_path, rgb):
    """A JPEG's segments have 64 kB; profiles are cut into several of them."""
    large = Metadata(COLOR + bytes(200_000), camera() + bytes(70_000), XMP + b" " * 70_000)
    notes = write_image(tmp_path / "a.jpg", rgb, metadata=large)
    assert notes == (
        f"JPEG holds at most 65,533 bytes of EXIF data; {len(large.exif):,} are left out",
        f"JPEG holds at most 65,504 bytes of XMP data; {len(large.xmp):,} are left out",
    )
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == large.icc_profile and "xmp" not in image.info and not image.getexif()
    for extension in ("png", "webp", "tif"):
        assert write_image(tmp_path / f"a.{extension}", rgb, metadata=large) == ()
        with Image.open(tmp_path / f"a.{extension}") as image:
            image.load()
            assert directories(image) == WANTED and len(image.info["xmp"]) == len(large.xmp)
    most = Metadata(None, camera().ljust(65533, b"\0"), XMP.ljust(65504))
    assert write_image(tmp_path / "a.jpg", rgb, metadata=most) == ()
    assert directories(Image.open(tmp_path / "a.jpg")) == WANTED


def test_exif_without_its_header(tmp_path, rgb):
    for extension in ("jpg", "png", "webp", "tif"):
        write_image(tmp_path / f"a.{extension}", rgb, metadata=Metadata(exif=camera()[6:]))
        assert directories(Image.open(tmp_path / f"a.{extension}")) == WANTED


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_plain_tiff_is_that_of_pillow(tmp_path, rgb, gray, transparent):
    alpha = rgb[..., 1] if transparent else None
    write_image(tmp_path / "a.tif", rgb, alpha, gray)
    expected = io.BytesIO()
    to_pil(rgb, alpha, gray).save(expected, "TIFF")
    assert (tmp_path / "a.tif").read_bytes() == expected.getvalue()


def test_damaged_exif_does_no_harm_to_a_tiff(tmp_path, rgb, recwarn):
    generator, exif = np.random.default_rng(3), camera()
    for number in range(200):
        damaged = bytearray(exif[: generator.integers(6, len(exif) + 1)] if number % 2 else exif)
        for _ in range(number % 7):
            damaged[generator.integers(6, len(damaged)) if len(damaged) > 6 else 0] = generator.integers(256)
        write_image(tmp_path / "a.tif", rgb, metadata=Metadata(exif=bytes(damaged)))
        with Image.open(tmp_path / "a.tif") as image:
            assert np.array_equal(np.asarray(image), rgb)


def test_a_tiff_has_at_most_4_gigabytes(tmp_path):
    pixels = np.broadcast_to(np.zeros(1, np.uint16), (1 << 16, 1 << 15, 3))
    with pytest.raises(
        ImageError, match=r"a.tif: TIFF cannot hold this picture \(12,884,901,888 bytes; the limit is 4 GB"
    ):
        write_image(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "bmp"])
def test_opaque_transparency_is_left_out(tmp_path, rgb, extension):
    file = tmp_path / f"a.{extension}"
    for alpha in (np.full((6, 9), 255, np.uint8), np.full((6, 9), 65535, np.uint16)):
        assert write_image(file, rgb, alpha) == ()
        assert Image.open(file).mode == "RGB"
    alpha[3, 3] = 65534
    with pytest.raises(ImageError, match="the picture has transparency, which .* cannot hold; use .png"):
        write_image(file, rgb, alpha)


def test_wrong_arrays_are_named(tmp_path, rgb):
    for pixels, alpha, message in (
        (rgb.astype(np.int16), None, "pixels: expected uint8 or uint16 .*; got int16"),
        (rgb[..., :2], None, r"pixels: expected .*; got uint8 \(6, 9, 2\)"),
        (rgb, rgb, r"alpha: expected uint8 or uint16 \(6, 9\); got uint8 \(6, 9, 3\)"),
        (rgb, rgb[..., 0].astype(float), "alpha: expected .*; got float64"),
    ):
        with pytest.raises(ValueError, match=message):
            write_image(tmp_path / "a.png", pixels, alpha)


def test_pil_images_say_what_the_file_said(tmp_path, rgb):
    image = to_pil(rgb, None, False, ALL)
    assert image.info == {"icc_profile": COLOR, "exif": ALL.exif, "xmp": XMP, "dpi": (300.0, 150.0)}
    image.save(tmp_path / "a.jpg", exif=image.info["exif"], xmp=image.info["xmp"], dpi=image.info["dpi"])
    assert directories(Image.open(tmp_path / "a.jpg")) == WANTED
    assert "icc_profile" not in to_pil(rgb, None, True, ALL).info
    assert to_pil(rgb, None, True, Metadata(GRAY)).info == {"icc_profile": GRAY}


@pytest.mark.parametrize("channels", [3, 4])
def test_libtiff_reads_16_bits(tmp_path, rgb, channels, monkeypatch):
    monkeypatch.setattr(TiffImagePlugin, "READ_LIBTIFF", True)
    deep = to_bits(rgb, 16) + 1 - rgb // 255
    write_image(tmp_path / "a.tif", deep, deep[..., 0] if channels == 4 else None, metadata=ALL)
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image)[..., :3], deep >> 8)  # all that Pillow gives


def test_webp_keeps_colors_where_it_is_transparent(rgb, tmp_path):
    alpha = np.zeros((6, 9), np.uint8)
    write_image(tmp_path / "a.webp", rgb, alpha)
    with Image.open(tmp_path / "a.webp") as image:
        assert np.array_equal(np.asarray(image), np.dstack([rgb, alpha]))
