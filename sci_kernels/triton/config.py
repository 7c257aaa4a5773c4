"""Launch configurations, and the constants of the color distance in the form that the kernels use.

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

# Fixed when the kernels are decorated: later changes of TRITON_INTERPRET have no effect on them.
INTERPRETED = bool(triton.knobs.runtime.interpret)

RETINEX_BLOCK = 2048  # elements of a program, of 4 warps
COLOR_BLOCK = 256  # lanes of a program, each with 1 or 4 triples
BATCH_NORM_BLOCK = 2048  # pixels of one channel, of a program
BATCH_NORM_FINISH = 512  # blocks whose sums are added at a time

EXPOSURE_BLOCK = 2048  # points of an image that are read at a time
EXPOSURE_WARPS = 16

# For every launch: a multiplication and the addition of its result become one instruction with one rounding. `divide`
# needs that for its accuracy and all kernels for their speed, and it is Triton's default only up to 3.9.
FUSED = {"enable_fp_fusion": True}


@dataclass(frozen=True)
class Launch:
    """How a program of a marching kernel covers the image, and options of the compiler.

    A program has bands * strips threads; each owns `columns` pixels of a row and marches down a band of rows.
    """

    strips: int
    columns: int
    above: int  # additional rows of every march, which another march owns
    bands: int = 1
    shortest: int = 8
    longest: int = 96
    resident: int = 8  # programs that a multiprocessor holds at a time
    warps: int = 1
    prefetch: int = 0  # the cache level that rows are prefetched into where registers are left; 0: none
    registers: int | None = None  # limit per thread on NVIDIA; by its own limit ptxas would spill

    def march(self, height: int, across: int, multiprocessors: int) -> int:
        """The rows that a thread marches down, given `across` programs side by side in all images together."""
        return _march(self, height, across, multiprocessors)

    def options(self, ptx_level: int) -> dict[str, int | bool]:
        """Triton's options of the launch."""
        registers = {"maxnreg": self.registers} if self.registers and ptx_level >= 1 else {}
        return {"num_warps": self.warps, **FUSED, **registers}


@functools.lru_cache(4096)
def _march(launch: Launch, height: int, across: int, multiprocessors: int) -> int:
    """The march that ends first, of a model: programs run in waves of as many as the GPU holds, one time unit per row.

    A long march has fewer additional rows, a short one fills the last wave better. On an H100 the model predicts the
    time of the loss's gradient within 5 % for marches of 8 to 96 rows. Of equal marches the shortest is chosen: more
    programs hide more latency.
    """
    held = launch.resident * multiprocessors

    def rows(march: int) -> int:
        return divide_up(across * divide_up(height, march * launch.bands), held) * (march + launch.above)

    return min(range(launch.shortest, launch.longest + 1), key=rows)


def divide_up(a: int, b: int) -> int:
    """The quotient rounded up. Triton's `cdiv` takes ten times as long when called outside a kernel."""
    return -(-a // b)


@functools.lru_cache
def multiprocessors(device: int) -> int:
    """The number of multiprocessors of a GPU, by its index; 1 where there is no GPU and kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if torch.cuda.is_available() else 1


def loss_launch(x: Tensor, dtype: torch.dtype, backward: bool) -> Launch:
    """The launch of a loss kernel: one warp per program, 4 pixels per thread; 1 pixel in float64 or if W is 3."""
    return _loss_launch(x.is_cuda and not INTERPRETED, dtype == torch.float32, x.shape[3] >= 4, backward)


@functools.lru_cache
def _loss_launch(compiled: bool, single: bool, wide: bool, backward: bool) -> Launch:
    columns = 4 if single and wide else 1
    if not compiled:
        # An interpreted program takes seconds whatever its size: hence few, with many threads and short marches.
        if columns == 4:
            return Launch(strips=16, columns=4, above=2, bands=64, shortest=1, longest=1)
        return Launch(strips=64, columns=1, above=2, bands=32, shortest=2, longest=2)
    strips = 64 if torch.version.hip else 32
    if backward:
        return Launch(strips, columns, above=2, registers=255, prefetch=2)
    return Launch(strips, columns, above=2, resident=16)


def enhance_launch(x: Tensor, dtype: torch.dtype) -> Launch:
    """The launch of the enhance kernel, whose march has 6 additional rows."""
    return _enhance_launch(x.is_cuda and not INTERPRETED, dtype == torch.float32)


@functools.lru_cache
def _enhance_launch(compiled: bool, single: bool) -> Launch:
    if not compiled:
        if single:
            return Launch(strips=8, columns=4, above=6, bands=32, shortest=2, longest=2)
        return Launch(strips=32, columns=1, above=6, bands=32, shortest=2, longest=2)
    return Launch(strips=64 if torch.version.hip else 32, columns=4 if single else 1, above=6, registers=255)


def denoise_launch(x: Tensor, dtype: torch.dtype) -> Launch:
    """The launch of the denoising kernel, whose march has 4 additional rows."""
    return _denoise_launch(x.is_cuda and not INTERPRETED, dtype == torch.float32 and x.shape[3] >= 4)


@functools.lru_cache
def _denoise_launch(compiled: bool, four: bool) -> Launch:
    columns = 4 if four else 1
    if not compiled:
        return Launch(strips=32 // columns, columns=columns, above=4, bands=32, shortest=2, longest=2)
    return Launch(strips=64 if torch.version.hip else 32, columns=columns, above=4, registers=255)


def convolution_launch(x: Tensor) -> Launch:
    """The launch of the convolution kernels, in which a strip of 16 columns belongs to a warp, not to a thread."""
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
