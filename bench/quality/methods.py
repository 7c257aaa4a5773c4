"""The methods of brightening a picture that docs/quality.md compares, and what is measured of their results."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

import sci_kernels
from model import Enhancer
from sci_kernels import reference
from sci_kernels.constants import LUMA, TARGET
from train.evaluate import loe, psnr, ssim

CLIPPED = 254
DEFAULT, UNFILTERED = "default", "default, no filter"
BARE, PUBLISHED = "default, no network", "published division"

Method = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 to the same


class Measures(NamedTuple):
    """Measures of one result. All but LOE and clipped compare with the truth, and are NaN where there is none."""

    psnr: float
    ssim: float
    loe: float
    clipped: float  # percent of pixels with CLIPPED or more in a channel, minus that of the dark picture
    color: float  # the mean of max(R, G, B) - min(R, G, B), relative to the truth's; NaN in black and white


@functools.cache
def default_enhancer() -> Enhancer:
    """What `python -m model.enhance` does without options, on a CPU."""
    return Enhancer(device="cpu")


def all_methods() -> dict[str, Method]:
    """The methods that are compared, by name; this project's come first."""
    from skimage.exposure import equalize_adapthist, equalize_hist

    return {
        DEFAULT: default_enhancer(),
        UNFILTERED: Enhancer(device="cpu", denoise=0),
        BARE: without_network,
        PUBLISHED: Enhancer(device="cpu", exposure=None),
        "gamma 2.2": lambda dark: _rounded((dark / 255.0) ** (1 / 2.2)),
        "CLAHE": lambda dark: _rounded(_of_value(dark, equalize_adapthist)),
        "histogram equalization": lambda dark: _rounded(_of_value(dark, equalize_hist)),
    }


def exposure_of(picture: np.ndarray) -> float:
    """The exposure c that the default finds."""
    found = default_enhancer().exposures(_planes(picture))
    return math.nan if found is None else float(found)


@torch.no_grad()
def without_network(dark: np.ndarray) -> np.ndarray:
    """The default's formula, rule and filter with s = 1: the network's value where it adds most light."""
    x = _planes(dark)
    points = reference.as_floating(reference.sample(x))
    c = reference.find_exposure(points, points + 1, TARGET, 1.0)
    bright, gain = reference.expose(reference.as_floating(x), reference.as_floating(x) + 1, c, 1.0)
    if float(c) == 0:
        return dark
    bright = sci_kernels.denoise((bright * 255).round().to(torch.uint8), gain)
    return bright[0].permute(1, 2, 0).contiguous().numpy()


def measure(result: np.ndarray, dark: np.ndarray, truth: np.ndarray | None = None) -> Measures:
    """Compares a result with the picture it was made from, and with the truth where there is one."""
    clipped = 100 * (_clipped(result) - _clipped(dark))
    if truth is None:
        return Measures(math.nan, math.nan, loe(result, dark), clipped, math.nan)
    color = _color(result) / _color(truth) if _color(truth) else math.nan
    return Measures(psnr(result, truth), ssim(result, truth), loe(result, dark), clipped, color)


def luma(picture: np.ndarray) -> float:
    """The mean luma of all pixels, in [0, 1]."""
    return float(picture.mean(axis=(0, 1)) @ LUMA) / 255


def _color(picture: np.ndarray) -> float:
    return float((picture.max(axis=2).astype(float) - picture.min(axis=2)).mean())


def _clipped(picture: np.ndarray) -> float:
    return float((picture >= CLIPPED).any(axis=2).mean())


def _of_value(picture: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The picture in [0, 1] after applying `function` to its value, max(R, G, B); hue and saturation stay the same."""
    value = picture.max(axis=2)
    wanted = function(value)
    return picture * (wanted / np.maximum(value, 1))[..., None]


def _planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(255 * values.clip(0, 1)).astype(np.uint8)
