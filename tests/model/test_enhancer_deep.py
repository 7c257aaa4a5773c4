"""Results of 16 bits: no level is lost on the way, and they are those of a computation in double precision."""

import numpy as np
import pytest
import torch

import sci_kernels
from model import EnhanceNetwork, Enhancer, Picture, enhance_image, fold, load_weights
from model.images.writers.choose_writer import gray_of


@pytest.fixture(scope="module")
def network():
    module = EnhanceNetwork()
    load_weights(module)
    return module


def gray(plane: np.ndarray) -> Picture:
    return Picture(np.repeat(plane.astype(np.uint16)[..., None], 3, axis=2), gray=True)


def definition(network, pixels: np.ndarray, exposure: float, denoise: float) -> np.ndarray:
    """In double precision, in levels, not rounded."""
    image = torch.from_numpy(pixels.astype(np.float64) / np.iinfo(pixels.dtype).max).permute(2, 0, 1)[None]
    options = {"exposure": torch.tensor([exposure], dtype=torch.float64), "return_gain": True, "impl": "reference"}
    bright, gain = sci_kernels.enhance(image, fold(network), **options)
    bright = sci_kernels.denoise(bright, gain, denoise, impl="reference")
    return bright[0].permute(1, 2, 0).numpy() * 65535


@pytest.mark.parametrize("denoise", [0.0, 1.0])
@pytest.mark.parametrize("exposure", ["auto", 3.0, 20.0])
def test_a_dark_gradient_has_no_bands(network, exposure, denoise):
    """The darkest 16,384 grays in a row: as many come out, each at least as bright as the one before."""
    picture = gray(np.arange(16384).reshape(1, -1))
    result = Enhancer(device="cpu", exposure=exposure, denoise=denoise).picture(picture, bits=16)
    assert result.pixels.dtype == np.uint16 and np.array_equal(gray_of(result.pixels), result.pixels[..., 2])
    values = result.pixels[0, :, 0].astype(int)
    steps = np.diff(values)
    # The steepest step is that of the gain of black, 1 + 2 c at most, and what is rounded.
    assert steps.min() >= 0 and steps.max() <= 2 + 2 * result.exposure
    # 20 makes of the darkest quarter almost all there is, and the brighter grays come together.
    inside = values[2:-2]  # at the ends the filter has neighbors on one side alone
    assert len(np.unique(inside)) >= (12000 if exposure == 20.0 else len(inside))
    wanted = definition(network, picture.pixels, result.exposure, denoise)
    assert np.abs(result.pixels - wanted).max() < 0.55  # of which rounding is 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("exposure", ["auto", 7.0])
def test_agrees_with_double_precision(network, dtype, exposure):
    """All 65,536 grays as a square, whose rows begin anew, and noise in color."""
    square = np.repeat(np.arange(65536, dtype=np.uint16).reshape(256, 256, 1), 3, axis=2)
    noise = np.random.default_rng(6).integers(0, 20000, (40, 50, 3), dtype=np.uint16)
    for pixels in (square, noise):
        pixels = pixels if dtype == np.uint16 else (pixels >> 8).astype(np.uint8)
        result = Enhancer(device="cpu", exposure=exposure).picture(Picture(pixels), bits=16)
        if not result.left:
            wanted = definition(network, pixels, result.exposure, 1.0)
            assert np.abs(result.pixels - wanted).max() < 0.55
        assert pixels is noise or pixels.shape != square.shape or np.ptp(result.pixels, axis=2).max() == 0


def test_the_published_division_and_the_illumination(network):
    pixels = np.random.default_rng(7).integers(0, 30000, (20, 30, 3), dtype=np.uint16)
    image = torch.from_numpy(pixels / 65535).permute(2, 0, 1)[None]
    planes = enhance_image(network.double(), image, impl="plain")
    network.float()
    result = Enhancer(device="cpu", exposure=None).picture(Picture(pixels), True, bits=16)
    for found, wanted in zip((result.illumination, result.pixels), planes, strict=True):
        assert found.dtype == np.uint16
        assert np.abs(found - wanted[0].permute(1, 2, 0).numpy() * 65535).max() < 0.6


