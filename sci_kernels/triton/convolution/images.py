"""3 x 3 convolutions of contiguous features with 1 to 16 channels, padded by 1, and the gradients of their inputs.

    out[o, p] = bias[o] + sum over c and taps of weight[o, c, tap] x[c, p + tap]

is, for each tap, the product of a 16 x 16 matrix of weights (out channels, in channels) and a matrix of pixels (in
channels, neighboring columns): A and B of `fragments`. A warp owns a strip of 16 columns and marches down `march` rows
of the output. Each row of x that it reads adds to three rows of the output, whose sums it keeps; all weights stay in
its registers. Thread 4 g + t of the warp owns

    of x    in channels PER t ... PER t + PER - 1 of columns 2 g and 2 g + 1, which are column g of two products, and
            one column on either side, so that the three taps of a row are three of these four numbers
    of out  channels g and g + 8 of columns 4 t ... 4 t + 3

so that rows are read as vectors of two columns and written as vectors of four. If rows come as vectors, the own columns
of the next row are loaded before this one is multiplied. The gradient of x is the same convolution of the gradient of
out, with weights transposed and taps mirrored (FLIP).

Tensors are [T], T = 32 BANDS STRIPS: a number for each thread of all warps. Masks guard the channels beyond the last,
and the image's borders, outside of which x is 0.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..config import convolution_launch
from ..launcher import Launcher
from ..neighbors import tiles_of
from ..primitives import tensor_cores
from ..strips import join4
from .fragments import highs, lows, multiply_several


@triton.jit
def warp_position(H, W, march, BANDS: tl.constexpr, STRIPS: tl.constexpr):
    """This program's image, and the first row and column of the strip of each thread's warp [T].

    More than one band or strip per program serves only to make interpreted programs few.
    """
    tiles_w = tl.cdiv(W, STRIPS * 16)
    tiles_h = tl.cdiv(H, march * BANDS)
    pid = tl.program_id(0)
    image = (pid // (tiles_h * tiles_w)).to(tl.int64)
    rest = pid % (tiles_h * tiles_w)
    warp = tl.arange(0, BANDS * STRIPS * 32) // 32
    top = (rest // tiles_w * BANDS + warp // STRIPS) * march
    left = (rest % tiles_w * STRIPS + warp % STRIPS) * 16
    return image, top, left


@triton.jit
def _load_weights(
    weight_ptr, group, member, FLIP: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A for each step of 4 or 8 in channels and each of its taps: the high parts, and the low ones."""
    pairs: tl.constexpr = 2 if PER > 1 else 1
    result: tl.tuple = ()
    rest: tl.tuple = ()
    for step in tl.static_range((PER + 1) // 2):
        for tap in tl.static_range(9):
            numbers: tl.tuple = ()
            for i in tl.static_range(2 * pairs):
                c = PER * member + 2 * step + i // 2
                o = group + 8 * (i % 2)
                place = (c * C_OUT + o) * 9 + 8 - tap if FLIP else (o * C_IN + c) * 9 + tap
                number = tl.load(weight_ptr + place, mask=(c < C_IN) & (o < C_OUT), other=0.0)
                numbers = numbers + (number.to(tl.float32),)
            result = result + (highs(numbers, PRECISION),)
            rest = rest + (lows(numbers, PRECISION),)
    return result, rest


@triton.jit
def _load_bias(ptr, group, C_OUT: tl.constexpr):
    """The sums that a row begins with. The bias is loaded for each row: kept, it would occupy registers."""
    one = tl.load(ptr + group, mask=group < C_OUT, other=0.0).to(tl.float32)
    other = tl.load(ptr + group + 8, mask=group + 8 < C_OUT, other=0.0).to(tl.float32)
    return (one, one, other, other)


@triton.jit
def _load_own(
    ptr, row, column, channel, plane, H, W, C_IN: tl.constexpr, PER: tl.constexpr, VECTOR: tl.constexpr
):  # fmt: skip
    """The two own columns of each of a thread's channels in a row, 0 outside; `ptr` points at them in row 0."""
    within = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for i in tl.static_range(PER):
        place = ptr + i * plane + row.to(tl.int64) * W
        wanted = within if C_IN == 4 * PER else within & (channel + i < C_IN)
        if VECTOR:
            two = place[:, None] + tl.arange(0, 2)[None, :]
            own = tl.split(tl.load(two, mask=(wanted & (column < W))[:, None], other=0.0))
        else:
            first = tl.load(place, mask=wanted & (column < W), other=0.0)
            own = (first, tl.load(place + 1, mask=wanted & (column + 1 < W), other=0.0))
        result = result + ((own[0].to(tl.float32), own[1].to(tl.float32)),)
    return result


@triton.jit
def _with_sides(
    own, ptr, row, column, channel, plane, H, W, C_IN: tl.constexpr, PER: tl.constexpr
):  # fmt: skip
    """The own columns and one on either side, which the loads of neighboring threads have brought into the cache."""
    within = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for i in tl.static_range(PER):
        place = ptr + i * plane + row.to(tl.int64) * W
        wanted = within if C_IN == 4 * PER else within & (channel + i < C_IN)
        before = tl.load(place - 1, mask=wanted & (column > 0) & (column <= W), other=0.0)
        after = tl.load(place + 2, mask=wanted & (column + 2 < W), other=0.0)
        result = result + ((before.to(tl.float32),) + own[i] + (after.to(tl.float32),),)
    return result


@triton.jit
def _multiply_taps(
    sums, weights, weights_low, b, b_low,
    FIRST: tl.constexpr, J: tl.constexpr, PLACE: tl.constexpr, PRECISION: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds the taps FIRST ... FIRST + 2, which are those of a row, with columns J ... J + 2 to sums[PLACE]."""
    total = multiply_several(
        weights[FIRST : FIRST + 3], weights_low[FIRST : FIRST + 3], b[J : J + 3], b_low[J : J + 3],
        sums[PLACE], PRECISION, PTX,
    )  # fmt: skip
    return sums[:PLACE] + (total,) + sums[PLACE + 1 :]


@triton.jit
def _multiply_row(x, weights, weights_low, sums, PER: tl.constexpr, PRECISION: tl.constexpr, PTX: tl.constexpr):
    """Adds what a row of x contributes to three rows of out, the upper first, each of them two products."""
    pairs: tl.constexpr = 2 if PER > 1 else 1
    for step in tl.static_range((PER + 1) // 2):
        b: tl.tuple = ()  # of each column
        b_low: tl.tuple = ()
        for i in tl.static_range(4):
            pair: tl.tuple = (x[2 * step][i],)
            if pairs == 2:
                pair = (x[2 * step][i], x[2 * step + 1][i])
            b = b + (highs(pair, PRECISION),)
            b_low = b_low + (lows(pair, PRECISION),)
        for dy in tl.static_range(3):
            for j in tl.static_range(2):
                sums = _multiply_taps(
                    sums, weights, weights_low, b, b_low, step * 9 + dy * 3, j, 2 * (2 - dy) + j, PRECISION, PTX
                )
    return sums


@triton.jit
def _store_row(
    ptr, sums, row, wanted, column, channel, plane, W,
    C_OUT: tl.constexpr, VECTOR: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Writes a finished row, for the threads that are `wanted`; `ptr` points at their columns in row 0."""
    for half in tl.static_range((C_OUT + 7) // 8):
        place = ptr + 8 * half * plane + row.to(tl.int64) * W
        kept = wanted if 8 * half + 8 <= C_OUT else wanted & (channel + 8 * half < C_OUT)
        four = (sums[0][2 * half], sums[1][2 * half], sums[0][2 * half + 1], sums[1][2 * half + 1])
        if VECTOR:
            tl.store(place[:, None] + tl.arange(0, 4)[None, :], join4(four, T), mask=(kept & (column < W))[:, None])
        else:
            for i in tl.static_range(4):
                tl.store(place + i, four[i], mask=kept & (column + i < W))


@triton.jit(do_not_specialize=["H", "W", "march"])
def _conv_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, H, W, march,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PER: tl.constexpr, FLIP: tl.constexpr, BIAS: tl.constexpr,
    VECTOR: tl.constexpr, PRECISION: tl.constexpr, PTX: tl.constexpr,
    BANDS: tl.constexpr, STRIPS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    T: tl.constexpr = 32 * BANDS * STRIPS
    group = tl.arange(0, T) % 32 // 4
    member = tl.arange(0, T) % 4
    if VECTOR:
        W = W // 4 * 4  # so the compiler knows that rows begin at multiples of 4
    image, top, left = warp_position(H, W, march, BANDS, STRIPS)
    plane = H.to(tl.int64) * W
    weights, weights_low = _load_weights(weight_ptr, group, member, FLIP, C_IN, C_OUT, PER, PRECISION)
    column, first = left + 2 * group, PER * member  # the first column and channel that the thread reads
    out_column = left + 4 * member
    x_ptr += (image * C_IN + first) * plane + column
    out_ptr += (image * C_OUT + group) * plane + out_column
    zero = tl.zeros([T], tl.float32)
    none = (zero, zero, zero, zero)
    sums = (none, none, none, none)
    following = _load_own(x_ptr, top - 1, column, first, plane, H, W, C_IN, PER, VECTOR)
    for step in range(0, march + 2):
        row = top - 1 + step
        if VECTOR:
            own = following
            following = _load_own(x_ptr, row + 1, column, first, plane, H, W, C_IN, PER, VECTOR)
        else:
            own = _load_own(x_ptr, row, column, first, plane, H, W, C_IN, PER, VECTOR)
        x = _with_sides(own, x_ptr, row, column, first, plane, H, W, C_IN, PER)
        new = _load_bias(bias_ptr, group, C_OUT) if BIAS else none
        sums = _multiply_row(x, weights, weights_low, sums + (new, new), PER, PRECISION, PTX)
        wanted = (row > top) & (row <= H)
        _store_row(out_ptr, sums, row - 1, wanted, out_column, group, plane, W, C_OUT, VECTOR, T)
        sums = sums[2:]


_launch_kernel = Launcher(_conv_kernel)


def launch_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, precision: str) -> Tensor:
    """The convolution of x, (N, C, H, W), with weight, (O, C, 3, 3), in the dtype of x. All are contiguous."""
    return _launch(x, weight, bias, weight.shape[0], False, precision)


def launch_convolution_input_gradient(grad: Tensor, weight: Tensor, precision: str) -> Tensor:
    """The gradient of x from `grad`, that of the output, (N, O, H, W)."""
    return _launch(grad, weight, None, weight.shape[1], True, precision)


def _launch(x: Tensor, weight: Tensor, bias: Tensor | None, channels: int, flip: bool, precision: str) -> Tensor:
    n, c_in, h, w = x.shape
    out = x.new_empty(n, channels, h, w)
    launch = convolution_launch(x)
    march, programs = tiles_of(x, launch)
    arguments = (x, weight, weight if bias is None else bias, out, h, w, march)
    constants = (
        c_in, channels, channels_of_a_thread(c_in), flip, bias is not None,
        w % 4 == 0, arithmetic(x, precision), tensor_cores(x), launch.bands, launch.strips, launch.columns,
    )  # fmt: skip
    _launch_kernel(programs, arguments, constants, launch.options(1))
    return out


def channels_of_a_thread(channels: int) -> int:
    """PER: the in channels of a thread, of the four threads that share a column."""
    return 1 if channels <= 4 else 2 if channels <= 8 else 4


def arithmetic(x: Tensor, precision: str) -> str:
    """The PRECISION of `fragments` to multiply with."""
    return precision if tensor_cores(x) and x.dtype == torch.float32 else "exact"
