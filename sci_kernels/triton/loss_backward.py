"""The gradients, from each pair of pixels once.

    dL(p) = g sum_q k w sign(L(p) - L(q))                  + g 2 f (L(p) - X(p)) / numel
    dv(p) = -2 ln 2 g sum_q k w d (v(p) - v(q))            (and dX - g 2 f (L(p) - X(p)) / numel)

with w, d and L as in `reference`, v as in `neighbours`, k = 2 smooth_weight / (N (H-|dy|) (W-|dx|)), f the fidelity
weight and g the incoming gradient. What q receives from p is the negative of what p receives from q, so a thread
marches down its band of rows and adds each pair's terms to the sums of both ends, of which it keeps those of three
rows; a row's sums are complete when the two rows below it have been seen. Pairs that reach beyond the thread's own
columns are computed by both threads concerned: each adds to its own sums only, and no order of addition can vary.

Registers are what this kernel is short of: 72 sums and the columns of two rows are alive at once. Hence columns beside
the strip are read again rather than kept, and the branches that are always taken: ptxas schedules each block by itself,
and would otherwise begin so many pairs at once that it spills. Strips read as vectors get by with two of them on sm_90,
with three in half precision, and begin their loads early: with branches around all pairs a warp spends most of its time
waiting. Where registers are left, rows are asked for a row ahead.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward, launch_color_gradient
from .config import loss_launch
from .launcher import Launcher
from .neighbours import (
    compare,
    illumination_distance,
    own_columns,
    row_ratios,
    scalar_arguments,
    scalars6,
    side_columns,
    tiles_of,
)
from .primitives import ACC, SCALARS, TINY, aligned, in_order, ptx_level, scalar, scalar_bits, signed
from .strips import load_own, prefetch, row_offsets, split_own, store_own, strip_columns, strip_position


@triton.jit
def _pair(
    p_v, p_l, i: tl.constexpr, P: tl.constexpr, q_v, q_l, j: tl.constexpr, Q: tl.constexpr, ratio,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr,
    Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """What tensor i of p receives from tensor j of q, less the factors of all pairs: for v, then for L.

    Each is a product (a, b), for a multiplication that is part of adding it.
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
    """Adds the pairs among the own columns of two rows to the sums of both; of one row, to p_sums alone."""
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
    """Adds what a row's own columns receive from the columns beside them in a row, which may be the same."""
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
def _gradients(
    sums, residuals, u, scale, fidelity,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, FIDELITY: tl.constexpr,
    FIDELITY_TO_Y: tl.constexpr, Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, COLS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """The finished gradients of the thread's own columns, COLS tensors [N] a channel: of Y, then of L."""
    Y_SUMS: tl.constexpr = Y_CHANNELS * COLS if Y_GRAD else 0
    grads: tl.tuple = ()
    for i in tl.static_range(Y_SUMS):
        if YCBCR:  # row i // COLS of U^T
            value = u[i // COLS] * sums[i % COLS]
            if i >= COLS:
                value += u[i // COLS + 2] * sums[COLS + i % COLS]
            if i >= 2 * COLS:
                value += u[5] * sums[2 * COLS + i % COLS]
        else:
            value = u[0] * sums[i]
        value *= scale * -1.3862943611198906  # 2 ln 2
        if FIDELITY_TO_Y:
            value -= fidelity * residuals[i]
        grads = grads + (value,)
    for i in tl.static_range(L_CHANNELS * COLS if L_GRAD else 0):
        value = scale * (sums[Y_SUMS + i] * (1.0 / TINY) if PTX >= 2 else sums[Y_SUMS + i])
        if FIDELITY:
            value += fidelity * residuals[i]
        grads = grads + (value,)
    return grads


@triton.jit(do_not_specialize=SCALARS)
def _loss_bwd_kernel(
    grad_loss_ptr,
    x_ptr,
    y_ptr,
    l_ptr,
    grad_y_ptr,
    grad_l_ptr,
    u00: tl.int64, u01: tl.int64, u02: tl.int64, u11: tl.int64, u12: tl.int64, u22: tl.int64,  # s U
    row_ratio1: tl.int64, row_ratio2: tl.int64,  # log2(H / (H - |dy|))
    column_ratio1: tl.int64, column_ratio2: tl.int64,  # log2(W / (W - |dx|))
    pair_factor: tl.int64,  # 2 smooth_weight / (N H W)
    fidelity_factor: tl.int64,  # 2 fidelity_weight / numel
    H,
    W,
    march,  # rows that a thread marches down
    Y_CHANNELS: tl.constexpr,
    L_CHANNELS: tl.constexpr,
    YCBCR: tl.constexpr,
    FIDELITY: tl.constexpr,  # the fidelity term's gradient goes to L
    FIDELITY_TO_Y: tl.constexpr,  # and to Y, which then is the input
    Y_GRAD: tl.constexpr,
    L_GRAD: tl.constexpr,
    VECTOR: tl.constexpr,  # W % 4 == 0 and COLS == 4
    BRANCHES: tl.constexpr,  # 0: around two of four groups of pairs; 1: around three; 2: around all
    PREFETCH: tl.constexpr,  # see `strips.prefetch`; 0: nothing is asked for ahead
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BANDS: tl.constexpr,
    STRIPS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = BANDS * STRIPS
    SUMS: tl.constexpr = (Y_CHANNELS if Y_GRAD else 0) + (L_CHANNELS if L_GRAD else 0)
    if VECTOR:
        W = W // 4 * 4  # tells the compiler that rows begin where vectors may
    image, top, left = strip_position(H, W, march, BANDS, STRIPS, COLS)
    columns, beside, inside = strip_columns(left, W, COLS, VECTOR, True)
    plane = H.to(tl.int64) * W
    y_ptr += image * Y_CHANNELS * plane
    l_ptr += image * L_CHANNELS * plane
    x_ptr += image * L_CHANNELS * plane
    grad_y_ptr += image * Y_CHANNELS * plane
    grad_l_ptr += image * L_CHANNELS * plane
    u = scalars6(u00, u01, u02, u11, u12, u22, ACC)
    own_ratio = tl.full([], 0.0, ACC)
    column1 = scalar(column_ratio1, ACC)
    column2 = scalar(column_ratio2, ACC)
    nothing = (tl.zeros([N], ACC),) * (SUMS * COLS)
    sums0 = nothing
    sums1 = nothing
    v0, light0 = own_columns(
        y_ptr, l_ptr, plane, top - 2, columns, inside, H, W, u,
        Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, N, ACC,
    )  # fmt: skip
    # Two rows above the band are seen for what the band's own rows receive from them.
    for step in range(-2, march):
        row = top + step
        sums2 = nothing
        for dy in tl.static_range(2, 0, -1):
            ratios = row_ratios(row, dy, H, scalar(row_ratio2 if dy == 2 else row_ratio1, ACC), column1, column2)
            v, light = own_columns(
                y_ptr, l_ptr, plane, row + dy, columns, inside, H, W, u,
                Y_CHANNELS, L_CHANNELS, YCBCR, VECTOR, COLS, N, ACC,
            )  # fmt: skip
            sums = sums2 if dy == 2 else sums1
            if BRANCHES < 2 or H >= 3:  # always: see the module docstring
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
                sums2 = sums
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
            else:
                sums1 = sums
        if PREFETCH:
            ahead = row_offsets(row + 3, H, W, False)
            prefetch(y_ptr + ahead, plane, left, W, Y_CHANNELS, PREFETCH)
            prefetch(l_ptr + ahead, plane, left, W, L_CHANNELS, PREFETCH)
        start = row_offsets(row, H, W, VECTOR)
        residuals: tl.tuple = ()  # L - X
        for channel in tl.static_range(L_CHANNELS if FIDELITY and (L_GRAD or FIDELITY_TO_Y) else 0):
            x = load_own(
                (y_ptr if FIDELITY_TO_Y else x_ptr) + channel * plane + start, columns, inside, VECTOR, COLS, ACC
            )
            x = split_own(x, VECTOR, N)
            for i in tl.static_range(COLS):
                residuals = residuals + (light0[channel * COLS + i] - x[i],)
        # Read here, rather than once, it occupies no register meanwhile.
        grad = tl.load(grad_loss_ptr).to(ACC)
        scale = grad * scalar(pair_factor, ACC)
        grads = _gradients(
            sums0, residuals, u, scale, grad * scalar(fidelity_factor, ACC),
            Y_CHANNELS, L_CHANNELS, YCBCR, FIDELITY, FIDELITY_TO_Y, Y_GRAD, L_GRAD, COLS, PTX,
        )  # fmt: skip
        wanted = (step >= 0) & (row < H) & (left < W)
        # Of a strip that was moved, the columns from where it was on: the strip to its left stores the others.
        owned: tl.tuple = ()
        for i in tl.static_range(0 if VECTOR or COLS == 1 else COLS):
            owned = owned + (columns[2 + i] >= left,)
        for k in tl.static_range(SUMS):
            own = grads[k * COLS : (k + 1) * COLS]
            if Y_GRAD and k < Y_CHANNELS:
                ptr = grad_y_ptr + k * plane + start
            else:
                ptr = grad_l_ptr + (k - SUMS + L_CHANNELS) * plane + start
            store_own(ptr, columns, owned, wanted, own, VECTOR, COLS, N)
        v0 = v
        light0 = light
        sums0 = sums1
        sums1 = sums2


def _branches(x: Tensor, light: Tensor) -> int:
    """As few as leave no stack, see `BRANCHES`; on other GPUs than sm_90 nothing was measured."""
    if torch.cuda.get_device_capability(x.device)[0] != 9:
        return 2
    return 0 if x.dtype == light.dtype == torch.float32 else 1


_launch = Launcher(_loss_bwd_kernel)


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
    x, light = aligned(input), aligned(illumination)
    dtype = compute_dtype(x, light)
    reference = color == "reference"
    y = launch_color_forward(x, dtype) if reference else x
    grad_y = torch.empty_like(y) if input_grad else y.new_empty(0)
    grad_l = torch.empty_like(light) if illumination_grad else light.new_empty(0)
    launch = loss_launch(x, dtype, backward=True)
    march, programs = tiles_of(x, launch)
    level = ptx_level(x, dtype)
    vector = x.shape[3] % 4 == 0 and launch.columns == 4
    branches = _branches(x, light) if vector and level >= 1 else 2
    fidelity = fidelity_weight != 0.0
    fidelity_factor = 2.0 * fidelity_weight / x.numel()
    tensors = (grad_loss, x, y, light, grad_y, grad_l)
    scalars = (*scalar_arguments(x, sigma, color, smooth_weight, dtype), scalar_bits(fidelity_factor, dtype))
    constants = (
        x.shape[1], light.shape[1], color == "ycbcr", fidelity, fidelity and not reference, input_grad,
        illumination_grad, vector, branches, launch.prefetch if level and not input_grad else 0, level, ACC[dtype],
        launch.bands, launch.strips, launch.columns,
    )  # fmt: skip
    _launch(programs, (*tensors, *scalars, *x.shape[2:], march), constants, launch.options(level))
    if reference and input_grad:
        grad_y = launch_color_gradient(grad_loss, grad_y, x, light, fidelity_factor)
    return grad_y, grad_l