@pytest.mark.parametrize("options", [{"exposure": 0.0}, {"strength": 0.0}, {"strength": 0.0, "exposure": None}, {}])
def test_what_is_left_as_it_was_keeps_its_values(options):
    """Also where "auto" finds the picture bright already."""
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    enhancer, picture = Enhancer(device="cpu", **options), gray(deep)
    assert np.array_equal(enhancer.picture(picture, bits=16).pixels, picture.pixels)
    nearest = np.rint(deep / 257).astype(np.uint8)
    assert np.array_equal(enhancer.picture(picture).pixels[..., 0], nearest)
    eight = Picture(np.repeat(nearest[..., None], 3, axis=2))
    assert np.array_equal(enhancer.picture(eight, bits=16).pixels, eight.pixels.astype(np.uint16) * 257)
    assert np.array_equal(enhancer.picture(eight).pixels, eight.pixels)


def test_8_bits_are_the_same_picture():
    """Of one source the result of 16 bits, rounded to 8, is that of 8."""
    pixels = np.random.default_rng(8).integers(0, 60, (30, 40, 3), dtype=np.uint8)
    eight, deep = (Enhancer(device="cpu").picture(Picture(pixels), bits=bits) for bits in (8, 16))
    assert eight.exposure == deep.exposure and eight.after == pytest.approx(deep.after, abs=1e-3)
    assert np.abs(eight.pixels - deep.pixels / 257).max() < 1.1  # the filter takes 8 bits of what is exposed
    assert len(np.unique(deep.pixels)) > 2 * len(np.unique(eight.pixels))


def test_half_precision_and_tiles_change_nothing():
    pixels = np.random.default_rng(9).integers(0, 9000, (33, 20, 3), dtype=np.uint16)
    whole = Enhancer(device="cpu").picture(Picture(pixels), bits=16).pixels
    for options in ({"half": True}, {"tile": 1}, {"tile": 7}):
        assert np.array_equal(Enhancer(device="cpu", **options).picture(Picture(pixels), bits=16).pixels, whole)


def test_arrays_of_16_bits():
    enhancer = Enhancer(device="cpu")
    dark = np.random.default_rng(10).integers(0, 9000, (20, 30, 3), dtype=np.uint16)
    bright = np.full_like(dark, 50001)
    wanted = enhancer.picture(Picture(dark), bits=16).pixels
    assert np.array_equal(enhancer(dark), wanted) and np.array_equal(enhancer(bright), bright)
    assert np.array_equal(enhancer(np.stack([dark, bright])), np.stack([wanted, bright]))
    plane = enhancer(dark[..., 0])
    assert plane.dtype == np.uint16 and np.array_equal(
        plane, enhancer.picture(gray(dark[..., 0]), bits=16).pixels[..., 0]
    )
    before = dark.copy()
    dark.setflags(write=False)
    turned = enhancer(dark[::-1])
    assert np.array_equal(dark, before) and turned.shape == dark.shape


def test_other_numbers_of_bits_are_refused():
    for bits in (12, "16", None):
        with pytest.raises(ValueError, match="bits: expected 8 or 16; got"):
            Enhancer(device="cpu").picture(Picture(np.zeros((2, 2, 3), np.uint8)), bits=bits)


def test_pixels_that_cannot_be_written_to(recwarn):
    """As some readers of files give them."""
    pixels = np.random.default_rng(1).integers(0, 60, (9, 12, 3), dtype=np.uint8)
    expected = Enhancer(device="cpu").picture(Picture(pixels)).pixels
    pixels.flags.writeable = False
    assert np.array_equal(Enhancer(device="cpu").picture(Picture(pixels)).pixels, expected) and not recwarn.list
