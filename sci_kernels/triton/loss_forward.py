"""The loss: each program sums the 12 pairs and the fidelity term over its tile, and writes one partial sum.

A thread marches down its band of rows (see `strips`). Each new row is paired with itself and with the two rows above,
of which only the own columns are kept. A pair belongs to the thread that owns the column of its upper pixel and the row
of its lower one, so that none is counted twice.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward
from .config import loss_launch
from .launcher import Launcher
from .neighbors import (
    compare,
    illumination_distance,
    own_columns,
    row_ratios,
    scalar_arguments,
    scalars6,
    side_columns,
    tiles_of,
)
from .primitives import ACC, SCALARS, aligned, ptx_level, scalar, scalar_bits
from .strips import load_own, row_offsets, split_own, strip_columns, strip_position


@triton.jit
def _pairs(
    total, p_v, p_l, q, ratios, FIRST: tl.constexpr,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, COLS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds w d of the pairs of the own columns of row p with row q, for shifts dx = FIRST ... 2."""
    q_v, q_l, q_side_v, q_side_l = q
    for dx in tl.static_range(FIRST, 3):
        for i in tl.static_range(COLS):
            ratio = ratios[dx if dx >= 0 else -dx]
            if i + dx >= 0 and i + dx < COLS:
                _, f, weight = compare(p_v, p_l, i, COLS, q_v, q_l, i + dx, COLS, ratio, Y_CHANNELS, L_CHANNELS, PTX)
            else:  # columns -2, -1, COLS and COLS + 1
                _, f, weight = compare(
                    p_v, p_l, i, COLS, q_side_v, q_side_l, i + dx + 2 if dx < 0 else i + dx + 2 - COLS, 4, ratio,
                    Y_CHANNELS, L_CHANNELS, PTX,
                )  # fmt: skip
            total += weight * illumination_distance(f, L_CHANNELS)
    return total


@triton.jit(do_not_specialize=SCALARS)
def _loss_fwd_kernel(
    x_ptr,  # the input itself, for the fidelity term
    y_ptr,  # what colors are made of: the input, or in reference mode its transform
    l_ptr,
    partial_ptr,
    u00: tl.int64, u01: tl.int64, u02: tl.int64, u11: tl.int64, u12: tl.int64, u22: tl.int64,  # s U
    row_ratio1: tl.int64, row_ratio2: tl.int64,  # log2(H / (H - |dy|))
    column_ratio1: tl.int64, column_ratio2: tl.int64,  # log2(W / (W - |dx|))
    pair_factor: tl.int64,  # 2 smooth_weight / (N H W)
    fidelity_factor: tl.int64,  # fidelity_weight / numel
    H,
    W,
    march,  # rows that a thread marches down
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    YCBCR: tl.constexpr,
    FIDELITY: tl.constexpr,
    Y_IS_INPUT: tl.constexpr,
    VECTOR: tl.constexpr,  # W % 4 == 0 and COLS == 4
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BANDS: tl.constexpr,
    STRIPS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = BANDS * STRIPS
    if VECTOR:
        W = W // 4 * 4  # so the compiler knows that rows begin at multiples of 4
    image, top, left = strip_position(H, W, march, BANDS, STRIPS, COLS)
    columns, beside, inside = strip_columns(left, W, COLS, VECTOR, False)
    plane = H.to(tl.int64) * W
    x_ptr += image * L_CHANNELS * plane
    y_ptr += image * Y_CHANNELS * plane
    l_ptr += image * L_CHANNELS * plane
    u = scalars6(u00, u01, u02, u11, u12, u22, ACC)
    own_ratio = tl.full([], 0.0, ACC)
    pair = scalar(pair_factor, ACC)
    fidelity = scalar(fidelity_factor, ACC)
    column1 = scalar(column_ratio1, ACC)
    column2 = scalar(column_ratio2, ACC)
    # A pair counts in its lower row, so the band's first rows need the two above it.
    v1, light1 = own_columns(
        y_ptr, l_ptr, plane, top - 1, columns, inside, H, W, u, Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, N, ACC
    )
    v2, light2 = own_columns(
        y_ptr, l_ptr, plane, top - 2, columns, inside, H, W, u, Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, N, ACC
    )
    total = tl.zeros([N], ACC)
    for step in range(0, march):
        row = top + step
        v, light = own_columns(
            y_ptr, l_ptr, plane, row, columns, inside, H, W, u, Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, N, ACC
        )
        side_v, side_light = side_columns(
            y_ptr, l_ptr, plane, row, columns, beside, H, W, u, False, Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, ACC
        )
        q = (v, light, side_v, side_light)
        ratios = row_ratios(row, 0, H, own_ratio, column1, column2)
        of_row = _pairs(tl.zeros([N], ACC), v, light, q, ratios, 1, Y_CHANNELS, L_CHANNELS, COLS, PTX)
        ratios = row_ratios(row - 1, 1, H, scalar(row_ratio1, ACC), column1, column2)
        of_row = _pairs(of_row, v1, light1, q, ratios, -2, Y_CHANNELS, L_CHANNELS, COLS, PTX)
        ratios = row_ratios(row - 2, 2, H, scalar(row_ratio2, ACC), column1, column2)
        of_row = _pairs(of_row, v2, light2, q, ratios, -2, Y_CHANNELS, L_CHANNELS, COLS, PTX)
        of_row *= pair
        start = row_offsets(row, H, W, VECTOR)
        for channel in tl.static_range(L_CHANNELS if FIDELITY else 0):
            x = load_own((y_ptr if Y_IS_INPUT else x_ptr) + channel * plane + start, columns, inside, VECTOR, COLS, ACC)
            x = split_own(x, VECTOR, N)
            for i in tl.static_range(COLS):
                diff = light[channel * COLS + i] - x[i]
                of_row += diff * diff * fidelity
        total += tl.where((row < H) & (left < W), of_row, 0.0)
        v2 = v1
        light2 = light1
        v1 = v
        light1 = light
    tl.store(partial_ptr + tl.program_id(0), tl.sum(total))


_launch = Launcher(_loss_fwd_kernel)


def launch_loss_forward(
    input: Tensor, illumination: Tensor, sigma: float, color: str, fidelity_weight: float, smooth_weight: float
) -> Tensor:
    """The loss, a scalar in the dtype of the arithmetic."""
    x, light = aligned(input), aligned(illumination)
    dtype = compute_dtype(x, light)
    reference = color == "reference"
    y = launch_color_forward(x, dtype) if reference else x
    launch = loss_launch(x, dtype, backward=False)
    march, programs = tiles_of(x, launch)
    level = ptx_level(x, dtype)
    partial = torch.empty(programs, dtype=dtype, device=x.device)
    scalars = (
        *scalar_arguments(x, sigma, color, smooth_weight, dtype),
        scalar_bits(fidelity_weight / x.numel(), dtype),
    )
    constants = (
        x.shape[1], light.shape[1], color == "ycbcr", fidelity_weight != 0.0, not reference,
        x.shape[3] % 4 == 0 and launch.columns == 4, level, ACC[dtype], launch.bands, launch.strips, launch.columns,
    )  # fmt: skip
    _launch(programs, (x, y, light, partial, *scalars, *x.shape[2:], march), constants, launch.options(level))
    # Of a few thousand numbers. In float64 this would take two more launches, and give no better float32.
    return partial.sum()
