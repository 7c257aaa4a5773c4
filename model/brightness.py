"""How bright pictures are: the mean luma of stored values, 0.299 R + 0.587 G + 0.114 B, in [0, 1].

Looked at are the points that exposure is found from: every k-th of every k-th row, 256 to 511 along the longer side.
"""

import numpy as np

from sci_kernels.constants import LUMA
from sci_kernels.reference import sample_step


def sample(pixels: np.ndarray) -> np.ndarray:
    """The points of a picture (H, W, 3), a view."""
    step = sample_step(*pixels.shape[:2])
    return pixels[::step, ::step]


def brightness(pixels: np.ndarray) -> float:
    """Mean luma of a picture (H, W, 3), uint8 or uint16."""
    means = sample(pixels).mean(axis=(0, 1), dtype=np.float64)
    return float(means @ LUMA) / np.iinfo(pixels.dtype).max
