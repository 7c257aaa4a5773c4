"""The exposure of sampled images in one launch. Formulas: `sci_kernels.exposure`.

A program owns an image, (3, count) points, and reads them once for each step of Newton's method, from the cache, BLOCK
at a time; a mask guards the end. Each thread sums a few hundred points, and a tree adds up those sums, so that float32
is accurate enough.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...constants import HIGHLIGHTS, LUMA, MAX_EXPOSURE
from ...reference import compute_dtype
from ..config import EXPOSURE_BLOCK, EXPOSURE_WARPS, FUSED
from ..launcher import Launcher
from ..primitives import ACC, aligned, divide, scalar, scalar_bits


@triton.jit
def _points(
    x_ptr, light_ptr, first, count, LUMA: tl.constexpr, SHARE: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr
):
    """m, l and s of `sci_kernels.enhance` for BLOCK points from `first` on; beyond the last one m = l = 0."""
    place = first + tl.arange(0, BLOCK)
    inside = place < count
    luma = tl.zeros([BLOCK], ACC)
    most = tl.zeros([BLOCK], ACC)
    added = tl.zeros([BLOCK], ACC)
    for channel in tl.static_range(3):
        x = tl.load(x_ptr + channel * count + place, mask=inside, other=0.0)
        x = tl.clamp(x, tl.full([], 0.0, ACC), tl.full([], 1.0, ACC), propagate_nan=tl.PropagateNan.ALL)
        luma += x * LUMA[channel]
        most = tl.maximum(most, x)  # may drop a NaN; the luma keeps it
        added += tl.load(light_ptr + channel * count + place, mask=inside, other=0.0) - x
    share = tl.minimum(added * SHARE, 0.5, propagate_nan=tl.PropagateNan.ALL) + 0.5
    return most, luma, share


@triton.jit(do_not_specialize=["target", "count"])
def _exposure_kernel(
    x_ptr,  # (N, 3, count)
    light_ptr,  # likewise
    c_ptr,
    target: tl.int64,
    count,
    LUMA: tl.constexpr,
    SHARE: tl.constexpr,
    HIGHLIGHTS: tl.constexpr,
    LARGEST: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    x_ptr += image * 3 * count
    light_ptr += image * 3 * count
    target = scalar(target, ACC)
    lumas = tl.zeros([BLOCK], ACC)
    powers = tl.zeros([BLOCK], ACC)
    for first in range(0, count, BLOCK):
        m, luma, s = _points(x_ptr, light_ptr, first, count, LUMA, SHARE, ACC, BLOCK)
        lumas += luma
        square = m * m
        powers += square * square * (square * square)
    mean = tl.sum(lumas) / count
    highlights = tl.sqrt(tl.sqrt(tl.sqrt(tl.sum(powers) / count)))
    cap = tl.minimum(HIGHLIGHTS / tl.maximum(highlights, 1e-3), LARGEST)
    c = tl.full([], 0.0, ACC)
    for _ in range(8):
        values = tl.zeros([BLOCK], ACC)
        slopes = tl.zeros([BLOCK], ACC)
        for first in range(0, count, BLOCK):
            m, luma, s = _points(x_ptr, light_ptr, first, count, LUMA, SHARE, ACC, BLOCK)
            q = divide(luma, c * m + s, 0)
            values += (c + s) * q
            slopes += s * (1 - m) * divide(q, c * m + s, 0)
        f = tl.sum(values) / count
        slope = tl.sum(slopes) / count
        more = (target - f) / tl.where(slope > 0, slope, 1.0)
        c = tl.where((f < target) & (slope > 0), tl.minimum(cap, c + more), c)
    # Comparisons with NaN are false, so images that are not finite get 0 and stay as they are.
    tl.store(c_ptr + image, tl.where((mean > 0) & (mean < target), c, 0.0))


_launch = Launcher(_exposure_kernel)
_OPTIONS = {"num_warps": EXPOSURE_WARPS, **FUSED}


def launch_exposure(points: Tensor, light: Tensor, target: float, black: float) -> Tensor:
    """c `(N,)` of sampled images `(N, 3, H, W)` in the dtype of arithmetic, and their illuminations."""
    x, light = aligned(points), aligned(light)
    dtype = compute_dtype(x)
    n, _, height, width = x.shape
    c = torch.empty(n, dtype=dtype, device=x.device)
    constants = (LUMA, 0.5 / (3 * black), HIGHLIGHTS, MAX_EXPOSURE, ACC[dtype], EXPOSURE_BLOCK)
    _launch(n, (x, light, c, scalar_bits(target, dtype), height * width), constants, _OPTIONS)
    return c
