"""How bright pictures are: the mean luma of stored values, 0.299 R + 0.587 G + 0.114 B, in [0, 1].

Looked at are the points that exposure is found from: every k-th of every k-th row, 256 to 511 along the longer side.
Of a picture with transparency they are those of its part that shows: a color that nobody sees, mostly black, counts
for nothing.
"""

import numpy as np

from sci_kernels.constants import LUMA
from sci_kernels.reference import sample_step


def sample(pixels: np.ndarray) -> np.ndarray:
    """The points of a picture (H, W, 3), a view."""
    step = sample_step(*pixels.shape[:2])
    return pixels[::step, ::step]


def visible_sample(pixels: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """The points of the part that shows, with visible ones in the place of those that are fully transparent.

    The visible ones are taken evenly in the order of rows, so that means over all points are means over these.

    Args:
        alpha: transparency (H, W); None: all is visible. Where nothing is, all points are as they are.
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
    """The points of the least rectangle with all that is visible, and which of them are; at least one is."""
    if alpha is not None and (visible := alpha > 0).any():
        box = tuple(_extent(visible.any(axis)) for axis in (1, 0))
        points, seen = sample(pixels[box]), sample(visible[box])
        if seen.any():
            return points, seen
        points = pixels[visible][None]  # lines so thin that no point is on them
        return points, np.ones(points.shape[:2], bool)
    points = sample(pixels)
    return points, np.ones(points.shape[:2], bool)


def _extent(lines: np.ndarray) -> slice:
    """From the first to the last that is set."""
    numbers = np.flatnonzero(lines)
    return slice(numbers[0], numbers[-1] + 1)
