"""The enhance network's arithmetic: three convolutions of 3x3 from 3 to 3 channels, of the rows that a thread passes.

A row of features is a tuple of columns, tensors [N] of a number for each of N threads, channel after channel: the
thread's own COLS columns and, on either side, 2, 1 and 0 more in the three layers. Those are computed by both threads
concerned, 365 multiplications per pixel instead of 243, so that nothing is exchanged between threads. Of each
convolution the sums of the two rows that are not complete are kept, and nothing else.

The weights are constants of the code: as an operand of a multiplication they cost neither a register nor a load.
"""

import triton
import triton.language as tl

from ..primitives import clamp, in_order, sigmoid

_LAYER = tl.constexpr(84)  # numbers of a layer: for each of 3 output channels 27 weights and a bias
_CHANNEL = tl.constexpr(28)


@triton.jit
def biases(WEIGHTS: tl.constexpr, LAYER: tl.constexpr, OUT: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """The sums that a new row begins with: OUT tensors [N] for each channel."""
    result: tl.tuple = ()
    for o in tl.static_range(3):
        for _ in tl.static_range(OUT):
            result = result + (tl.full([N], WEIGHTS[LAYER * _LAYER + o * _CHANNEL + 27], ACC),)
    return result


@triton.jit
def _convolve(
    sums, x, WEIGHTS: tl.constexpr, LAYER: tl.constexpr, DY: tl.constexpr, OUT: tl.constexpr, PTX: tl.constexpr
):
    """The sums of a row of OUT columns, to which row DY - 1 from it, `x` of OUT + 2 columns, is added."""
    result: tl.tuple = ()
    for o in tl.static_range(3):
        for column in tl.static_range(OUT):
            total = sums[o * OUT + column]
            for i in tl.static_range(3):
                for dx in tl.static_range(3):
                    value = x[i * (OUT + 2) + column + dx]
                    total += WEIGHTS[LAYER * _LAYER + o * _CHANNEL + i * 9 + DY * 3 + dx] * value
            result = result + (in_order(total) if PTX >= 1 else total,)
    return result


@triton.jit
def advance(
    older, newer, x, H, WEIGHTS: tl.constexpr, LAYER: tl.constexpr, OUT: tl.constexpr, PTX: tl.constexpr,
    N: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Adds a new row of the input to three rows of sums: returns the one it completes, and those of the other two."""
    complete = older
    # A branch that is always taken, in float64 only: from sm_90 on its weights cannot be operands and need registers,
    # which ptxas then keeps for one block of code at a time. For all layers at once it would spill.
    if tl.float32 == ACC or H >= 1:
        complete = _convolve(older, x, WEIGHTS, LAYER, 2, OUT, PTX)
        older = _convolve(newer, x, WEIGHTS, LAYER, 1, OUT, PTX)
        newer = _convolve(biases(WEIGHTS, LAYER, OUT, N, ACC), x, WEIGHTS, LAYER, 0, OUT, PTX)
    return complete, older, newer


@triton.jit
def features(sums, shortcut, row, left, H, W, SIDE: tl.constexpr, COLS: tl.constexpr, ADD: tl.constexpr):
    """relu of the sums, if ADD plus the middle columns of `shortcut`; 0 outside the image. Columns from -SIDE on."""
    OUT: tl.constexpr = COLS + 2 * SIDE
    row_inside = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for channel in tl.static_range(3):
        for j in tl.static_range(OUT):
            value = tl.maximum(sums[channel * OUT + j], 0.0, propagate_nan=tl.PropagateNan.ALL)
            if ADD:
                value += shortcut[channel * (OUT + 2) + j + 1]
            column = left + j - SIDE
            result = result + (tl.where(row_inside & (column >= 0) & (column < W), value, 0.0),)
    return result


@triton.jit
def illuminate(
    totals, x, LOW: tl.constexpr, HIGH: tl.constexpr, COLS: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr
):
    """The illumination of the own columns, channel by channel, from the last convolution and the image."""
    result: tl.tuple = ()
    for j in tl.static_range(3 * COLS):
        # Not the rounded `divide`, in which an infinite power gives NaN instead of 0.
        residual = sigmoid(totals[j], PTX, ACC)
        result = result + (clamp(residual + x[j], tl.full([], LOW, ACC), tl.full([], HIGH, ACC)),)
    return result
