"""Launch configurations, and the constants of the colour distance in the form the kernels use.

The transform is linear, so its bias cancels in differences and the squared colour distance of two pixels
that differ by v = (r, g, b) is the quadratic form

    |M^T v|^2 = v^T (M M^T) v = |U v|^2         U the upper triangular Cholesky factor of M M^T

which takes 6 multiplications where the matrix takes 9; its gradient is 2 U^T U v.
"""

from dataclasses import dataclass

import numpy as np

from ..constants import COLOR_MATRIX


@dataclass(frozen=True)
class Launch:
    """Pixels a program computes, as rows and columns of its tile, and the warps it runs on."""

    block_h: int
    block_w: int
    num_warps: int


# A thread takes 4 pixels of a row, so a warp takes 128. Backward programs of one warp are where ptxas spills on no
# target. In float64, which is there to be exact, a thread takes one pixel: registers are twice as wide.
LOSS_FORWARD = Launch(block_h=4, block_w=128, num_warps=4)
LOSS_BACKWARD = Launch(block_h=1, block_w=128, num_warps=1)
LOSS_FP64 = Launch(block_h=2, block_w=128, num_warps=8)
ELEMENTWISE = Launch(block_h=1, block_w=1024, num_warps=4)

# An interpreted program costs milliseconds whatever its size: few and large ones.
INTERPRETED_TILE = Launch(block_h=64, block_w=64, num_warps=1)


def _upper(matrix: np.ndarray) -> tuple[float, ...]:
    """The six entries on and above the diagonal, row by row."""
    return tuple(float(matrix[i, j]) for i in range(3) for j in range(i, 3))


YCBCR_FACTOR = _upper(np.linalg.cholesky(np.asarray(COLOR_MATRIX) @ np.asarray(COLOR_MATRIX).T).T)
