"""Launch configurations, and the constants of the colour distance in the form the kernels use.

The transform is linear, so its bias cancels in differences and the squared colour distance of two pixels
that differ by v = (r, g, b) is the quadratic form

    |M^T v|^2 = v^T (M M^T) v = |U v|^2         U the upper triangular Cholesky factor of M M^T

which takes 6 multiplications where the matrix takes 9; its gradient is 2 U^T U v.
"""

from dataclasses import dataclass

import numpy as np
import torch
import triton
from torch import Tensor

from ..constants import COLOR_MATRIX

# Elements, or triples of them, that a program of the elementwise kernels takes on 4 warps.
RETINEX_BLOCK = 2048
COLOR_BLOCK = 1024
# Pixels of one channel; blocks of them that are put together at a time.
BATCH_NORM_BLOCK = 2048
BATCH_NORM_FINISH = 512

# Of every launch: a multiplication and the addition of its result are one instruction with one rounding. `divide` needs
# that for its digits and all kernels for their speed, and it is Triton's default only up to 3.9.
FUSED = {"enable_fp_fusion": True}


@dataclass(frozen=True)
class Launch:
    """How a program of a marching kernel covers the image, and what the compiler is told.

    It has bands * strips threads; each owns `columns` pixels of a row and marches down a band of rows. A long
    march spares the rows above, which every march begins with; a short one gives a small image to more programs.
    """

    strips: int
    columns: int
    bands: int = 1
    longest: int = 32
    shortest: int = 8
    programs: int = 2048  # as many as the march is shortened for
    warps: int = 1
    registers: int | None = None  # a thread's, on NVIDIA; ptxas, left alone, would rather spill than use so many

    def march(self, height: int, across: int) -> int:
        """Rows a thread marches down where `across` programs lie side by side, over all images."""
        wanted = triton.cdiv(height * across, self.programs * self.bands)
        return min(max(wanted, self.shortest), self.longest)

    def options(self, ptx_level: int) -> dict[str, int | bool]:
        """Triton's options of the launch."""
        registers = {"maxnreg": self.registers} if self.registers and ptx_level >= 1 else {}
        return {"num_warps": self.warps, **FUSED, **registers}


def loss_launch(x: Tensor, dtype: torch.dtype, registers: int | None = None) -> Launch:
    """The launch of both loss kernels: one warp a program, 4 pixels a thread; 1 in float64 and if there are only 3."""
    columns = 4 if dtype == torch.float32 and x.shape[3] >= 4 else 1
    if not x.is_cuda or triton.knobs.runtime.interpret:
        # An interpreted program costs seconds whatever its size: few, with many threads and short marches.
        if columns == 4:
            return Launch(strips=16, columns=4, bands=64, longest=1, shortest=1)
        return Launch(strips=64, columns=1, bands=32, longest=2, shortest=2)
    return Launch(strips=64 if torch.version.hip else 32, columns=columns, registers=registers)


def enhance_launch(x: Tensor, dtype: torch.dtype) -> Launch:
    """The launch of the enhance kernel; its march begins with 6 rows that others have, so it is longer."""
    if not x.is_cuda or triton.knobs.runtime.interpret:
        if dtype == torch.float32:
            return Launch(strips=8, columns=4, bands=32, longest=2, shortest=2)
        return Launch(strips=32, columns=1, bands=32, longest=2, shortest=2)
    strips = 64 if torch.version.hip else 32
    return Launch(strips, columns=4 if dtype == torch.float32 else 1, longest=64, programs=1024, registers=255)


def _upper(matrix: np.ndarray) -> tuple[float, ...]:
    """The six entries on and above the diagonal, row by row."""
    return tuple(float(matrix[i, j]) for i in range(3) for j in range(i, 3))


YCBCR_FACTOR = _upper(np.linalg.cholesky(np.asarray(COLOR_MATRIX) @ np.asarray(COLOR_MATRIX).T).T)
