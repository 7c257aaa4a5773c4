"""How bright pictures are: the mean luma of stored values, 0.299 R + 0.587 G + 0.114 B, in [0, 1].

It is the mean over the points that the exposure is found from: every k-th pixel of every k-th row, 256 to 511 along the
longer side. In a picture with transparency only the visible part counts: the colors that nobody sees are mostly black.
"""

import numpy as np
import numpy.typing as npt

from sci_kernels.constants import LUMA
from sci_kernels.reference import sample_step


def sample(pixels: np.ndarray) -> np.ndarray:
    """The points of a picture (H, W, 3), a view."""
    step = sample_step(*pixels.shape[:2])
    return pixels[::step, ::step]


def visible_sample(pixels: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """The points of the visible part, in which visible ones replace those that are fully transparent.

    The replacements are taken evenly from the visible points in row order, so that the mean over all points is that
    over the visible ones.

    Args:
        alpha: transparency (H, W); None: all is visible. If nothing is visible, all points stay as they are.
    """
    points, seen = _points(pixels, alpha)
    if seen.all():
        return points
    visible, hidden = points[seen], np.count_nonzero(~seen)
    points = points.copy()
    points[~seen] = visible[(2 * np.arange(hidden) + 1) * len(visible) // (2 * hidden)]
    return points


def brightness(pixels: np.ndarray, alpha: np.ndarray | None = None) -> float:
    """Mean luma of a picture (H, W, 3), uint8 or uint16, of what is visible where it has transparency (H, W)."""
    points, seen = _points(pixels, alpha)
    points = points if seen.all() else points[seen][None]
    means = points.mean(axis=(0, 1), dtype=np.float64)
    return float(means @ LUMA) / np.iinfo(pixels.dtype).max


def _points(pixels: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The points of the smallest rectangle around all that is visible, and which of them are visible: at least one."""
    if alpha is not None and (visible := alpha > 0).any():
        box = tuple(_extent(visible.any(axis)) for axis in (1, 0))
        points, seen = sample(pixels[box]), sample(visible[box])
        if seen.any():
            return points, seen
        points = pixels[visible][None]  # lines so thin that they miss every point
        return points, np.ones(points.shape[:2], bool)
    points = sample(pixels)
    return points, np.ones(points.shape[:2], bool)


def _extent(lines: npt.ArrayLike) -> slice:
    """From the first line that is set to the last."""
    numbers = np.flatnonzero(lines)
    return slice(numbers[0], numbers[-1] + 1)
