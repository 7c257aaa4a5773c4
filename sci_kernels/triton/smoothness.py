"""The loss in one forward and one backward kernel.

Forward: each program sums its tile's part over the 12 pairs and the fidelity term, to one partial sum.
Backward: each pixel gathers from its 24 neighbours q, so that nothing is added to memory twice:

    dL(p) = g sum_q k w sign(L(p) - L(q))                 + g 2 f (L(p) - X(p)) / numel
    dY(p) = g sum_q -k w d (Y(p) - Y(q)) / sigma^2        (and - g 2 f (L(p) - X(p)) / numel for X)

with w and d as in `reference`, k = 2 smooth_weight / (N (H-|dy|) (W-|dx|)), f the fidelity weight and g the incoming
gradient. Three rewritings save instructions without losing digits:

- Colours enter as v = s U x, with U from `config` (or the identity) and s^2 = log2(e) / (2 sigma^2), so that the
  weight is 2^(-|v(p) - v(q)|^2), and dX = -2 ln 2 s U^T sum_q k w d (v(p) - v(q)).
- k differs from 2 smooth_weight / (N H W) by a ratio near 1, whose logarithm joins that exponent for nothing.
- The sign costs one instruction where PTX has it (see `primitives.signed`).

The reference colour mode reads triples that straddle rows, so its Y is written once, by `color`, and its
gradient goes back the same way; the ycbcr mode needs no buffer.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward, launch_color_gradient
from .config import INTERPRETED_TILE, LOSS_BACKWARD, LOSS_FORWARD, LOSS_FP64, YCBCR_FACTOR, Launch
from .primitives import TINY, exp2, ptx_level, signed
from .strips import load_strip, load_strips, shifted, store_strip, strip_offsets, strip_position

_ACC = {torch.float32: tl.float32, torch.float64: tl.float64}


@triton.jit
def _colors(strips, u, COUNT: tl.constexpr, CHANNELS: tl.constexpr, YCBCR: tl.constexpr):
    """v of the module docstring, from COUNT strips a channel and in their order."""
    result = ()
    if YCBCR:
        for i in tl.static_range(COUNT):
            result = result + (u[0] * strips[i] + u[1] * strips[COUNT + i] + u[2] * strips[2 * COUNT + i],)
        for i in tl.static_range(COUNT):
            result = result + (u[3] * strips[COUNT + i] + u[4] * strips[2 * COUNT + i],)
        for i in tl.static_range(COUNT):
            result = result + (u[5] * strips[2 * COUNT + i],)
    else:
        for i in tl.static_range(COUNT * CHANNELS):
            result = result + (u[0] * strips[i],)
    return result


@triton.jit
def _shifts(strips, CHANNELS: tl.constexpr, N: tl.constexpr):
    """Each channel's strip shifted by dx = -2 ... 2: a tuple of 5 CHANNELS tensors [N, 4]."""
    result = ()
    for channel in tl.static_range(CHANNELS):
        result = result + shifted(strips[3 * channel], strips[3 * channel + 1], strips[3 * channel + 2], N)
    return result


@triton.jit
def _differences(here, there, dx, CHANNELS: tl.constexpr):
    """The strip here minus the strip there, shifted by dx; a tensor a channel."""
    result = ()
    for channel in tl.static_range(CHANNELS):
        result = result + (here[channel] - there[5 * channel + 2 + dx],)
    return result


@triton.jit
def _weight(e, dx, ratios, inside, CHANNELS: tl.constexpr, MASKED: tl.constexpr, PTX: tl.constexpr):
    """2^(ratio - |e|^2), 0 outside the image; ratios are those of columns at distance 0, 1 and 2."""
    exponent = ratios[dx if dx >= 0 else -dx]
    for channel in tl.static_range(CHANNELS):
        exponent = exponent - e[channel] * e[channel]
    weight = exp2(exponent, PTX)
    if MASKED:
        weight = tl.where(inside, weight, 0.0)
    return weight


@triton.jit
def _distance(f, CHANNELS: tl.constexpr):
    total = tl.abs(f[0])
    for channel in tl.static_range(1, CHANNELS):
        total += tl.abs(f[channel])
    return total


