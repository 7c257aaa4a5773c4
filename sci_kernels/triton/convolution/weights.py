"""The gradient of a 3 x 3 convolution's weights, on tensor cores.

    grad_weight[o, c, tap] = sum over pixels p of grad[o, p] x[c, p + tap]

is, for each tap, the product of a matrix (out channels, pixels) and a matrix (pixels, in channels): A and B of
`fragments`. A warp owns a strip of 16 columns, marches down `march` rows of grad, and keeps the sums of all weights in
its registers. Each row of x is multiplied with the rows of grad below it, beside it and above it, the last three of
which are kept. Thread 4 g + t of the warp owns

    of grad channels g and g + 8 of columns 4 t ... 4 t + 3, which are columns t and t + 4 of A of two products
    of x    channels g and g + 8 of the same columns, and one column on either side, for the outer taps

Every warp writes its sums to `partial`, and these are then added up in a fixed order. Tensors [T], masks and layout are
as in `images`; rows of grad that another march owns are masked, too, so that each pixel counts once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..config import convolution_launch
from ..launcher import Launcher
from ..neighbors import tiles_of
from ..primitives import tensor_cores
from ..strips import split4
from .fragments import highs, lows, multiply_several
from .images import arithmetic, warp_position


@triton.jit
def _load_own(ptr, wanted, column, W, VECTOR: tl.constexpr, T: tl.constexpr):
    """The four columns of a row that `ptr` points at, 0 outside the image and where they are not wanted."""
    if VECTOR:
        place = ptr[:, None] + tl.arange(0, 4)[None, :]
        strip = tl.load(place, mask=(wanted & (column < W))[:, None], other=0.0)
        return split4(strip.to(tl.float32), T)
    else:
        result: tl.tuple = ()
        for i in tl.static_range(4):
            one = tl.load(ptr + i, mask=wanted & (column + i < W), other=0.0)
            result = result + (one.to(tl.float32),)
        return result


@triton.jit
def _load_x(
    ptr, row, column, group, plane, H, W,
    HALVES: tl.constexpr, C_IN: tl.constexpr, VECTOR: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """The own columns of one or two channels of a row of x."""
    within = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for half in tl.static_range(HALVES):
        place = ptr + half * 8 * plane + row.to(tl.int64) * W
        wanted = within if 8 * half + 8 <= C_IN else within & (group + 8 * half < C_IN)
        result = result + (_load_own(place, wanted, column, W, VECTOR, T),)
    return result


@triton.jit
def _with_sides(own, ptr, row, column, group, plane, H, W, HALVES: tl.constexpr, C_IN: tl.constexpr):
    """The own columns and one on either side, which the loads of neighboring threads have brought into the cache."""
    within = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for half in tl.static_range(HALVES):
        place = ptr + half * 8 * plane + row.to(tl.int64) * W
        wanted = within if 8 * half + 8 <= C_IN else within & (group + 8 * half < C_IN)
        before = tl.load(place - 1, mask=wanted & (column > 0) & (column <= W), other=0.0)
        after = tl.load(place + 4, mask=wanted & (column + 4 < W), other=0.0)
        result = result + ((before.to(tl.float32),) + own[half] + (after.to(tl.float32),),)
    return result


@triton.jit
def _load_grad(
    ptr, row, within, column, group, plane, W, C_OUT: tl.constexpr, VECTOR: tl.constexpr, T: tl.constexpr
):  # fmt: skip
    """The own columns of channel g and then of g + 8 of a row of grad."""
    start = row.to(tl.int64) * W
    result = _load_own(ptr + start, within & (group < C_OUT), column, W, VECTOR, T)
    if C_OUT > 8:
        return result + _load_own(ptr + 8 * plane + start, within & (group + 8 < C_OUT), column, W, VECTOR, T)
    else:
        zero = tl.zeros([T], tl.float32)
        return result + (zero, zero, zero, zero)


@triton.jit
def _pairs(numbers, FIRST: tl.constexpr):
    """B of the two products of 8 pixels each, from the columns FIRST ... FIRST + 3 of six."""
    return (numbers[FIRST : FIRST + 2], numbers[FIRST + 2 : FIRST + 4])


@triton.jit
def _fragments(grad):
    """A of these two products."""
    return ((grad[0], grad[4], grad[1], grad[5]), (grad[2], grad[6], grad[3], grad[7]))


@triton.jit
def _multiply_row(x, grads, sums, HALVES: tl.constexpr, PRECISION: tl.constexpr, PTX: tl.constexpr):
    """Adds the products of a row of x with three rows of grad, the upper first, to the sums of their taps."""
    result: tl.tuple = ()
    for dy in tl.static_range(3):
        # Split into high and low again for each row of x: to keep the parts would take 24 more registers.
        a = _fragments(highs(grads[2 - dy], PRECISION))
        a_low: tl.tuple = ()
        if PRECISION == "tf32x3":
            a_low = _fragments(lows(grads[2 - dy], PRECISION))
        for dx in tl.static_range(3):
            for half in tl.static_range(HALVES):
                b = _pairs(highs(x[half], PRECISION), dx)
                b_low: tl.tuple = ()
                if PRECISION == "tf32x3":
                    b_low = _pairs(lows(x[half], PRECISION), dx)
                total = sums[(dy * 3 + dx) * HALVES + half]
                result = result + (multiply_several(a, a_low, b, b_low, total, PRECISION, PTX),)
    return result


@triton.jit(do_not_specialize=["H", "W", "march"])
def _conv_weight_bwd_kernel(
    grad_ptr, x_ptr, partial_ptr, H, W, march,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, VECTOR: tl.constexpr, PRECISION: tl.constexpr, PTX: tl.constexpr,
    BANDS: tl.constexpr, STRIPS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Writes partial, (warps, C_OUT, C_IN, 9): the sums of each warp."""
    T: tl.constexpr = 32 * BANDS * STRIPS
    HALVES: tl.constexpr = (C_IN + 7) // 8
    group = tl.arange(0, T) % 32 // 4
    member = tl.arange(0, T) % 4
    if VECTOR:
        W = W // 4 * 4  # so the compiler knows that rows begin at multiples of 4
    image, top, left = warp_position(H, W, march, BANDS, STRIPS)
    plane = H.to(tl.int64) * W
    column = left + 4 * member
    x_ptr += (image * C_IN + group) * plane + column
    grad_ptr += (image * C_OUT + group) * plane + column
    zero = tl.zeros([T], tl.float32)
    none = (zero, zero, zero, zero, zero, zero, zero, zero)
    sums: tl.tuple = ()
    for _ in tl.static_range(9 * HALVES):
        sums = sums + ((zero, zero, zero, zero),)
    # Of the three rows of grad that a row of x is multiplied with, the last is the one below it.
    grads: tl.tuple = (none, none)
    x = _load_x(x_ptr, top - 1, column, group, plane, H, W, HALVES, C_IN, VECTOR, T)
    grad = _load_grad(grad_ptr, top, top < H, column, group, plane, W, C_OUT, VECTOR, T)
    for step in range(0, march + 2):
        row = top + step  # of grad; x is one row above
        this_grad = grad
        this_x = _with_sides(x, x_ptr, row - 1, column, group, plane, H, W, HALVES, C_IN)
        x = _load_x(x_ptr, row, column, group, plane, H, W, HALVES, C_IN, VECTOR, T)
        owned = (row + 1 < H) & (step + 1 < march)
        grad = _load_grad(grad_ptr, row + 1, owned, column, group, plane, W, C_OUT, VECTOR, T)
        grads = grads + (this_grad,)
        sums = _multiply_row(this_x, grads, sums, HALVES, PRECISION, PTX)
        grads = grads[1:]
    warp = tl.program_id(0).to(tl.int64) * (BANDS * STRIPS) + tl.arange(0, T) // 32
    # One address and constant offsets: addresses computed before the march would occupy registers during it.
    partial_ptr += warp * (9 * C_IN * C_OUT) + (group * C_IN + 2 * member) * 9
    for tap in tl.static_range(9):
        for half in tl.static_range(HALVES):
            for i in tl.static_range(4):
                o, c = 8 * (i // 2), 8 * half + i % 2  # offsets from the thread's first channels
                kept = (group + o < C_OUT) & (2 * member + c < C_IN)
                tl.store(partial_ptr + (o * C_IN + c) * 9 + tap, sums[tap * HALVES + half][i], mask=kept)


_launch_kernel = Launcher(_conv_weight_bwd_kernel)


def launch_convolution_weight_gradient(grad: Tensor, x: Tensor, precision: str) -> Tensor:
    """The gradient of weight, (O, C, 3, 3), in float32, from that of the output; both contiguous."""
    n, c_in, h, w = x.shape
    c_out = grad.shape[1]
    launch = convolution_launch(x)
    march, programs = tiles_of(x, launch)
    partial = x.new_empty(programs * launch.bands * launch.strips, c_out, c_in, 3, 3, dtype=torch.float32)
    constants = (
        c_in, c_out, w % 4 == 0, arithmetic(x, precision), tensor_cores(x), launch.bands, launch.strips, launch.columns
    )  # fmt: skip
    _launch_kernel(programs, (grad, x, partial, h, w, march), constants, launch.options(1))
    return partial.sum(0)
