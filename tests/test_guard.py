"""The guard: normally exposed photographs keep their highlights, dark ones get all of the enhancement."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model import Enhancer, read_image
from model.guard import BRIGHT, DARK, brightness, guard_amount


def clipped(pixels: np.ndarray, level: int) -> float:
    return float((pixels >= level).any(axis=2).mean())


def test_brightness_is_the_mean_luma():
    image = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1).expand(3, 5, 7)
    assert brightness(image) == pytest.approx(0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6)
    assert brightness((255 * image).round().to(torch.uint8)) == pytest.approx(brightness(image), abs=2e-3)
    large = torch.zeros(3, 2048, 8)
    large[:, ::2] = 1.0  # only rows of the grid, 0, 4, ...
    assert brightness(large) == pytest.approx(1.0)


def test_the_amount_falls_from_dark_to_bright():
    values = [0.0, DARK, (DARK + BRIGHT) / 2, BRIGHT, 1.0, float("nan")]
    assert [guard_amount(value) for value in values] == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0, 1.0])


def test_normally_exposed_photographs_are_not_clipped():
    """At white and just below: the network approaches white without reaching it."""
    skimage = pytest.importorskip("skimage")
    from bench.lowlight import PHOTOGRAPHS

    guarded, bare = Enhancer(device="cpu"), Enhancer(device="cpu", guard=False)
    without_guard = []
    for name in PHOTOGRAPHS:
        picture = read_image(Path(skimage.__file__).parent / "data" / name)
        for level in (250, 255):
            assert clipped(guarded.picture(picture).pixels, level) <= clipped(picture.pixels, level) + 0.01, name
        without_guard.append(clipped(bare.picture(picture).pixels, 250) - clipped(picture.pixels, 250))
    assert max(without_guard) > 0.03  # what the guard is for


def test_dark_photographs_are_not_touched_by_it(tmp_path):
    pytest.importorskip("skimage")
    from bench.lowlight import write_photographs

    for path in write_photographs(tmp_path, max_side=120):
        guarded = Enhancer(device="cpu").picture(read_image(path))
        assert guarded.amount == 1.0 and guarded.note is None
        assert np.array_equal(guarded.pixels, Enhancer(device="cpu", guard=False).picture(read_image(path)).pixels)


def test_official_photographs_are_not_touched_by_it(official):
    for path in sorted((official / "images").glob("*/*")):
        pixels = read_image(path).pixels
        assert guard_amount(brightness(torch.from_numpy(pixels).permute(2, 0, 1))) == 1.0, path


@pytest.mark.parametrize("level, amount", [(200, 0.0), (89, 0.51), (50, 1.0)])
def test_what_it_did_is_said(level, amount):
    array = np.full((8, 8, 3), level, np.uint8)
    result = Enhancer(device="cpu").picture(read_picture(array))
    assert result.amount == pytest.approx(amount, abs=0.01)
    if amount == 0.0:
        assert np.array_equal(result.pixels, array) and result.note.startswith(
            "bright already (mean 0.78, from 0.40 on)"
        )
    elif amount < 1.0:
        assert result.note.startswith("not dark (mean 0.35); enhanced by 0.51 of 1")
    else:
        assert result.note is None


def read_picture(array):
    from model import Picture

    return Picture(array)