@triton.jit
def _load_row(
    y_ptr, l_ptr, offsets, plane, row_inside, columns, W, u,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
    N: tl.constexpr,
):  # fmt: skip
    """The shifted strips of a row: of v, and of the illumination."""
    y = load_strips(y_ptr, offsets, plane, row_inside, columns, W, Y_CHANNELS, MASKED, ACC)
    light = load_strips(l_ptr, offsets, plane, row_inside, columns, W, L_CHANNELS, MASKED, ACC)
    return _shifts(_colors(y, u, 3, Y_CHANNELS, YCBCR), Y_CHANNELS, N), _shifts(light, L_CHANNELS, N)


@triton.jit
def _load_own(
    y_ptr, l_ptr, offsets, plane, own, u,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The strip itself: of v, and of the illumination; a tensor a channel."""
    y = ()
    for channel in tl.static_range(Y_CHANNELS):
        y = y + (load_strip(y_ptr + channel * plane, offsets, own, MASKED, ACC),)
    light = ()
    for channel in tl.static_range(L_CHANNELS):
        light = light + (load_strip(l_ptr + channel * plane, offsets, own, MASKED, ACC),)
    return _colors(y, u, 1, Y_CHANNELS, YCBCR), light


@triton.jit
def _residual(x_ptr, l_ptr, offsets, mask, MASKED: tl.constexpr, ACC: tl.constexpr):
    """L - X of one channel, what the fidelity term is about."""
    return load_strip(l_ptr, offsets, mask, MASKED, ACC) - load_strip(x_ptr, offsets, mask, MASKED, ACC)


@triton.jit
def _pairs_with_row(
    total, v0, l0, v, l1, ratios, inside, columns, W, FIRST: tl.constexpr,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, MASKED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds w d of the pairs between a strip and another row, shifts FIRST ... 2."""
    for dx in tl.static_range(FIRST, 3):
        there = inside & (columns + dx >= 0) & (columns + dx < W)
        e = _differences(v0, v, dx, Y_CHANNELS)
        f = _differences(l0, l1, dx, L_CHANNELS)
        total += _weight(e, dx, ratios, there, Y_CHANNELS, MASKED, PTX) * _distance(f, L_CHANNELS)
    return total


@triton.jit
def _forward_tile(
    x_ptr, y_ptr, l_ptr, u, row_ratios, column_ratios, pair_factor, fidelity_factor,
    rows, columns, offsets, plane, H, W,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, FIDELITY: tl.constexpr,
    MASKED: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    own = (rows < H) & (columns < W)
    v0, l0 = _load_own(y_ptr, l_ptr, offsets, plane, own, u, Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC)
    v, l1 = _load_row(
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
        v, l1 = _load_row(
            y_ptr, l_ptr, offsets + dy * W, plane, inside, columns, W, u,
            Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC, N,
        )  # fmt: skip
        total = _pairs_with_row(
            total, v0, l0, v, l1, ratios, own & inside, columns, W, -2, Y_CHANNELS, L_CHANNELS, MASKED, PTX
        )
    total *= pair_factor
    if FIDELITY:
        for channel in tl.static_range(L_CHANNELS):
            diff = _residual(x_ptr + channel * plane, l_ptr + channel * plane, offsets, own, MASKED, ACC)
            total += diff * diff * fidelity_factor
    return tl.sum(total)


@triton.jit
def _scalars(a, b, c, ACC: tl.constexpr):
    return (tl.full([], a, ACC), tl.full([], b, ACC), tl.full([], c, ACC))


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
    u = _scalars(u00, u01, u02, ACC) + _scalars(u11, u12, u22, ACC)
    row_ratios = _scalars(0.0, row_ratio1, row_ratio2, ACC)
    column_ratios = _scalars(0.0, column_ratio1, column_ratio2, ACC)
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


@triton.jit
def _gather_from_row(
    sums, v0, l0, v, l1, ratios, inside, columns, W, Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr, Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, MASKED: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Adds what a strip gathers from the five shifts of a row: sums for the channels of v, then for those of L."""
    for dx in tl.static_range(-2, 3):
        there = inside & (columns + dx >= 0) & (columns + dx < W)
        e = _differences(v0, v, dx, Y_CHANNELS)
        f = _differences(l0, l1, dx, L_CHANNELS)
        weight = _weight(e, dx, ratios, there, Y_CHANNELS, MASKED, PTX)
        new = ()
        if Y_GRAD:
            weighted = weight * _distance(f, L_CHANNELS)
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
    v0, l0 = _load_own(y_ptr, l_ptr, offsets, plane, own, u, Y_CHANNELS, L_CHANNELS, YCBCR, MASKED, ACC)
    sums = (tl.zeros([N, 4], ACC),) * (Y_SUMS + L_SUMS)
    # A loop that stays one: unrolled, all rows would be loaded first and spill. The strip itself counts as a
    # neighbour: all its differences are zero, and so is what it adds.
    for dy in range(-2, 3):
        ratio = tl.where(dy == 0, row_ratios[0], tl.where((dy == 1) | (dy == -1), row_ratios[1], row_ratios[2]))
        ratios = (ratio, ratio + column_ratios[1], ratio + column_ratios[2])
        inside = (rows + dy >= 0) & (rows + dy < H)
        v, l1 = _load_row(
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
                diff = _residual(x_ptr + channel * plane, l_ptr + channel * plane, offsets, own, MASKED, ACC)
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
                diff = _residual(x_ptr + channel * plane, l_ptr + channel * plane, offsets, own, MASKED, ACC)
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
    u = _scalars(u00, u01, u02, ACC) + _scalars(u11, u12, u22, ACC)
    row_ratios = _scalars(0.0, row_ratio1, row_ratio2, ACC)
    column_ratios = _scalars(0.0, column_ratio1, column_ratio2, ACC)
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


def launch_loss_forward(
    input: Tensor, illumination: Tensor, sigma: float, color: str, fidelity_weight: float, smooth_weight: float
) -> Tensor:
    """The loss as a scalar of the arithmetic's dtype."""
    x, light = input.contiguous(), illumination.contiguous()
    dtype = compute_dtype(x, light)
    y = launch_color_forward(x, dtype) if color == "reference" else x
    launch = _launch(LOSS_FP64 if dtype == torch.float64 else LOSS_FORWARD, x)
    partial = torch.empty(_grid(x, launch), dtype=dtype, device=x.device)
    with torch.cuda.device_of(x):
        _loss_fwd_kernel[partial.shape](
            x, y, light, partial, *_scalar_arguments(x, sigma, color, smooth_weight), fidelity_weight / x.numel(),
            *x.shape[2:], x.shape[1], light.shape[1], color == "ycbcr", fidelity_weight != 0.0, x.shape[3] % 4 == 0,
            ptx_level(x, dtype), _ACC[dtype], launch.block_h, launch.block_w, num_warps=launch.num_warps,
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
    reference = color == "reference"
    y = launch_color_forward(x, dtype) if reference else x
    grad_y = torch.empty_like(y) if input_grad else y.new_empty(0)
    grad_l = torch.empty_like(light) if illumination_grad else light.new_empty(0)
    launch = _launch(LOSS_FP64 if dtype == torch.float64 else LOSS_BACKWARD, x)
    fidelity = fidelity_weight != 0.0
    fidelity_factor = 2.0 * fidelity_weight / x.numel()
    with torch.cuda.device_of(x):
        _loss_bwd_kernel[_grid(x, launch)](
            grad_loss, x, y, light, grad_y, grad_l, *_scalar_arguments(x, sigma, color, smooth_weight), fidelity_factor,
            *x.shape[2:], x.shape[1], light.shape[1], color == "ycbcr", fidelity, fidelity and not reference,
            input_grad, illumination_grad, x.shape[3] % 4 == 0, ptx_level(x, dtype), _ACC[dtype],
            launch.block_h, launch.block_w, num_warps=launch.num_warps,
        )  # fmt: skip
    if reference and input_grad:
        grad_y = launch_color_gradient(grad_loss, grad_y, x, light, fidelity_factor)
    return grad_y, grad_l


def _scalar_arguments(x: Tensor, sigma: float, color: str, smooth_weight: float) -> tuple[float, ...]:
    """s U, the logarithms of the ratios, and the pair factor, as the kernels take them."""
    n, _, h, w = x.shape
    scale = math.sqrt(math.log2(math.e) / 2.0) / sigma
    factor = YCBCR_FACTOR if color == "ycbcr" else (1.0,) + (0.0,) * 5
    ratios = (math.log2(side / (side - distance)) for side in (h, w) for distance in (1, 2))
    return *(scale * value for value in factor), *ratios, 2.0 * smooth_weight / (n * h * w)


def _launch(launch: Launch, x: Tensor) -> Launch:
    return launch if x.is_cuda else INTERPRETED_TILE


def _grid(x: Tensor, launch: Launch) -> tuple[int]:
    n, _, h, w = x.shape
    return (n * triton.cdiv(h, launch.block_h) * triton.cdiv(w, launch.block_w),)
