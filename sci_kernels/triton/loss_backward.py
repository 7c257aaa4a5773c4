"""The gradients: each pixel p gathers from its 24 neighbours q, so that nothing is added to memory twice.

    dL(p) = g sum_q k w sign(L(p) - L(q))                  + g 2 f (L(p) - X(p)) / numel
    dv(p) = -2 ln 2 g sum_q k w d (v(p) - v(q))            (and dX - g 2 f (L(p) - X(p)) / numel)

with w, d and L as in `reference`, v as in `neighbours`, k = 2 smooth_weight / (N (H-|dy|) (W-|dx|)), f the fidelity
weight and g the incoming gradient.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward, launch_color_gradient
from .config import LOSS_BACKWARD, LOSS_FP64
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
from .primitives import ACC, TINY, ptx_level, signed
from .strips import store_strip, strip_offsets, strip_position


@triton.jit
def _gather_from_row(
    sums, v0, l0, v, l1, ratios, inside, columns, W, Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr, Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, MASKED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds what a strip gathers from the five shifts of a row: sums for the channels of v, then for those of L."""
    for dx in tl.static_range(-2, 3):
        there = inside & (columns + dx >= 0) & (columns + dx < W)
        e = differences(v0, v, dx, Y_CHANNELS)
        f = only_inside(differences(l0, l1, dx, L_CHANNELS), there, L_CHANNELS, MASKED)
        weight = edge_weight(e, dx, ratios, Y_CHANNELS, PTX)
        new = ()
        if Y_GRAD:
            weighted = weight * illumination_distance(f, L_CHANNELS)
            for channel in tl.static_range(Y_CHANNELS):
                new = new + (sums[channel] + weighted * e[channel],)
        if L_GRAD:
            pull = weight * TINY if PTX >= 2 else weight
            for channel in tl.static_range(L_CHANNELS):
                new = new + (sums[(Y_CHANNELS if Y_GRAD else 0) + channel] + signed(pull, f[channel], PTX),)
        sums = new
    return sums


