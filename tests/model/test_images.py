"""Reading and writing pictures: every odd or broken kind is made here, on disk, as a user would have it."""

import errno
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from model import ImageError, Metadata, quantize, read_image, write_image
from tests.pictures import refusal


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def png(width: int, height: int, bits: int, color_type: int, rows: bytes) -> bytes:
    """A PNG file of kinds that Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_rgb(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, rgb) and picture.alpha is None and not picture.gray and not picture.notes
    tensor = picture.tensor()
    assert tensor.dtype == torch.float32 and tensor.shape == (3, 6, 9) and tensor.is_contiguous()
    assert torch.equal(tensor, torch.from_numpy(rgb).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray(tmp_path, rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    image.save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert picture.gray and picture.alpha is None
    assert np.array_equal(picture.pixels, np.array(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept_apart(tmp_path, rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    alpha = np.arange(54, dtype=np.uint8).reshape(6, 9)
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert np.array_equal(picture.alpha, alpha) and picture.gray == (mode == "LA")
    expected = rgb if mode == "RGBA" else np.array(Image.fromarray(rgb).convert("L").convert("RGB"))
    assert np.array_equal(picture.pixels, expected)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (3, 2))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    opaque, clear = read_image(tmp_path / "opaque.png"), read_image(tmp_path / "clear.png")
    for picture in (opaque, clear):
        assert picture.pixels[0, 0].tolist() == [10, 20, 30] and picture.pixels[0, 1].tolist() == [40, 50, 60]
    assert opaque.alpha is None
    assert clear.alpha.tolist() == [[255, 0, 255], [255, 255, 255]]


def test_transparent_color_of_rgb(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png", transparency=tuple(map(int, rgb[2, 3])))
    alpha = read_image(tmp_path / "a.png").alpha
    assert alpha[2, 3] == 0 and (alpha == 255).sum() == alpha.size - 1


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.save(tmp_path / "a.jpg", quality=100, icc_profile=b"of inks, wrong for RGB")
    image.save(tmp_path / "a.tif", icc_profile=b"of inks, wrong for RGB")
    for name in ("a.jpg", "a.tif"):
        picture = read_image(tmp_path / name)
        assert picture.pixels.shape == (16, 16, 3) and picture.metadata.icc_profile is None
        assert np.abs(picture.pixels[8, 8].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_gray_keeps_its_precision(tmp_path, extension):
    values = np.array([[0, 1, 256, 257], [65535, 65534, 1000, 32768]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{extension}")
    picture = read_image(tmp_path / f"a.{extension}")
    assert picture.pixels.dtype == np.uint16 and picture.gray and not picture.notes
    assert all(np.array_equal(picture.pixels[..., channel], values) for channel in range(3))
    assert torch.equal(picture.tensor()[1], torch.from_numpy(values.astype(np.float32)) / 65535)


def test_16_bit_big_endian_tiff(tmp_path):
    values = np.array([[0, 1, 256], [65535, 1000, 32768]], dtype=np.uint16)
    # Header, one directory of seven entries, then the pixels; every number big-endian.
    entries = [(256, 4, 3), (257, 4, 2), (258, 3, 16), (262, 3, 1), (273, 4, 98), (278, 4, 2), (279, 4, 12)]
    body = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    data = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + body + struct.pack(">I", 0)
    assert len(data) == 98
    (tmp_path / "a.tif").write_bytes(data + values.astype(">u2").tobytes())
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], values)


@pytest.mark.parametrize("values", [np.ones((4, 4), np.float32), np.ones((4, 4), np.int32)], ids=["float", "integer"])
def test_32_bits_have_no_known_range(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert "32-bit" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, extension, orientation):
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 8, 8))  # top left corner as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{extension}", exif=exif)
    pixels = read_image(tmp_path / f"a.{extension}").pixels
    # Where orientation 1..8 puts the first stored row (top or bottom, or a side when turned) and column.
    corner = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0), (0, -1), (-1, -1), (-1, 0)][orientation - 1]
    assert pixels.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    corners = {(y, x): int(pixels[y, x, 0]) for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.get) == corner and sorted(corners.values())[2] < 50


def test_orientation_turns_alpha_and_16_bits_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 1000
    Image.fromarray(values).save(tmp_path / "deep.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "deep.png").pixels[..., 0], np.rot90(values, -1))
    alpha = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.new("RGBA", (3, 2))
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "clear.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "clear.png").alpha, np.rot90(alpha, -1))


def test_broken_exif_is_no_reason_to_refuse(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=b"Exif\0\0not exif data at all")
    picture = read_image(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, rgb) and "EXIF" in picture.notes[0]


def test_several_frames(tmp_path, rgb):
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    picture = read_image(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, rgb) and picture.notes == ("2 frames, of which the first is read",)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "webp", "gif"])
def test_truncated_files(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    path = tmp_path / f"a.{extension}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for length in (len(data) // 2, 40):
        path.write_bytes(data[:length])
        assert "truncated or damaged" in refusal(path) or "not a picture" in refusal(path)


def test_no_picture_empty_missing_folder(tmp_path):
    (tmp_path / "text.png").write_text("this is no picture")
    assert "not a picture" in refusal(tmp_path / "text.png")
    (tmp_path / "empty.png").touch()
    assert "empty (0 bytes)" in refusal(tmp_path / "empty.png")
    assert "no such file" in refusal(tmp_path / "missing.png")
    assert "not a file" in refusal(tmp_path)
    (tmp_path / "a.ps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "not a picture" in refusal(tmp_path / "a.ps")


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, rgb, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)

    def forbidden(*arguments, **options):  # a mode would not keep root out
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("builtins.open", forbidden)
    assert refusal(path) == f"{path}: cannot be read (Permission denied); check its permissions"


def test_absurdly_large(tmp_path, rgb, monkeypatch, recwarn):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 53)  # Pillow warns above this and refuses above twice as much
    assert read_image(tmp_path / "a.png").pixels.shape == (6, 9, 3) and not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 26)
    assert "more than 52 pixels" in refusal(tmp_path / "a.png")


def test_a_real_bomb(tmp_path):
    (tmp_path / "a.png").write_bytes(png(60000, 60000, 8, 2, b""))
    assert "more than 178,956,970 pixels" in refusal(tmp_path / "a.png")


def test_quantize_truncates():
    values = torch.tensor([0.0, 0.999 / 255, 1 / 255, 254.99 / 255, 1.0, 1.5, -0.5]).expand(3, 1, 7)
    assert quantize(values)[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255, 0]
    with pytest.raises(ValueError, match="NaN"):
        quantize(torch.full((3, 2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"expected shape \(3, H, W\)"):
        quantize(torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("extension", ["png", "webp", "tif", "bmp"])
def test_lossless_formats_return_the_pixels(tmp_path, rgb, extension):
    write_image(tmp_path / f"a.{extension}", rgb)
    assert np.array_equal(read_image(tmp_path / f"a.{extension}").pixels, rgb)
    assert os.listdir(tmp_path) == [f"a.{extension}"]


@pytest.mark.parametrize("extension", ["png", "webp", "tif"])
def test_alpha_is_written(tmp_path, rgb, extension):
    alpha = np.arange(1, 55, dtype=np.uint8).reshape(6, 9)  # WebP may drop the color under alpha 0
    write_image(tmp_path / f"a.{extension}", rgb, alpha)
    picture = read_image(tmp_path / f"a.{extension}")
    assert np.array_equal(picture.alpha, alpha) and np.array_equal(picture.pixels, rgb)


def test_gray_and_profile_are_written(tmp_path, rgb):
    write_image(tmp_path / "a.png", rgb, gray=True)
    assert read_image(tmp_path / "a.png").gray
    write_image(tmp_path / "b.png", rgb, metadata=Metadata(b"a profile"))
    assert read_image(tmp_path / "b.png").metadata.icc_profile == b"a profile"


def test_what_cannot_be_written(tmp_path, rgb):
    with pytest.raises(ImageError, match="transparency, which JPEG cannot hold; use .png"):
        write_image(tmp_path / "a.jpg", rgb, rgb[..., 0])
    with pytest.raises(ImageError, match="cannot write this format; use one of .png"):
        write_image(tmp_path / "a.xyz", rgb)
    with pytest.raises(ImageError, match="WEBP cannot hold this picture"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        write_image(tmp_path / "a.png", rgb.astype(np.float32))
    assert not os.listdir(tmp_path)


def test_a_picture_is_replaced_in_one_step(tmp_path, rgb):
    write_image(tmp_path / "a.png", rgb)
    os.link(tmp_path / "a.png", tmp_path / "same file.png")  # sees what is written into the old file
    write_image(tmp_path / "a.png", 255 - rgb)
    assert np.array_equal(read_image(tmp_path / "same file.png").pixels, rgb)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, 255 - rgb)


def test_a_failed_write_leaves_the_old_picture(tmp_path, rgb, monkeypatch):
    write_image(tmp_path / "a.png", rgb)
    before = (tmp_path / "a.png").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_image(tmp_path / "a.png", 255 - rgb)
    assert (tmp_path / "a.png").read_bytes() == before and os.listdir(tmp_path) == ["a.png"]
