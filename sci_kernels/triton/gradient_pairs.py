"""The pairs that the loss's gradient is made of: what two rows add to the sums of each other's pixels.

Of a row, `v` and `light` are tuples of tensors [N], a number for each of N threads: COLS for each channel, so that
tensor COLS c + i has channel c of the thread's own column i. `sums` are likewise those of v, then those of the
illumination, without what no gradient is asked for. The columns beside the own ones are 4 tensors for each channel:
columns -2, -1, COLS and COLS + 1, counted from the thread's first.

The kernel is short of registers: 72 sums and the columns of two rows are alive at once. Hence sides are read again
rather than kept, and there are branches that are always taken (H >= 3 holds for every image): ptxas schedules each
block by itself, and without branches would begin so many pairs at once that it spills. On sm_90, strips read as vectors
need only two of them, in half precision three, and begin their loads early: with branches around all pairs a warp
spends most of its time waiting.
"""

import triton
import triton.language as tl

from .neighbors import compare, illumination_distance, own_columns, row_ratios, side_columns
from .primitives import TINY, in_order, scalar, signed


@triton.jit
def _pair(
    p_v, p_l, i: tl.constexpr, P: tl.constexpr, q_v, q_l, j: tl.constexpr, Q: tl.constexpr, ratio,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr,
    Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """What tensor i of p receives from tensor j of q, without the factors that all pairs have: for v, then for L.

    Each term is a pair of factors, so that their multiplication and the addition are one instruction.
    """
    e, f, weight = compare(p_v, p_l, i, P, q_v, q_l, j, Q, ratio, Y_CHANNELS, L_CHANNELS, PTX)
    terms: tl.tuple = ()
    if Y_GRAD:
        weighted = weight * illumination_distance(f, L_CHANNELS)
        for channel in tl.static_range(Y_CHANNELS):
            terms = terms + ((weighted, e[channel]),)
    if L_GRAD:
        pulls = signed(weight * TINY if PTX >= 2 else weight, f, L_CHANNELS, PTX)
        for channel in tl.static_range(L_CHANNELS):
            terms = terms + ((pulls[channel], 1.0),)
    return terms


@triton.jit
def _added(
    sums, column: tl.constexpr, terms, NEGATIVE: tl.constexpr, SUMS: tl.constexpr, COLS: tl.constexpr, PTX: tl.constexpr
):
    """The sums with a pair's terms added to those of one column, or subtracted from them."""
    for k in tl.static_range(SUMS):
        term = terms[k][0] * terms[k][1]
        value = sums[k * COLS + column] - term if NEGATIVE else sums[k * COLS + column] + term
        value = in_order(value) if PTX >= 1 else value
        sums = sums[: k * COLS + column] + (value,) + sums[k * COLS + column + 1 :]
    return sums


@triton.jit
def _add_own_pairs(
    p_v, p_l, p_sums, q_v, q_l, q_sums, ratios, SAME_ROW: tl.constexpr,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, COLS: tl.constexpr,
    Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds the pairs among the own columns of rows p and q to the sums of both; if SAME_ROW, to p_sums alone."""
    SUMS: tl.constexpr = (Y_CHANNELS if Y_GRAD else 0) + (L_CHANNELS if L_GRAD else 0)
    for dx in tl.static_range(1 if SAME_ROW else -2, 3):
        for i in tl.static_range(0, COLS):
            if i + dx >= 0 and i + dx < COLS:
                terms = _pair(
                    p_v, p_l, i, COLS, q_v, q_l, i + dx, COLS, ratios[dx if dx >= 0 else -dx],
                    Y_CHANNELS, L_CHANNELS, Y_GRAD, L_GRAD, PTX,
                )  # fmt: skip
                p_sums = _added(p_sums, i, terms, False, SUMS, COLS, PTX)
                if SAME_ROW:
                    p_sums = _added(p_sums, i + dx, terms, True, SUMS, COLS, PTX)
                else:
                    q_sums = _added(q_sums, i + dx, terms, True, SUMS, COLS, PTX)
    return p_sums, q_sums


@triton.jit
def _add_side_pairs(
    p_v, p_l, p_sums, q_v, q_l, ratios,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, COLS: tl.constexpr,
    Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds what the own columns of row p receive from the sides of row q, which may be the same row."""
    SUMS: tl.constexpr = (Y_CHANNELS if Y_GRAD else 0) + (L_CHANNELS if L_GRAD else 0)
    for side in tl.static_range(0, 4):  # columns -2, -1, COLS, COLS + 1
        for i in tl.static_range(0, COLS):
            for dx in tl.static_range(1, 3):
                if (side >= 2 and i + dx == COLS - 2 + side) or (side < 2 and i - dx == side - 2):
                    terms = _pair(
                        p_v, p_l, i, COLS, q_v, q_l, side, 4, ratios[dx],
                        Y_CHANNELS, L_CHANNELS, Y_GRAD, L_GRAD, PTX,
                    )  # fmt: skip
                    p_sums = _added(p_sums, i, terms, False, SUMS, COLS, PTX)
    return p_sums


@triton.jit
def add_row_below(
    y_ptr, l_ptr, plane, row, dy: tl.constexpr, columns, beside, inside, H, W, u,
    v0, light0, sums0, sums, nothing, own_ratio, row_ratio, column1, column2,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr,
    VECTOR: tl.constexpr, BRANCHES: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr, COLS: tl.constexpr,
    N: tl.constexpr,
):  # fmt: skip
    """Adds the pairs of `row` with the row dy below it to the sums of both, and if dy = 2 those within `row`.

    `v0`, `light0` and `sums0` are those of `row`, `sums` those of the row below. Returns both sums, and the own columns
    of the row below.
    """
    ratios = row_ratios(row, dy, H, scalar(row_ratio, ACC), column1, column2)
    v, light = own_columns(
        y_ptr, l_ptr, plane, row + dy, columns, inside, H, W, u,
        Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, N, ACC,
    )  # fmt: skip
    if BRANCHES < 2 or H >= 3:  # always: see the module's docstring
        sums0, sums = _add_own_pairs(
            v0, light0, sums0, v, light, sums, ratios, False,
            Y_CHANNELS, L_CHANNELS, COLS, Y_GRAD, L_GRAD, PTX,
        )  # fmt: skip
    side_v, side_light = side_columns(
        y_ptr, l_ptr, plane, row + dy, columns, beside, H, W, u, False,
        Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, ACC,
    )  # fmt: skip
    if not BRANCHES or H >= 3:  # always
        sums0 = _add_side_pairs(
            v0, light0, sums0, side_v, side_light, ratios,
            Y_CHANNELS, L_CHANNELS, COLS, Y_GRAD, L_GRAD, PTX,
        )  # fmt: skip
    side_v, side_light = side_columns(
        y_ptr, l_ptr, plane, row, columns, beside, H, W, u, dy == 1,
        Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, ACC,
    )  # fmt: skip
    if H >= 3:  # always
        sums = _add_side_pairs(
            v, light, sums, side_v, side_light, ratios,
            Y_CHANNELS, L_CHANNELS, COLS, Y_GRAD, L_GRAD, PTX,
        )  # fmt: skip
    if dy == 2:
        ratios = row_ratios(row, 0, H, own_ratio, column1, column2)
        if H >= 3:  # always
            sums0 = _add_side_pairs(
                v0, light0, sums0, side_v, side_light, ratios,
                Y_CHANNELS, L_CHANNELS, COLS, Y_GRAD, L_GRAD, PTX,
            )  # fmt: skip
            sums0, _ = _add_own_pairs(
                v0, light0, sums0, v0, light0, nothing, ratios, True,
                Y_CHANNELS, L_CHANNELS, COLS, Y_GRAD, L_GRAD, PTX,
            )  # fmt: skip
    return sums0, sums, v, light