@triton.jit
def _backward_tile(
    grad, x_ptr, y_ptr, l_ptr, grad_y_ptr, grad_l_ptr, u, row_ratios, column_ratios, pair_factor, fidelity_factor,
    rows, columns, offsets, plane, H, W,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, FIDELITY: tl.constexpr,
    FIDELITY_TO_Y: tl.constexpr, Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr,
    MASKED: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    Y_SUMS: tl.constexpr = Y_CHANNELS if Y_GRAD else 0
    L_SUMS: tl.constexpr = L_CHANNELS if L_GRAD else 0
    own = (rows < H) & (columns < W)
    v0, l0 = load_own(y_ptr, l_ptr, offsets, plane, own, u, Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC)
    sums = (tl.zeros([N, 4], ACC),) * (Y_SUMS + L_SUMS)
    # A loop that stays one: unrolled, all rows would be loaded first and spill. The strip itself counts as a
    # neighbour: all its differences are zero, and so is what it adds.
    for dy in range(-2, 3):
        ratio = tl.where(dy == 0, row_ratios[0], tl.where((dy == 1) | (dy == -1), row_ratios[1], row_ratios[2]))
        ratios = (ratio, ratio + column_ratios[1], ratio + column_ratios[2])
        inside = (rows + dy >= 0) & (rows + dy < H)
        v, l1 = load_row(
            y_ptr, l_ptr, offsets + dy * W, plane, inside, columns, W, u,
            Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC, N,
        )  # fmt: skip
        sums = _gather_from_row(
            sums, v0, l0, v, l1, ratios, inside, columns, W, Y_CHANNELS, L_CHANNELS, Y_GRAD, L_GRAD, MASKED, PTX
        )

    if L_GRAD:
        scale = grad * pair_factor * (1.0 / TINY) if PTX >= 2 else grad * pair_factor
        for channel in tl.static_range(L_CHANNELS):
            value = scale * sums[Y_SUMS + channel]
            if FIDELITY:
                diff = residual(x_ptr + channel * plane, l_ptr + channel * plane, offsets, own, MASKED, ACC)
                value += grad * fidelity_factor * diff
            store_strip(grad_l_ptr + channel * plane, offsets, own, value, MASKED)
    if Y_GRAD:
        scale = grad * pair_factor * -1.3862943611198906  # 2 ln 2
        for channel in tl.static_range(Y_CHANNELS):
            if YCBCR:  # row `channel` of U^T
                value = u[channel] * sums[0]
                if channel >= 1:
                    value += u[channel + 2] * sums[1]
                if channel == 2:
                    value += u[5] * sums[2]
            else:
                value = u[0] * sums[channel]
            value *= scale
            if FIDELITY_TO_Y:
                diff = residual(x_ptr + channel * plane, l_ptr + channel * plane, offsets, own, MASKED, ACC)
                value -= grad * fidelity_factor * diff
            store_strip(grad_y_ptr + channel * plane, offsets, own, value, MASKED)


@triton.jit(do_not_specialize=["H", "W"])
def _loss_bwd_kernel(
    grad_loss_ptr,
    x_ptr,
    y_ptr,
    l_ptr,
    grad_y_ptr,
    grad_l_ptr,
    u00: tl.float64, u01: tl.float64, u02: tl.float64, u11: tl.float64, u12: tl.float64, u22: tl.float64,  # s U
    row_ratio1: tl.float64, row_ratio2: tl.float64,  # log2(H / (H - |dy|))
    column_ratio1: tl.float64, column_ratio2: tl.float64,  # log2(W / (W - |dx|))
    pair_factor: tl.float64,  # 2 smooth_weight / (N H W)
    fidelity_factor: tl.float64,  # 2 fidelity_weight / numel
    H,
    W,
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    YCBCR: tl.constexpr,
    FIDELITY: tl.constexpr,  # the fidelity term's gradient goes to L
    FIDELITY_TO_Y: tl.constexpr,  # and to Y, which then is the input
    Y_GRAD: tl.constexpr,
    L_GRAD: tl.constexpr,
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
    y_tile = image * Y_CHANNELS * plane + tile
    l_tile = image * L_CHANNELS * plane + tile
    offsets = rows * W + columns  # [N, 4]
    u = scalars(u00, u01, u02, ACC) + scalars(u11, u12, u22, ACC)
    row_ratios = scalars(0.0, row_ratio1, row_ratio2, ACC)
    column_ratios = scalars(0.0, column_ratio1, column_ratio2, ACC)
    pair = tl.full([], pair_factor, ACC)
    fidelity = tl.full([], fidelity_factor, ACC)
    grad = tl.load(grad_loss_ptr).to(ACC)
    if interior:
        _backward_tile(
            grad, x_ptr + l_tile, y_ptr + y_tile, l_ptr + l_tile, grad_y_ptr + y_tile, grad_l_ptr + l_tile, u,
            row_ratios, column_ratios, pair, fidelity, top + rows, left + columns, offsets, plane, H, W,
            Y_CHANNELS, L_CHANNELS, YCBCR, FIDELITY, FIDELITY_TO_Y, Y_GRAD, L_GRAD, False, PTX, ACC,
            BLOCK_H * BLOCK_W // 4,
        )  # fmt: skip
    else:
        _backward_tile(
            grad, x_ptr + l_tile, y_ptr + y_tile, l_ptr + l_tile, grad_y_ptr + y_tile, grad_l_ptr + l_tile, u,
            row_ratios, column_ratios, pair, fidelity, top + rows, left + columns, offsets, plane, H, W,
            Y_CHANNELS, L_CHANNELS, YCBCR, FIDELITY, FIDELITY_TO_Y, Y_GRAD, L_GRAD, True, PTX, ACC,
            BLOCK_H * BLOCK_W // 4,
        )  # fmt: skip


def launch_loss_backward(
    grad_loss: Tensor,
    input: Tensor,
    illumination: Tensor,
    sigma: float,
    color: str,
    fidelity_weight: float,
    smooth_weight: float,
    input_grad: bool,
    illumination_grad: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients in their argument's dtype; an empty tensor for one that was not asked for."""
    x, light = input.contiguous(), illumination.contiguous()
    dtype = compute_dtype(x, light)
    reference = color == "reference"
    y = launch_color_forward(x, dtype) if reference else x
    grad_y = torch.empty_like(y) if input_grad else y.new_empty(0)
    grad_l = torch.empty_like(light) if illumination_grad else light.new_empty(0)
    launch = launch_on(LOSS_FP64 if dtype == torch.float64 else LOSS_BACKWARD, x)
    level = ptx_level(x, dtype)
    # Before sm_86, ptxas would otherwise spill 8 bytes to stay at 168 registers.
    options = {"maxnreg": 255} if level == 1 else {}
    fidelity = fidelity_weight != 0.0
    fidelity_factor = 2.0 * fidelity_weight / x.numel()
    with torch.cuda.device_of(x):
        _loss_bwd_kernel[grid_of(x, launch)](
            grad_loss, x, y, light, grad_y, grad_l, *scalar_arguments(x, sigma, color, smooth_weight), fidelity_factor,
            *x.shape[2:], x.shape[1], light.shape[1], color == "ycbcr", fidelity, fidelity and not reference,
            input_grad, illumination_grad, x.shape[3] % 4 == 0, level, ACC[dtype],
            launch.block_h, launch.block_w, num_warps=launch.num_warps, **options,
        )  # fmt: skip
    if reference and input_grad:
        grad_y = launch_color_gradient(grad_loss, grad_y, x, light, fidelity_factor)
    return grad_y, grad_l
