"""Launch configurations, and the constants of the color distance in the form the kernels use.

The transform is linear, so its bias cancels in differences and the squared color distance of two pixels
that differ by v = (r, g, b) is the quadratic form

    |M^T v|^2 = v^T (M M^T) v = |U v|^2         U the upper triangular Cholesky factor of M M^T

which takes 6 multiplications where the matrix takes 9; its gradient is 2 U^T U v.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import triton
from torch import Tensor

from ..constants import COLOR_MATRIX

# Decided when kernels are decorated: later changes of TRITON_INTERPRET have no effect on them.
INTERPRETED = bool(triton.knobs.runtime.interpret)

# Elements that a program of the elementwise kernels takes on 4 warps; threads of one that transforms colors.
RETINEX_BLOCK = 2048
COLOR_BLOCK = 256
# Pixels of one channel; blocks of them that are put together at a time.
BATCH_NORM_BLOCK = 2048
BATCH_NORM_FINISH = 512

# Points of an image that are taken at a time to find its exposure, and warps that take them.
EXPOSURE_BLOCK = 2048
EXPOSURE_WARPS = 16

# Of every launch: a multiplication and the addition of its result are one instruction with one rounding. `divide` needs
# that for its digits and all kernels for their speed, and it is Triton's default only up to 3.9.
FUSED = {"enable_fp_fusion": True}


@dataclass(frozen=True)
class Launch:
    """How a program of a marching kernel covers the image, and what the compiler is told.

    It has bands * strips threads; each owns `columns` pixels of a row and marches down a band of rows.
    """

    strips: int
    columns: int
    above: int  # rows that every march begins with and another march owns
    bands: int = 1
    shortest: int = 8
    longest: int = 96
    resident: int = 8  # programs that a multiprocessor holds at a time
    warps: int = 1
    prefetch: int = 0  # the cache that rows are asked into ahead, where registers are left
    registers: int | None = None  # a thread's, on NVIDIA; ptxas, left alone, would rather spill than use so many

    def march(self, height: int, across: int, multiprocessors: int) -> int:
        """Rows a thread marches down where `across` programs lie side by side, over all images."""
        return _march(self, height, across, multiprocessors)

    def options(self, ptx_level: int) -> dict[str, int | bool]:
        """Triton's options of the launch."""
        registers = {"maxnreg": self.registers} if self.registers and ptx_level >= 1 else {}
        return {"num_warps": self.warps, **FUSED, **registers}


@functools.lru_cache(4096)
def _march(launch: Launch, height: int, across: int, multiprocessors: int) -> int:
    """The march that ends first: programs run in waves of as many as the GPU holds, each as long as its rows.

    A long march spares the rows above, a short one fills the last wave; on an H100 this tells the time of the loss's
    gradient for marches of 8 to 96 rows within 5 %. Of equals the shortest, whose programs find more to hide behind.
    """
    held = launch.resident * multiprocessors

    def rows(march: int) -> int:
        return divide_up(across * divide_up(height, march * launch.bands), held) * (march + launch.above)

    return min(range(launch.shortest, launch.longest + 1), key=rows)


def divide_up(a: int, b: int) -> int:
    """The quotient rounded up: Triton's own, called outside a kernel, takes ten times as long."""
    return -(-a // b)


@functools.lru_cache
def multiprocessors(device: int) -> int:
    """Of a GPU by its number; 1 where there is none, as where kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if torch.cuda.is_available() else 1


def loss_launch(x: Tensor, dtype: torch.dtype, backward: bool) -> Launch:
    """The launch of a loss kernel: one warp a program, 4 pixels a thread; 1 in float64 and if there are only 3."""
    return _loss_launch(x.is_cuda and not INTERPRETED, dtype == torch.float32, x.shape[3] >= 4, backward)


@functools.lru_cache
def _loss_launch(compiled: bool, single: bool, wide: bool, backward: bool) -> Launch:
    columns = 4 if single and wide else 1
    if not compiled:
        # An interpreted program costs seconds whatever its size: few, with many threads and short marches.
        if columns == 4:
            return Launch(strips=16, columns=4, above=2, bands=64, shortest=1, longest=1)
        return Launch(strips=64, columns=1, above=2, bands=32, shortest=2, longest=2)
    strips = 64 if torch.version.hip else 32
    if backward:
        return Launch(strips, columns, above=2, registers=255, prefetch=2)
    return Launch(strips, columns, above=2, resident=16)


def enhance_launch(x: Tensor, dtype: torch.dtype) -> Launch:
    """The launch of the enhance kernel, whose march begins with 6 rows."""
    return _enhance_launch(x.is_cuda and not INTERPRETED, dtype == torch.float32)


@functools.lru_cache
def _enhance_launch(compiled: bool, single: bool) -> Launch:
    if not compiled:
        if single:
            return Launch(strips=8, columns=4, above=6, bands=32, shortest=2, longest=2)
        return Launch(strips=32, columns=1, above=6, bands=32, shortest=2, longest=2)
    return Launch(strips=64 if torch.version.hip else 32, columns=4 if single else 1, above=6, registers=255)


def denoise_launch(x: Tensor, dtype: torch.dtype) -> Launch:
    """The launch of the denoising kernel, whose march begins with 4 rows."""
    return _denoise_launch(x.is_cuda and not INTERPRETED, dtype == torch.float32 and x.shape[3] >= 4)


@functools.lru_cache
def _denoise_launch(compiled: bool, four: bool) -> Launch:
    columns = 4 if four else 1
    if not compiled:
        return Launch(strips=32 // columns, columns=columns, above=4, bands=32, shortest=2, longest=2)
    return Launch(strips=64 if torch.version.hip else 32, columns=columns, above=4, registers=255)


def convolution_launch(x: Tensor) -> Launch:
    """The launch of a convolution's kernels: what a thread is in others is a warp here, with 16 columns."""
    return _convolution_launch(x.is_cuda and not INTERPRETED)


@functools.lru_cache
def _convolution_launch(compiled: bool) -> Launch:
    if not compiled:
        return Launch(strips=4, columns=16, above=2, bands=8, shortest=4, longest=4)
    return Launch(strips=1, columns=16, above=2, longest=160, registers=255)


def _upper(matrix: np.ndarray) -> tuple[float, ...]:
    """The six entries on and above the diagonal, row by row."""
    return tuple(float(matrix[i, j]) for i in range(3) for j in range(i, 3))


YCBCR_FACTOR = _upper(np.linalg.cholesky(np.asarray(COLOR_MATRIX) @ np.asarray(COLOR_MATRIX).T).T)
