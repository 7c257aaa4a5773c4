"""Remove flicker from videos: a smoothed exposure, or a gain, for each frame."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

# In a new scene the coarse picture, divided by its mean, differs by this share, or the brightness by this factor.
_CUT, _JUMP = 0.3, math.log(1.6)
_COARSE = 8  # cells per side of the coarse picture


class _Frame(NamedTuple):
    """What is remembered of the frame before."""

    time: float  # seconds
    level: float  # m_t
    average: float  # s_t
    coarse: Tensor  # the 8x8 block means, divided by their mean


class Steady:
    """Smooths the brightness of a video over time.

    With m_t a level of frame t and d seconds since the frame before:

        a    = exp(-d / seconds)
        s_t  = a s_{t-1} + (1 - a) m_t        exponential moving average; s_t = m_t in the first frame of a scene

    For exposures m_t = log(1 + c_t), and frame t gets the exposure exp(s_t) - 1. Exposures damp flicker by themselves,
    as the brighter of two frames gets the smaller one; the average does the rest. For the published division, with R_t
    the reflectance:

        m_t  = log(mean R_t)
        g_t  = exp(s_t - m_t)
        L'_t = L_t / g_t                      so that R'_t = clamp(image / L'_t, 0, 1) = clamp(g_t R_t, 0, 1)

    The mean of R' follows the average instead of jumping with each frame, whether the illumination flickers or the
    exposure of the source does. Averaging L itself would be worse: L follows the image, so R = image / L hides part of
    a change of exposure, which an averaged L would show in full; and moving objects would leave ghosts. One number for
    the whole frame leaves no ghosts and changes no color.

    A scene begins at a frame whose 8x8 block means (of the image, or of R), divided by their mean, differ from those of
    the frame before by more than 0.3 on average, or whose m_t differs from m_{t-1} by more than log 1.6: a light being
    switched on is not flicker. In a slow fade the average lags behind by log 1.6 at most.

    Args:
        seconds: the time constant, above 0. A flicker of f hertz is damped by sqrt(1 + (2 pi f seconds)^2).
    """

    def __init__(self, seconds: float):
        if not seconds > 0:
            raise ValueError(f"seconds: expected more than 0; got {seconds}")
        self.seconds = seconds
        self._before: _Frame | None = None

    def gain(self, reflectance: Tensor, time: float) -> float:
        """g_t of the next frame: `reflectance` `(1, 3, H, W)` in [0, 1], shown at `time` seconds."""
        level = math.log(max(float(reflectance.double().mean()), 1e-4))
        return math.exp(self._smooth(level, reflectance, time) - level)

    def exposure(self, exposure: float, image: Tensor, time: float) -> float:
        """The exposure of the next frame `image` `(1, 3, H, W)`, for which c = `exposure` was found."""
        return math.expm1(self._smooth(math.log1p(exposure), image, time))

    def _smooth(self, level: float, image: Tensor, time: float) -> float:
        """s_t of the next frame."""
        coarse = adaptive_avg_pool2d(image.mean(dim=1, keepdim=True), _COARSE).double().cpu()
        coarse = coarse / max(float(coarse.mean()), 1e-4)
        average, before = level, self._before
        if before is not None and not _is_cut(before, coarse, level):
            keep = math.exp(-max(time - before.time, 0.0) / self.seconds)
            average = keep * before.average + (1 - keep) * level
            average = min(max(average, level - _JUMP), level + _JUMP)
        self._before = _Frame(time, level, average, coarse)
        return average


def _is_cut(before: _Frame, coarse: Tensor, level: float) -> bool:
    """Whether a frame begins a new scene."""
    return abs(level - before.level) > _JUMP or float(torch.mean(torch.abs(coarse - before.coarse))) > _CUT
