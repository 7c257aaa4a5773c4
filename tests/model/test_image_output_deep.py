"""Pictures of 16 bits a channel: every value of them by other readers, and what is made of 8 bits."""

import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from model import ImageError, Metadata, quantize, write_image
from model.images.samples import to_bits
from model.images.writers.choose_writer import gray_of

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")


def read(file) -> np.ndarray:
    return tifffile.imread(file) if file.suffix == ".tif" else imagecodecs.png_decode(file.read_bytes())


@pytest.fixture
def gradient() -> np.ndarray:
    """Every gray there is."""
    plane = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    return np.repeat(plane[..., None], 3, axis=2)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_every_gray(tmp_path, gradient, extension):
    file = tmp_path / f"a.{extension}"
    write_image(file, gradient, gray=True)
    assert read(file).dtype == np.uint16 and np.array_equal(read(file), gradient[..., 0])
    with Image.open(file) as image:
        assert np.array_equal(np.asarray(image), gradient[..., 0])
    write_image(file, gradient)
    assert np.array_equal(read(file), gradient)
    assert file.stat().st_size < (100_000 if extension == "png" else 400_000)


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (13, 10), (300, 1001)])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_sizes_and_channels(tmp_path, extension, size, gray, transparent):
    pixels = np.random.default_rng(4).integers(0, 65536, (*size, 3), dtype=np.uint16)
    if gray:
        pixels[:] = pixels[..., :1]
    alpha = pixels[::-1, :, 0] if transparent else None
    metadata = Metadata(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")  # its byte order becomes the file's
    wanted = np.concatenate([pixels[..., :1] if gray else pixels, *([alpha[..., None]] if transparent else [])], axis=2)
    for one in (Metadata(), metadata):
        assert write_image(tmp_path / f"a.{extension}", pixels, alpha, gray, one) == ()
        found = read(tmp_path / f"a.{extension}")
        assert found.dtype == np.uint16 and np.array_equal(found.reshape(wanted.shape), wanted)


def test_a_png_is_whole(tmp_path, gradient):
    """Every chunk with its check sum, and both filters in use."""
    pixels = gradient.copy()
    pixels[128:] = pixels[:128].transpose(1, 0, 2).reshape(128, 256, 3)
    write_image(tmp_path / "a.png", pixels, metadata=Metadata(b"x" * 30, None, b"<x/>", (300.0, 300.0)))
    data, names, packed, place = (tmp_path / "a.png").read_bytes(), [], b"", 8
    while place < len(data):
        length, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        content = data[place + 8 : place + 8 + length]
        assert int.from_bytes(data[place + 8 + length : place + 12 + length], "big") == zlib.crc32(name + content)
        names, packed, place = [*names, name], packed + (content if name == b"IDAT" else b""), place + 12 + length
    assert list(dict.fromkeys(names)) == [b"IHDR", b"iCCP", b"pHYs", b"iTXt", b"IDAT", b"IEND"]
    assert set(zlib.decompress(packed)[:: 1 + 256 * 6]) == {1, 2}


@pytest.mark.parametrize("extension, name", [("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP")])
def test_formats_of_8_bits(tmp_path, gradient, extension, name):
    with pytest.raises(ImageError) as error:
        write_image(tmp_path / f"a.{extension}", gradient)
    file = tmp_path / f"a.{extension}"
    assert str(error.value) == f"{file}: {name} cannot hold 16 bits per channel; use .png, .tif or 8 bits"


def test_transparency_takes_the_bits_of_the_pixels(tmp_path):
    alpha = np.arange(256, dtype=np.uint8)[None]
    write_image(tmp_path / "a.png", np.zeros((1, 256, 3), np.uint16), alpha)
    assert np.array_equal(read(tmp_path / "a.png")[0, :, 3], np.arange(256) * 257)
    write_image(tmp_path / "a.png", np.zeros((1, 256, 3), np.uint8), alpha.astype(np.uint16) * 257)
    assert np.array_equal(read(tmp_path / "a.png")[..., 3], alpha)


def test_bits():
    every = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_bits(every, 8), np.rint(every / 257)) and to_bits(every, 8).dtype == np.uint8
    assert np.array_equal(to_bits(to_bits(np.arange(256, dtype=np.uint8), 16), 8), np.arange(256))
    assert to_bits(every, 16) is every


def test_gray_of(gradient):
    assert np.array_equal(gray_of(gradient), gradient[..., 0])
    pixels = np.random.default_rng(5).integers(0, 65536, (50, 50, 3), dtype=np.uint16)
    wanted = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))
    assert np.abs(gray_of(pixels).astype(float) - wanted).max() <= 1 and gray_of(pixels).dtype == np.uint16


def test_quantize_to_16_bits():
    levels = torch.arange(65536) / 65535
    for dtype in (torch.float32, torch.float64):
        image = levels.to(dtype).expand(3, 1, -1)
        assert np.array_equal(quantize(image, rounded=True, bits=16)[0, :, 1], np.arange(65536))
    values = torch.tensor([-1.0, 0.99 / 65535, 1.5 / 65535, 1.0, 2.0]).expand(3, 1, 5)
    assert quantize(values, bits=16)[0, :, 0].tolist() == [0, 0, 1, 65535, 65535]
    assert quantize(values.half(), bits=16)[0, :, 0].tolist() == [0, 0, 1, 65535, 65535]
