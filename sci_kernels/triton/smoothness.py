"""The loss in one forward and one backward kernel.

Forward: each program sums its tile's part over the 12 pairs and the fidelity term, to one partial sum.
Backward: each pixel gathers from its 24 neighbours q, so that nothing is added to memory twice:

    dL(p) = g sum_q k w sign(L(p) - L(q))                 + g 2 f (L(p) - X(p)) / numel
    dY(p) = g sum_q -k w d (Y(p) - Y(q)) / sigma^2        (and - g 2 f (L(p) - X(p)) / numel for X)

with w and d as in `reference`, k = 2 smooth_weight / (N (H-|dy|) (W-|dx|)), f the fidelity weight and g the
incoming gradient. The weights are exp2(exponent |e|^2) with exponent = -log2(e) / (2 sigma^2).

The reference colour mode reads triples that straddle rows, so its Y is written once, by `color`, and its
gradient goes back the same way; the ycbcr mode needs no buffer (see `config`).
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward, launch_color_gradient
from .config import INTERPRETED_TILE, LOSS_BACKWARD, LOSS_FORWARD, YCBCR_FACTOR, YCBCR_GRAM, Launch
from .primitives import load_pixel, signed, store_pixel, tile

_ACC = {torch.float32: tl.float32, torch.float64: tl.float64}


@triton.jit
def _color_distance(e0, e1, e2, FACTOR: tl.constexpr):
    """Squared colour distance: of the differences themselves, or of their image under FACTOR."""
    if FACTOR is None:
        return e0 * e0 + e1 * e1 + e2 * e2
    else:
        a = FACTOR[0] * e0 + FACTOR[1] * e1 + FACTOR[2] * e2
        b = FACTOR[3] * e1 + FACTOR[4] * e2
        c = FACTOR[5] * e2
        return a * a + b * b + c * c


@triton.jit
def _neighbour(
    y_ptr,
    l_ptr,
    offsets,
    inside,
    plane,
    y0,
    y1,
    y2,
    l0,
    l1,
    l2,
    exponent,
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):
    """Differences to the pixels at `offsets`, their weight w (0 outside) and distance d."""
    n0, n1, n2 = load_pixel(y_ptr, offsets, inside, plane, Y_CHANNELS, ACC)
    e0, e1, e2 = y0 - n0, y1 - n1, y2 - n2
    weight = tl.where(inside, tl.exp2(exponent * _color_distance(e0, e1, e2, FACTOR)), 0.0)
    m0, m1, m2 = load_pixel(l_ptr, offsets, inside, plane, L_CHANNELS, ACC)
    f0, f1, f2 = l0 - m0, l1 - m1, l2 - m2
    distance = tl.abs(f0) + tl.abs(f1) + tl.abs(f2)
    return e0, e1, e2, f0, f1, f2, weight, distance


@triton.jit(do_not_specialize=["H", "W"])
def _loss_fwd_kernel(
    x_ptr,  # the input itself, for the fidelity term
    y_ptr,  # what colour differences are taken of: the input, or its transform in reference mode
    l_ptr,
    partial_ptr,
    exponent: tl.float64,
    pair_factor: tl.float64,  # 2 smooth_weight / N
    fidelity_factor: tl.float64,  # fidelity_weight / numel
    H,
    W,
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    FIDELITY: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    image, top, left = tile(H, W, BLOCK_H, BLOCK_W)
    plane = H.to(tl.int64) * W
    origin = top.to(tl.int64) * W + left
    y_ptr += image * Y_CHANNELS * plane + origin
    l_ptr += image * L_CHANNELS * plane + origin
    rows = tl.arange(0, BLOCK_H)[:, None]
    columns = tl.arange(0, BLOCK_W)[None, :]
    offsets = rows * W + columns  # [BLOCK_H, BLOCK_W]
    valid = (top + rows < H) & (left + columns < W)
    exponent_acc = tl.full([], exponent, ACC)
    factor = tl.full([], pair_factor, ACC)

    y0, y1, y2 = load_pixel(y_ptr, offsets, valid, plane, Y_CHANNELS, ACC)
    l0, l1, l2 = load_pixel(l_ptr, offsets, valid, plane, L_CHANNELS, ACC)
    total = tl.zeros([BLOCK_H, BLOCK_W], ACC)
    for dy in range(0, 3):
        row_inside = valid & (top + rows + dy < H)
        row_factor = factor / (H - dy).to(ACC)
        for dx in tl.static_range(-2, 3):
            # In the pixel's own row, only the neighbours to the right: one of each pair.
            inside = row_inside & (left + columns + dx < W) & (left + columns + dx >= 0) & ((dy > 0) | (dx > 0))
            e0, e1, e2, f0, f1, f2, weight, distance = _neighbour(
                y_ptr, l_ptr, offsets + (dy * W + dx), inside, plane, y0, y1, y2, l0, l1, l2,
                exponent_acc, Y_CHANNELS, L_CHANNELS, FACTOR, ACC,
            )  # fmt: skip
            columns_with_neighbour = (W - (dx if dx >= 0 else -dx)).to(ACC)
            contribution = tl.where(inside, weight * distance, 0.0)
            total += contribution * (row_factor / columns_with_neighbour)
    if FIDELITY:
        x_ptr += image * L_CHANNELS * plane + origin
        x0, x1, x2 = load_pixel(x_ptr, offsets, valid, plane, L_CHANNELS, ACC)
        r0, r1, r2 = l0 - x0, l1 - x1, l2 - x2
        total += (r0 * r0 + r1 * r1 + r2 * r2) * tl.full([], fidelity_factor, ACC)
    tl.store(partial_ptr + tl.program_id(0), tl.sum(total))


@triton.jit(do_not_specialize=["H", "W"])
def _loss_bwd_kernel(
    grad_loss_ptr,
    x_ptr,
    y_ptr,
    l_ptr,
    grad_y_ptr,
    grad_l_ptr,
    exponent: tl.float64,
    pair_factor: tl.float64,  # 2 smooth_weight / N
    color_factor: tl.float64,  # -1 / sigma^2
    fidelity_factor: tl.float64,  # 2 fidelity_weight / numel
    H,
    W,
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    GRAM: tl.constexpr,
    FIDELITY: tl.constexpr,  # the fidelity term's gradient goes to L
    FIDELITY_TO_Y: tl.constexpr,  # and to Y, which then is the input
    Y_GRAD: tl.constexpr,
    L_GRAD: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    image, top, left = tile(H, W, BLOCK_H, BLOCK_W)
    plane = H.to(tl.int64) * W
    origin = top.to(tl.int64) * W + left
    y_origin = image * Y_CHANNELS * plane + origin
    l_origin = image * L_CHANNELS * plane + origin
    y_ptr += y_origin
    l_ptr += l_origin
    rows = tl.arange(0, BLOCK_H)[:, None]
    columns = tl.arange(0, BLOCK_W)[None, :]
    offsets = rows * W + columns  # [BLOCK_H, BLOCK_W]
    valid = (top + rows < H) & (left + columns < W)
    exponent_acc = tl.full([], exponent, ACC)
    factor = tl.full([], pair_factor, ACC)

    y0, y1, y2 = load_pixel(y_ptr, offsets, valid, plane, Y_CHANNELS, ACC)
    l0, l1, l2 = load_pixel(l_ptr, offsets, valid, plane, L_CHANNELS, ACC)
    zero = tl.zeros([BLOCK_H, BLOCK_W], ACC)
    gy0, gy1, gy2, gl0, gl1, gl2 = zero, zero, zero, zero, zero, zero
    for dy in range(-2, 3):
        row_inside = valid & (top + rows + dy < H) & (top + rows + dy >= 0)
        row_factor = factor / (H - tl.where(dy >= 0, dy, -dy)).to(ACC)
        for dx in tl.static_range(-2, 3):
            # The centre counts as a neighbour: all its differences are zero, and so is what it adds.
            inside = row_inside & (left + columns + dx < W) & (left + columns + dx >= 0)
            e0, e1, e2, f0, f1, f2, weight, distance = _neighbour(
                y_ptr, l_ptr, offsets + (dy * W + dx), inside, plane, y0, y1, y2, l0, l1, l2,
                exponent_acc, Y_CHANNELS, L_CHANNELS, FACTOR, ACC,
            )  # fmt: skip
            weight *= row_factor / (W - (dx if dx >= 0 else -dx)).to(ACC)
            weighted = weight * distance
            if L_GRAD:
                # sign() would turn a NaN into 0: the distance carries it instead.
                pull = weight + 0.0 * distance
                gl0 += signed(pull, f0)
                gl1 += signed(pull, f1)
                gl2 += signed(pull, f2)
            if Y_GRAD:
                gy0 += weighted * e0
                gy1 += weighted * e1
                gy2 += weighted * e2

    grad = tl.load(grad_loss_ptr).to(ACC)
    if FIDELITY:
        x_ptr += l_origin
        x0, x1, x2 = load_pixel(x_ptr, offsets, valid, plane, L_CHANNELS, ACC)
        scale = grad * tl.full([], fidelity_factor, ACC)
        r0, r1, r2 = scale * (l0 - x0), scale * (l1 - x1), scale * (l2 - x2)
    else:
        r0, r1, r2 = zero, zero, zero
    if L_GRAD:
        store_pixel(
            grad_l_ptr + l_origin, offsets, valid, plane, grad * gl0 + r0, grad * gl1 + r1, grad * gl2 + r2, L_CHANNELS
        )
    if Y_GRAD:
        scale = grad * tl.full([], color_factor, ACC)
        gy0, gy1, gy2 = scale * gy0, scale * gy1, scale * gy2
        if GRAM is not None:
            h0 = GRAM[0] * gy0 + GRAM[1] * gy1 + GRAM[2] * gy2
            h1 = GRAM[1] * gy0 + GRAM[3] * gy1 + GRAM[4] * gy2
            h2 = GRAM[2] * gy0 + GRAM[4] * gy1 + GRAM[5] * gy2
            gy0, gy1, gy2 = h0, h1, h2
        if FIDELITY_TO_Y:
            gy0, gy1, gy2 = gy0 - r0, gy1 - r1, gy2 - r2
        store_pixel(grad_y_ptr + y_origin, offsets, valid, plane, gy0, gy1, gy2, Y_CHANNELS)


def launch_loss_forward(
    input: Tensor, illumination: Tensor, sigma: float, color: str, fidelity_weight: float, smooth_weight: float
) -> Tensor:
    """The loss as a scalar of the arithmetic's dtype."""
    x, light = input.contiguous(), illumination.contiguous()
    dtype = compute_dtype(x, light)
    y = launch_color_forward(x, dtype) if color == "reference" else x
    launch = _launch(LOSS_FORWARD, x)
    n, _, h, w = x.shape
    partial = torch.empty(_grid(x, launch), dtype=dtype, device=x.device)
    with torch.cuda.device_of(x):
        _loss_fwd_kernel[partial.shape](
            x, y, light, partial, _exponent(sigma), 2.0 * smooth_weight / n, fidelity_weight / x.numel(), h, w,
            x.shape[1], light.shape[1], YCBCR_FACTOR if color == "ycbcr" else None, fidelity_weight != 0.0, _ACC[dtype],
            launch.block_h, launch.block_w, num_warps=launch.num_warps,
        )  # fmt: skip
    return partial.sum(dtype=torch.float64).to(dtype)


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
    reference, ycbcr = color == "reference", color == "ycbcr"
    y = launch_color_forward(x, dtype) if reference else x
    grad_y = torch.empty_like(y) if input_grad else y.new_empty(0)
    grad_l = torch.empty_like(light) if illumination_grad else light.new_empty(0)
    launch = _launch(LOSS_BACKWARD, x)
    n, _, h, w = x.shape
    fidelity = fidelity_weight != 0.0
    with torch.cuda.device_of(x):
        _loss_bwd_kernel[_grid(x, launch)](
            grad_loss, x, y, light, grad_y, grad_l, _exponent(sigma), 2.0 * smooth_weight / n, -1.0 / (sigma * sigma),
            2.0 * fidelity_weight / x.numel(), h, w, x.shape[1], light.shape[1], YCBCR_FACTOR if ycbcr else None,
            YCBCR_GRAM if ycbcr else None, fidelity, fidelity and not reference, input_grad, illumination_grad,
            _ACC[dtype], launch.block_h, launch.block_w, num_warps=launch.num_warps,
        )  # fmt: skip
    if reference and input_grad:
        grad_y = launch_color_gradient(grad_loss, grad_y, x, light, 2.0 * fidelity_weight / x.numel())
    return grad_y, grad_l


def _exponent(sigma: float) -> float:
    return -math.log2(math.e) / (2.0 * sigma * sigma)


def _launch(launch: Launch, x: Tensor) -> Launch:
    return launch if x.is_cuda else INTERPRETED_TILE


def _grid(x: Tensor, launch: Launch) -> tuple[int]:
    n, _, h, w = x.shape
    return (n * triton.cdiv(h, launch.block_h) * triton.cdiv(w, launch.block_w),)
