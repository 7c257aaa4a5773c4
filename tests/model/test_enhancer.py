"""The three-line interface: every kind of picture, given back as it came; strength; tiles."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import sci_kernels
from model import EnhanceNetwork, Enhancer, ImageError, Picture, enhance_image, fold, load_weights, quantize, read_image
from model.enhance import main
from model.enhancement.enhancer import tiles


@pytest.fixture(scope="module")
def network():
    module = EnhanceNetwork()
    load_weights(module)
    return module


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 120, (45, 22, 3), dtype=np.uint8)


def bright_pixels(network, pixels, denoise=1.0) -> np.ndarray:
    """By the operators' definitions, in double precision."""
    image, weights = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255, fold(network)
    exposure = sci_kernels.exposure(image, weights, impl="reference")
    options = {"exposure": exposure, "return_gain": True, "impl": "reference"}
    bright, gain = sci_kernels.enhance(image, weights, **options)
    return quantize(sci_kernels.denoise(bright, gain, denoise, impl="reference")[0], rounded=True)


def published_pixels(network, pixels) -> np.ndarray:
    """By the plain network, in floating point."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return quantize(enhance_image(network, image, impl="plain")[1][0])


def same(actual: np.ndarray, wanted: np.ndarray) -> bool:
    return actual.dtype == wanted.dtype and np.abs(actual.astype(int) - wanted.astype(int)).max() <= 1


def test_paths_and_pil_images(network, pixels, tmp_path):
    enhancer = Enhancer(device="cpu")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels)):
        result = enhancer(source)
        assert isinstance(result, Image.Image) and result.mode == "RGB"
        assert same(np.asarray(result), bright_pixels(network, pixels))
    with pytest.raises(ImageError, match="none.png: no such file"):
        enhancer("none.png")


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P"])
def test_modes_of_pil_images(pixels, mode):
    image = Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        image.putalpha(77)
    before = image.copy()
    result = Enhancer(device="cpu")(image)
    assert result.mode == {"P": "RGB"}.get(mode, mode) and result.size == image.size
    assert mode != "RGBA" or np.all(np.asarray(result)[..., 3] == 77)
    assert np.asarray(result.convert("L")).mean() > np.asarray(image.convert("L")).mean() + 5
    assert image.mode == before.mode and image.tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_arrays(network, pixels, dtype):
    array = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    enhancer, before = Enhancer(device="cpu"), array.copy()
    result = enhancer(array)
    assert result.dtype == dtype and result.shape == array.shape and np.array_equal(array, before)
    scale = 1 if dtype == np.uint8 else 255
    assert np.abs(result.astype(float) * scale - bright_pixels(network, pixels)).max() <= (
        2 if dtype == np.float16 else 1.01
    )
    assert np.array_equal(enhancer(np.stack([array, array]))[1], result)
    assert np.array_equal(enhancer(array[::-1, :, ::-1])[::-1, :, ::-1].shape, result.shape)
    array.setflags(write=False)
    assert np.array_equal(enhancer(array), result)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("exposure", ["auto", None])
def test_gray_arrays(pixels, dtype, exposure, tmp_path):
    """As the command enhances a gray file, and no brightness lost on the way."""
    plane = pixels[..., 0] if dtype == np.uint8 else (pixels[..., 0] / 255).astype(dtype)
    enhancer, before = Enhancer(device="cpu", exposure=exposure), plane.copy()
    result = enhancer(plane)
    assert result.dtype == dtype and result.shape == plane.shape and np.array_equal(plane, before)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    command = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, *([] if exposure else ["--published"])]) == 0
    wanted = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert wanted.ndim == 2
    if dtype == np.uint8:
        assert np.array_equal(result, wanted) and np.array_equal(enhancer(plane[:, ::-1])[:, ::-1].shape, result.shape)
    else:
        assert np.abs(result.astype(float) * 255 - wanted).max() <= 2
    assert np.array_equal(Enhancer(device="cpu", strength=0.0)(plane), plane)
    assert all(np.array_equal(one, result) for one in enhancer([plane, plane]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_tensors_and_lists(network, pixels, dtype):
    enhancer = Enhancer(device="cpu")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    tensor = tensor if dtype == torch.uint8 else (tensor / 255).to(dtype)
    result = enhancer(tensor)
    assert result.dtype == dtype and result.shape == tensor.shape
    batch = enhancer(torch.stack([tensor, tensor]))
    assert torch.equal(batch[0], result) and torch.equal(batch[1], result)
    listed = enhancer([tensor, pixels])
    assert torch.equal(listed[0], result) and isinstance(listed[1], np.ndarray)
    assert not enhancer(tensor.float().div(255 if dtype == torch.uint8 else 1).requires_grad_()).requires_grad


def test_each_image_of_a_batch_has_its_own_exposure():
    batch = torch.stack([torch.full((3, 6, 6), 0.1), torch.full((3, 6, 6), 0.35), torch.full((3, 6, 6), 0.9)])
    enhancer = Enhancer(device="cpu")
    result = enhancer(batch)
    assert torch.equal(result[2], batch[2]) and (result[0] > 1.5 * batch[0]).all()
    assert all(torch.equal(enhancer(one), bright) for one, bright in zip(batch, result, strict=True))


@pytest.mark.parametrize("exposure", ["auto", 3.0, None])
def test_strength(pixels, exposure):
    whole, none = (Enhancer(device="cpu", exposure=exposure, strength=s)(pixels) for s in (1.0, 0.0))
    assert np.array_equal(none, pixels)
    half = Enhancer(device="cpu", exposure=exposure, strength=0.5)
    if exposure is None:
        assert np.abs(half(pixels) - (pixels.astype(float) + whole) / 2).max() <= 0.5
    else:
        full = Enhancer(device="cpu", exposure=exposure).picture(Picture(pixels)).exposure
        assert half.picture(Picture(pixels)).exposure == pytest.approx(full / 2)
        assert pixels.mean() + 5 < half(pixels).mean() < whole.mean() - 5


def test_the_published_division(network, pixels):
    result = Enhancer(device="cpu", exposure=None).picture(Picture(pixels))
    assert same(result.pixels, published_pixels(network, pixels)) and result.exposure is None and not result.left
    assert result.line == f"brightness {result.before:.2f} to {result.after:.2f}"
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert np.array_equal(result.pixels, sci_kernels.enhance(image, fold(network))[0].permute(1, 2, 0))


def test_denoising(network, pixels):
    for strength in (0.0, 0.5, 4.0):
        result = Enhancer(device="cpu", denoise=strength)(pixels)
        assert same(result, bright_pixels(network, pixels, strength))


def test_values_that_are_not_meant_for_the_range_are_refused(pixels):
    enhancer = Enhancer(device="cpu")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float()
    for image in (pixels.astype(np.float32), pixels[..., 0].astype(np.float64), tensor, [tensor]):
        with pytest.raises(
            ValueError, match=r"image: expected values in \[0, 1\]; got 0 to 119; divide .* by 255, or give"
        ):
            enhancer(image)


def test_values_a_little_outside_the_range_are_said(pixels):
    """Each time, in the caller's line, so that Python's filter shows each place once."""
    enhancer, array = Enhancer(device="cpu"), (pixels / 119 * 1.25).astype(np.float32)
    for image in (array, array[..., 0], torch.from_numpy(array).permute(2, 0, 1), [[array]]):
        for _ in range(2):
            with pytest.warns(
                UserWarning, match=r"image: expected values in \[0, 1\]; got 0 to 1.25; what lies"
            ) as seen:
                enhancer(image)
            assert [warning.filename for warning in seen] == [__file__]
    for value in (np.nan, np.inf):
        with pytest.warns(UserWarning, match=f"got {value} to {value}"):
            assert np.array_equal(enhancer(np.full_like(array, value)), np.full_like(array, value), equal_nan=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enhancer((pixels / 255).astype(np.float32))


@pytest.mark.parametrize("level, left", [(200, True), (104, True), (101, False), (0, True)])
def test_what_is_bright_already_or_black_is_left_as_it_was(level, left):
    array = np.full((8, 8, 3), level, np.uint8)
    result = Enhancer(device="cpu").picture(Picture(array))
    assert result.left == left == np.array_equal(result.pixels, array) == (result.exposure == 0)
    assert result.line.endswith("left as it was") == left


def test_half(pixels):
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    result = Enhancer(device="cpu", half=True)(image)
    assert result.dtype == torch.float32 and (result - Enhancer(device="cpu")(image)).abs().max() < 4e-3


@pytest.mark.parametrize("rows", [1, 4, 30, 44, 1000])
def test_tiles_give_the_bits_of_the_whole(pixels, rows):
    whole, tiled = Enhancer(device="cpu"), Enhancer(device="cpu", tile=rows)
    assert np.array_equal(whole(pixels), tiled(pixels))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    assert torch.equal(whole(image), tiled(image))
    deep = Picture(np.repeat(pixels[..., :1].astype(np.uint16) * 257, 3, axis=2), gray=True)
    for actual, wanted in zip(tiled.picture(deep, True)[:2], whole.picture(deep, True)[:2], strict=True):
        assert np.array_equal(actual, wanted)


def test_a_network_of_another_shape_in_tiles(pixels):
    torch.manual_seed(0)
    network = EnhanceNetwork(layers=3, channels=5).double()
    image = torch.from_numpy(pixels).permute(2, 0, 1).double() / 255
    wanted = enhance_image(network, image[None])[1][0]
    for rows in (None, 7):
        enhancer = Enhancer(network, device="cpu", tile=rows, exposure=None)
        assert (enhancer(image) - wanted).abs().max() < 1e-12
        assert same(enhancer(pixels), quantize(wanted))
    with pytest.raises(
        ValueError, match="exposure: cannot be used with these weights, .* has 3 and 5; use exposure=No"
    ):
        Enhancer(network, device="cpu")


def test_tiles_cover_the_image():
    for height, rows in ((1, 1), (10, 3), (10, 10), (10, 99)):
        covered = [row for tile in tiles(height, rows, 3) for row in range(tile.low, tile.high)[tile.own]]
        assert covered == list(range(height))
    assert [tile[2:] for tile in tiles(10, 4, 3)] == [(0, 7), (1, 10), (5, 10)]


def test_sixteen_bits_and_illumination(network):
    deep = np.random.default_rng(2).integers(0, 20000, (9, 8), dtype=np.uint16)
    picture = Picture(np.repeat(deep[..., None], 3, axis=2), gray=True)
    illumination, reflectance = enhance_image(network, picture.tensor()[None], impl="plain")
    result = Enhancer(device="cpu", exposure=None).picture(picture, illumination=True)
    assert same(result.pixels, quantize(reflectance[0])) and same(result.illumination, quantize(illumination[0]))
    exposed = Enhancer(device="cpu").picture(picture, illumination=True)
    assert np.array_equal(exposed.illumination, result.illumination) and exposed.after == pytest.approx(0.4, abs=0.02)


def test_wrong_arguments_are_named(pixels):
    enhancer = Enhancer(device="cpu")
    for wrong, error, message in (
        (3, TypeError, "image: expected a path, PIL image, array, tensor or a list of them; got int"),
        (
            pixels[0, 0],
            ValueError,
            r"image: expected an array \(H, W\), \(H, W, 3\) or \(N, H, W, 3\), none of them 0; got shape \(3,\)",
        ),
        (pixels[..., :2], ValueError, r"image: expected an array .*; got shape \(45, 22, 2\)"),
        (pixels[..., 0].astype(np.int32), TypeError, "image: expected uint8, uint16, or floating .* 1.; got int32"),
        (pixels[:0, :, 0], ValueError, "image: expected .*none of them 0"),
        (pixels.astype(np.int64), TypeError, "image: expected uint8, uint16, or floating .* 1.; got int64"),
        (torch.zeros(4, 5, 5), ValueError, r"image: expected \(3, H, W\) or \(N, 3, H, W\).*got \(4, 5, 5\)"),
        (torch.zeros(3, 5, 5, dtype=torch.int32), TypeError, "image: expected uint8.*got torch.int32"),
    ):
        with pytest.raises(error, match=message):
            enhancer(wrong)
    for options, message in (
        ({"strength": 1.5}, "strength: expected"),
        ({"exposure": "bright"}, "exposure: expected a number from 0 to 20, 'auto' or None; got 'bright'"),
        ({"exposure": 21}, "exposure: expected a number from 0 to 20"),
        ({"exposure": float("nan")}, "exposure: expected a number from 0 to 20"),
        ({"denoise": 5}, "denoise: expected a number from 0 to 4; got 5"),
        ({"denoise": 1, "exposure": None}, "denoise: the published division has no filter; got 1"),
        ({"tile": 0}, "tile: expected a number of rows"),
    ):
        with pytest.raises(ValueError, match=message):
            Enhancer(**options)
    with pytest.raises(TypeError, match="weights: expected a path, or Network.*got Linear"):
        Enhancer(torch.nn.Linear(1, 1))


def test_the_file_is_read_as_the_command_reads_it(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert Enhancer(device="cpu")(tmp_path / "turned.png").size == (45, 22)
    with Image.open(tmp_path / "turned.png") as image:
        assert Enhancer(device="cpu")(image).size == read_image(tmp_path / "turned.png").pixels.shape[1::-1]
