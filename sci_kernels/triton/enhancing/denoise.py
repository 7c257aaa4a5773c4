"""The denoising filter: a weighted mean of each pixel and the 24 around it. Formulas: `sci_kernels.denoise`.

A thread owns COLS columns (see `strips`) and marches down `march` rows of the result. Each new row is paired with
itself and with the two rows above, whose own colors and sums are kept; two rows behind the new one, a row of the result
is complete. The two pixels of a pair have a common distance, computed once if both are the thread's own, but different
weights, since each has its own sigma. The sums of a pixel are added up in the same order wherever it lies, so that
parts of an image have the bits of the whole.

Around each group of pairs is a branch that is always taken. Without it the compiler moves the loads of all groups
together, and even 255 registers are too few.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...constants import REACH
from ...reference import compute_dtype, falloff
from ..config import denoise_launch
from ..launcher import Launcher
from ..neighbors import tiles_of
from ..primitives import ACC, aligned, divide, exp2, ptx_level, reciprocal, scalar, scalar_bits
from ..strips import load_own, load_sides, row_offsets, split_own, split_sides, store_own, strip_columns, strip_position

_LOG2E = math.log2(math.e)
# The part of the weight's exponent for each unit of squared distance in pixels.
_NEARNESS = tl.constexpr(-0.5 * _LOG2E / (REACH * REACH))


@triton.jit
def _nearness(SQUARE: tl.constexpr, inside, ACC: tl.constexpr):
    """The exponent of the spatial weight at this squared distance; -inf if the other row is not `inside`."""
    return tl.where(inside, tl.full([], _NEARNESS * SQUARE, ACC), float("-inf"))


@triton.jit
def _own(y_ptr, plane, start, columns, VECTOR: tl.constexpr, COLS: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """The own columns of a row: COLS tensors [N] for each channel."""
    result: tl.tuple = ()
    for channel in tl.static_range(3):
        pieces = load_own(y_ptr + channel * plane + start, columns, (), VECTOR, COLS, ACC)
        result = result + split_own(pieces, VECTOR, N)
    return result


@triton.jit
def _with_sides(
    own, y_ptr, plane, start, columns, beside, AGAIN: tl.constexpr, VECTOR: tl.constexpr, COLS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Columns -2 ... COLS + 1 of a row: COLS + 4 tensors [N] for each channel."""
    result: tl.tuple = ()
    for channel in tl.static_range(3):
        pieces = load_sides(y_ptr + channel * plane + start, columns, beside, AGAIN, VECTOR, COLS, ACC)
        sides = split_sides(pieces, VECTOR)
        result = result + sides[:2] + own[channel * COLS : (channel + 1) * COLS] + sides[2:]
    return result


@triton.jit
def _distance(p, i: tl.constexpr, q, j: tl.constexpr, COLS: tl.constexpr):
    """The squared distance of the colors of column i of row p and column j of row q; column 0 is the first own one."""
    total = 0.0
    for channel in tl.static_range(3):
        difference = p[channel * (COLS + 4) + 2 + i] - q[channel * (COLS + 4) + 2 + j]
        total += difference * difference
    return total


@triton.jit
def _add(
    sums, i: tl.constexpr, scale, q, j: tl.constexpr, distance, near, inside, COLS: tl.constexpr, PTX: tl.constexpr
):
    """The sums of a row, in which column j of row q is added to those of own column i: weight, red, green, blue.

    A column outside the image gets no weight.
    """
    if j < 0:
        near = tl.where(inside[j + 2], near, float("-inf"))
    elif j >= COLS:
        near = tl.where(inside[j - COLS + 2], near, float("-inf"))
    weight = exp2(distance * scale[i] + near, PTX)
    total: tl.tuple = (sums[4 * i] + weight,)
    for channel in tl.static_range(3):
        total = total + (sums[4 * i + 1 + channel] + weight * q[channel * (COLS + 4) + 2 + j],)
    return sums[: 4 * i] + total + sums[4 * i + 4 :]


