"""Brightness, and what transparency hides: it counts neither for that nor for the exposure."""

import numpy as np
import pytest
from PIL import Image

from model import Enhancer, Picture
from model.enhancement.mean_brightness import brightness, sample, visible_sample


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Dark, with light from one side, and larger than what is sampled of it."""
    light = np.linspace(0.02, 0.35, 700)[None, :, None] * np.linspace(1.0, 0.3, 500)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.01, (500, 700, 3))
    return np.clip(255 * (light * np.array([1.0, 0.8, 0.6]) + noise), 0, 255).astype(np.uint8)


def on_a_canvas(photograph: np.ndarray, color: int, shape: np.ndarray | None = None) -> Picture:
    """Of four times the size; `shape`: where the photograph is visible."""
    pixels = np.full((1000, 1400, 3), color, np.uint8)
    alpha = np.zeros((1000, 1400), np.uint8)
    pixels[311:811, 405:1105] = photograph
    alpha[311:811, 405:1105] = 255 if shape is None else 255 * shape
    pixels[alpha == 0] = color
    return Picture(pixels, alpha)


def test_a_transparent_canvas_counts_for_nothing(photograph):
    enhancer = Enhancer(device="cpu")
    alone = enhancer.picture(Picture(photograph))
    assert alone.exposure > 1
    for color in (0, 255):
        found = enhancer.picture(on_a_canvas(photograph, color))
        assert found.exposure == alone.exposure and found.before == alone.before
        assert found.after == pytest.approx(alone.after, rel=0.005)


def test_a_round_cutout(photograph):
    """What shows lies among what does not, whatever color that has."""
    y, x = np.mgrid[-1:1:500j, -1:1:700j]
    shape = (x * x + y * y < 0.9).astype(np.uint8)
    enhancer = Enhancer(device="cpu")
    black, white = (enhancer.picture(on_a_canvas(photograph, color, shape)) for color in (0, 255))
    assert black.exposure == white.exposure and black.before == white.before
    visible = photograph[shape == 1].mean(axis=0) / 255 @ [0.299, 0.587, 0.114]
    assert black.before == pytest.approx(visible, rel=0.005)
    # The same points as a picture of their own.
    square = photograph[shape == 1][: 490 * 500].reshape(490, 500, 3)
    assert black.exposure == pytest.approx(enhancer.picture(Picture(square)).exposure, rel=0.05)


def test_the_sample_has_visible_points_alone():
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    alpha = (generator.random((40, 30)) < 0.3).astype(np.uint16)
    alpha[0, 0] = alpha[-1, -1] = 65535
    points = visible_sample(pixels, alpha)
    assert points.shape == pixels.shape and np.array_equal(points[alpha > 0], pixels[alpha > 0])
    counts = [np.count_nonzero((points == color).all(axis=2)) for color in pixels[alpha > 0]]
    assert max(counts) - min(counts) <= 1
    assert brightness(pixels, alpha) == pytest.approx(brightness(pixels[alpha > 0][None]))


@pytest.mark.parametrize("alpha", [None, np.full((300, 600), 255, np.uint8), np.zeros((300, 600), np.uint8)])
def test_all_or_nothing_visible(alpha):
    pixels = np.random.default_rng(2).integers(0, 99, (300, 600, 3), dtype=np.uint8)
    assert np.array_equal(visible_sample(pixels, alpha), sample(pixels))
    assert brightness(pixels, alpha) == brightness(pixels)


def test_a_line_between_the_points_that_are_sampled():
    pixels, alpha = np.zeros((1200, 1200, 3), np.uint8), np.zeros((1200, 1200), np.uint8)
    ring = np.arange(1, 1200, 4)
    alpha[1, ring] = alpha[ring, 1] = 255
    alpha[0, 1] = alpha[1, 0] = 255
    pixels[alpha > 0] = 51
    assert brightness(pixels, alpha) == pytest.approx(0.2) and (visible_sample(pixels, alpha) == 51).all()


def test_pil_images_with_transparency(photograph):
    picture = on_a_canvas(photograph, 0)
    image = Image.fromarray(np.dstack([picture.pixels, picture.alpha]))
    image.info["icc_profile"] = bytes(16) + b"RGB "
    enhancer = Enhancer(device="cpu")
    result = np.asarray(enhancer(image))
    alone = np.asarray(enhancer(Image.fromarray(photograph)))
    # But for the edge, where the network and the filter see the canvas.
    assert np.array_equal(result[320:800, 415:1095, :3], alone[9:489, 10:690])
    assert np.array_equal(result[..., 3], picture.alpha)
    assert enhancer(image).info["icc_profile"] == image.info["icc_profile"]
