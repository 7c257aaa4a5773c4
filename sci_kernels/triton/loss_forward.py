"""The loss: each program sums its tile's part over the 12 pairs and the fidelity term, to one partial sum."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward
from .config import LOSS_FORWARD, LOSS_FP64
from .neighbours import (
    differences,
    edge_weight,
    grid_of,
    illumination_distance,
    launch_on,
    load_own,
    load_row,
    only_inside,
    residual,
    scalar_arguments,
    scalars,
)
from .primitives import ACC, ptx_level
from .strips import strip_offsets, strip_position


@triton.jit
def _pairs_with_row(
    total, v0, l0, v, l1, ratios, inside, columns, W, FIRST: tl.constexpr,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, MASKED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds w d of the pairs between a strip and another row, shifts FIRST ... 2."""
    for dx in tl.static_range(FIRST, 3):
        there = inside & (columns + dx >= 0) & (columns + dx < W)
        e = differences(v0, v, dx, Y_CHANNELS)
        f = only_inside(differences(l0, l1, dx, L_CHANNELS), there, L_CHANNELS, MASKED)
        total += edge_weight(e, dx, ratios, Y_CHANNELS, PTX) * illumination_distance(f, L_CHANNELS)
    return total


@triton.jit
def _forward_tile(
    x_ptr, y_ptr, l_ptr, u, row_ratios, column_ratios, pair_factor, fidelity_factor,
    rows, columns, offsets, plane, H, W,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, FIDELITY: tl.constexpr,
    MASKED: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    own = (rows < H) & (columns < W)
    v0, l0 = load_own(y_ptr, l_ptr, offsets, plane, own, u, Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC)
    v, l1 = load_row(
        y_ptr, l_ptr, offsets, plane, rows < H, columns, W, u, Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC, N
    )
    # In its own row a pixel pairs with its neighbours to the right only: one of each pair.
    total = _pairs_with_row(
        tl.zeros([N, 4], ACC), v0, l0, v, l1, column_ratios, own, columns, W, 1, Y_CHANNELS, L_CHANNELS, MASKED, PTX
    )
    for dy in range(1, 3):
        ratio = tl.where(dy == 1, row_ratios[1], row_ratios[2])
        ratios = (ratio, ratio + column_ratios[1], ratio + column_ratios[2])
        inside = rows + dy < H
        v, l1 = load_row(
            y_ptr, l_ptr, offsets + dy * W, plane, inside, columns, W, u,
            Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC, N,
        )  # fmt: skip
        total = _pairs_with_row(
            total, v0, l0, v, l1, ratios, own & inside, columns, W, -2, Y_CHANNELS, L_CHANNELS, MASKED, PTX
        )
    total *= pair_factor
    if FIDELITY:
        for channel in tl.static_range(L_CHANNELS):
            diff = residual(x_ptr + channel * plane, l_ptr + channel * plane, offsets, own, MASKED, ACC)
            total += diff * diff * fidelity_factor
    return tl.sum(total)


@triton.jit(do_not_specialize=["H", "W"])
def _loss_fwd_kernel(
    x_ptr,  # the input itself, for the fidelity term
    y_ptr,  # what colour differences are taken of: the input, or its transform in reference mode
    l_ptr,
    partial_ptr,
    u00: tl.float64, u01: tl.float64, u02: tl.float64, u11: tl.float64, u12: tl.float64, u22: tl.float64,  # s U
    row_ratio1: tl.float64, row_ratio2: tl.float64,  # log2(H / (H - |dy|))
    column_ratio1: tl.float64, column_ratio2: tl.float64,  # log2(W / (W - |dx|))
    pair_factor: tl.float64,  # 2 smooth_weight / (N H W)
    fidelity_factor: tl.float64,  # fidelity_weight / numel
    H,
    W,
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    YCBCR: tl.constexpr,
    FIDELITY: tl.constexpr,
    ALIGNED: tl.constexpr,  # W % 4 == 0
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    if ALIGNED:
        W = W // 4 * 4  # tells the compiler that rows begin where vectors may
    image, top, left, interior = strip_position(H, W, BLOCK_H, BLOCK_W)
    rows, columns = strip_offsets(BLOCK_H, BLOCK_W)
    plane = H.to(tl.int64) * W
    tile = top.to(tl.int64) * W + left
    x_ptr += image * L_CHANNELS * plane + tile
    y_ptr += image * Y_CHANNELS * plane + tile
    l_ptr += image * L_CHANNELS * plane + tile
    offsets = rows * W + columns  # [N, 4]
    u = scalars(u00, u01, u02, ACC) + scalars(u11, u12, u22, ACC)
    row_ratios = scalars(0.0, row_ratio1, row_ratio2, ACC)
    column_ratios = scalars(0.0, column_ratio1, column_ratio2, ACC)
    pair = tl.full([], pair_factor, ACC)
    fidelity = tl.full([], fidelity_factor, ACC)
    if interior:
        total = _forward_tile(
            x_ptr, y_ptr, l_ptr, u, row_ratios, column_ratios, pair, fidelity, top + rows, left + columns, offsets,
            plane, H, W, Y_CHANNELS, L_CHANNELS, YCBCR, FIDELITY, False, PTX, ACC, BLOCK_H * BLOCK_W // 4,
        )  # fmt: skip
        tl.store(partial_ptr + tl.program_id(0), total)
    else:
        total = _forward_tile(
            x_ptr, y_ptr, l_ptr, u, row_ratios, column_ratios, pair, fidelity, top + rows, left + columns, offsets,
            plane, H, W, Y_CHANNELS, L_CHANNELS, YCBCR, FIDELITY, True, PTX, ACC, BLOCK_H * BLOCK_W // 4,
        )  # fmt: skip
        tl.store(partial_ptr + tl.program_id(0), total)


def launch_loss_forward(
    input: Tensor, illumination: Tensor, sigma: float, color: str, fidelity_weight: float, smooth_weight: float
) -> Tensor:
    """The loss as a scalar of the arithmetic's dtype."""
    x, light = input.contiguous(), illumination.contiguous()
    dtype = compute_dtype(x, light)
    y = launch_color_forward(x, dtype) if color == "reference" else x
    launch = launch_on(LOSS_FP64 if dtype == torch.float64 else LOSS_FORWARD, x)
    partial = torch.empty(grid_of(x, launch), dtype=dtype, device=x.device)
    with torch.cuda.device_of(x):
        _loss_fwd_kernel[partial.shape](
            x, y, light, partial, *scalar_arguments(x, sigma, color, smooth_weight), fidelity_weight / x.numel(),
            *x.shape[2:], x.shape[1], light.shape[1], color == "ycbcr", fidelity_weight != 0.0, x.shape[3] % 4 == 0,
            ptx_level(x, dtype), ACC[dtype], launch.block_h, launch.block_w, num_warps=launch.num_warps,
        )  # fmt: skip
    return partial.sum(dtype=torch.float64).to(dtype)