@triton.jit
def _add_own_row(sums, y, scale, near, inside, COLS: tl.constexpr, PTX: tl.constexpr):
    """Adds the pairs within a row: of each own column with that to its left, then with that to its right."""
    for dx in tl.static_range(1, 3):
        for i in tl.static_range(COLS):
            if i < dx:
                distance = _distance(y, i, y, i - dx, COLS)
                sums = _add(sums, i, scale, y, i - dx, distance, near[dx], inside, COLS, PTX)
            distance = _distance(y, i, y, i + dx, COLS)
            sums = _add(sums, i, scale, y, i + dx, distance, near[dx], inside, COLS, PTX)
            if i + dx < COLS:
                sums = _add(sums, i + dx, scale, y, i, distance, near[dx], inside, COLS, PTX)
    return sums


@triton.jit
def _add_rows(a_sums, a, a_scale, b_sums, b, b_scale, near, inside, COLS: tl.constexpr, PTX: tl.constexpr):
    """Adds the pairs between row a and row b to the sums of both, shift by shift."""
    for dx in tl.static_range(-2, 3):
        for i in tl.static_range(COLS):
            distance = _distance(a, i, b, i + dx, COLS)
            closeness = near[dx if dx >= 0 else -dx]
            a_sums = _add(a_sums, i, a_scale, b, i + dx, distance, closeness, inside, COLS, PTX)
            if i + dx >= 0 and i + dx < COLS:
                b_sums = _add(b_sums, i + dx, b_scale, a, i, distance, closeness, inside, COLS, PTX)
            if i - dx < 0 or i - dx >= COLS:
                distance = _distance(b, i, a, i - dx, COLS)
                b_sums = _add(b_sums, i, b_scale, a, i - dx, distance, closeness, inside, COLS, PTX)
    return a_sums, b_sums


@triton.jit(do_not_specialize=["factor", "H", "W", "march"])
def _denoise_kernel(
    y_ptr,
    gain_ptr,
    result_ptr,
    factor: tl.int64,  # -log2(e) / (2 sigma^2) where the gain is 1
    H,
    W,
    march,  # rows of the result that a thread writes
    BYTES: tl.constexpr,  # uint8 in and out, filtered as numbers from 0 to 255
    VECTOR: tl.constexpr,  # W % 4 == 0 and COLS == 4
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BANDS: tl.constexpr,
    STRIPS: tl.constexpr,
    COLS: tl.constexpr,
):
    N: tl.constexpr = BANDS * STRIPS
    if VECTOR:
        W = W // 4 * 4  # so the compiler knows that rows begin at multiples of 4
    image, top, left = strip_position(H, W, march, BANDS, STRIPS, COLS)
    columns, beside, _ = strip_columns(left, W, COLS, VECTOR, True)
    inside = beside  # for the columns -2, -1, COLS and COLS + 1
    if VECTOR:
        first = tl.minimum(left, W - 4)
        inside = (first >= 4, first >= 4, first + 4 < W, first + 4 < W)
    plane = H.to(tl.int64) * W
    y_ptr += image * 3 * plane
    gain_ptr += image * plane
    result_ptr += image * 3 * plane
    zero = tl.zeros([N], ACC)
    own1 = (zero,) * (3 * COLS)
    scale1 = (zero,) * COLS
    # Other zeros than those of row 1: Triton takes a variable to be constant that a loop sets to its initial value.
    zero2 = tl.zeros([N], ACC)
    own2 = (zero2,) * (3 * COLS)
    scale2 = (zero2,) * COLS
    sums1 = (zero + 1.0,) * (4 * COLS)
    sums2 = (zero + 1.0,) * (4 * COLS)
    for step in range(0, march + 4):
        row = top + step - 2
        start = row_offsets(row, H, W, VECTOR)
        own = _own(y_ptr, plane, start, columns, VECTOR, COLS, N, ACC)
        y = _with_sides(own, y_ptr, plane, start, columns, beside, False, VECTOR, COLS, ACC)
        gain = split_own(load_own(gain_ptr + start, columns, (), VECTOR, COLS, ACC), VECTOR, N)
        scale: tl.tuple = ()
        sums: tl.tuple = ()
        for i in tl.static_range(COLS):
            scale = scale + (divide(scalar(factor, ACC), gain[i] * gain[i], PTX, ROUNDED=False),)
            sums = sums + (zero + 1.0,)
            for channel in tl.static_range(3):
                sums = sums + (own[channel * COLS + i],)
        near = (zero, _nearness(1, True, ACC), _nearness(4, True, ACC))
        if H >= 1:  # always
            sums = _add_own_row(sums, y, scale, near, inside, COLS, PTX)
        start = row_offsets(row - 1, H, W, VECTOR)
        other = _with_sides(own1, y_ptr, plane, start, columns, beside, True, VECTOR, COLS, ACC)
        row_inside = (row >= 1) & (row < H)
        near = (_nearness(1, row_inside, ACC), _nearness(2, row_inside, ACC), _nearness(5, row_inside, ACC))
        if H >= 1:  # always
            sums1, sums = _add_rows(sums1, other, scale1, sums, y, scale, near, inside, COLS, PTX)
        start = row_offsets(row - 2, H, W, VECTOR)
        other = _with_sides(own2, y_ptr, plane, start, columns, beside, True, VECTOR, COLS, ACC)
        row_inside = (row >= 2) & (row < H)
        near = (_nearness(4, row_inside, ACC), _nearness(5, row_inside, ACC), _nearness(8, row_inside, ACC))
        if H >= 1:  # always
            sums2, sums = _add_rows(sums2, other, scale2, sums, y, scale, near, inside, COLS, PTX)
        values: tl.tuple = ()
        for channel in tl.static_range(3):
            for i in tl.static_range(COLS):
                value = sums2[4 * i + 1 + channel] * reciprocal(sums2[4 * i], PTX)
                if BYTES:  # half to even, in the low bits
                    value = (value + 8388608.0).to(tl.int32, bitcast=True).to(tl.uint8)
                values = values + (value,)
        done = row - 2
        wanted = (done >= top) & (done < H) & (left < W)
        # A strip that was moved left at the border stores the columns from `left` on; the one before has the others.
        owned: tl.tuple = ()
        for i in tl.static_range(0 if VECTOR or COLS == 1 else COLS):
            owned = owned + (columns[2 + i] >= left,)
        for channel in tl.static_range(3):
            value = values[channel * COLS : (channel + 1) * COLS]
            store_own(result_ptr + channel * plane + start, columns, owned, wanted, value, VECTOR, COLS, N)
        own2 = own1
        own1 = own
        scale2 = scale1
        scale1 = scale
        sums2 = sums1
        sums1 = sums


_launch = Launcher(_denoise_kernel)


def launch_denoise(image: Tensor, gain: Tensor, strength: float) -> Tensor:
    """The filtered image, contiguous, in its own dtype."""
    x, gain = aligned(image), aligned(gain)
    dtype = compute_dtype(x)
    of_bytes = x.dtype == torch.uint8
    height, width = x.shape[2:]
    launch = denoise_launch(x, dtype)
    march, programs = tiles_of(x, launch)
    result = torch.empty_like(x)
    level = ptx_level(x, dtype)
    factor = _LOG2E * falloff(strength) / (255 * 255 if of_bytes else 1)
    constants = (
        of_bytes, width % 4 == 0 and launch.columns == 4, level, ACC[dtype], launch.bands, launch.strips,
        launch.columns,
    )  # fmt: skip
    options = launch.options(ptx_level(x, torch.float32))  # the limit of registers also in float64, which would spill
    _launch(programs, (x, gain, result, scalar_bits(factor, dtype), height, width, march), constants, options)
    return result
