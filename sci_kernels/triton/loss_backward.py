"""The gradients of the loss, from each pair of pixels once.

    dL(p) = g sum_q k w sign(L(p) - L(q))                  + g 2 f (L(p) - X(p)) / numel
    dv(p) = -2 ln 2 g sum_q k w d (v(p) - v(q))            (and dX - g 2 f (L(p) - X(p)) / numel)

with w, d and L as in `reference`, v as in `neighbors`, k = 2 smooth_weight / (N (H-|dy|) (W-|dx|)), f the fidelity
weight and g the incoming gradient. What q receives from p is the negative of what p receives from q. So a thread, which
marches down its band of rows (see `strips`), adds the terms of each pair to the sums of both its ends. It keeps the
sums of three rows: those of a row are complete when the two rows below it have been added. A pair that reaches beyond
the thread's own columns is computed by both threads concerned. Each adds only to its own sums, so the order of
additions is always the same, and there are no atomics.

The number of registers limits how pairs can be computed: see `gradient_pairs`. Where some are left, rows are
prefetched.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .color import launch_color_forward, launch_color_gradient
from .config import loss_launch
from .gradient_pairs import add_row_below
from .launcher import Launcher
from .neighbors import own_columns, scalar_arguments, scalars6, tiles_of
from .primitives import ACC, SCALARS, TINY, aligned, ptx_level, scalar, scalar_bits
from .strips import load_own, prefetch, row_offsets, split_own, store_own, strip_columns, strip_position


@triton.jit
def _residuals(
    ptr, plane, start, columns, inside, light,
    CHANNELS: tl.constexpr, VECTOR: tl.constexpr, COLS: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """L - X of the own columns, from the row of X that begins at `start`: COLS tensors [N] for each channel."""
    result: tl.tuple = ()
    for channel in tl.static_range(CHANNELS):
        x = load_own(ptr + channel * plane + start, columns, inside, VECTOR, COLS, ACC)
        x = split_own(x, VECTOR, N)
        for i in tl.static_range(COLS):
            result = result + (light[channel * COLS + i] - x[i],)
    return result


@triton.jit
def _gradients(
    sums, residuals, u, scale, fidelity,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, FIDELITY: tl.constexpr,
    FIDELITY_TO_Y: tl.constexpr, Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr, COLS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """The finished gradients of the thread's own columns, COLS tensors [N] for each channel: of Y, then of L."""
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


@triton.jit
def _store(
    grad_y_ptr, grad_l_ptr, plane, start, columns, left, wanted, grads,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, Y_GRAD: tl.constexpr, SUMS: tl.constexpr,
    VECTOR: tl.constexpr, COLS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Writes the gradients of a row, which begins at `start`, for the threads that are `wanted`."""
    # A strip that was moved left at the border stores the columns from `left` on; the strip before it has the others.
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


@triton.jit(do_not_specialize=SCALARS)
def _loss_bwd_kernel(
    grad_loss_ptr, x_ptr, y_ptr, l_ptr, grad_y_ptr, grad_l_ptr,
    u00: tl.int64, u01: tl.int64, u02: tl.int64, u11: tl.int64, u12: tl.int64, u22: tl.int64,  # s U
    row_ratio1: tl.int64, row_ratio2: tl.int64,  # log2(H / (H - |dy|))
    column_ratio1: tl.int64, column_ratio2: tl.int64,  # log2(W / (W - |dx|))
    pair_factor: tl.int64,  # 2 smooth_weight / (N H W)
    fidelity_factor: tl.int64,  # 2 fidelity_weight / numel
    H, W, march,  # rows that a thread marches down
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr,
    FIDELITY: tl.constexpr,  # the fidelity term's gradient goes to L
    FIDELITY_TO_Y: tl.constexpr,  # and to Y, which is then the input
    Y_GRAD: tl.constexpr, L_GRAD: tl.constexpr,
    VECTOR: tl.constexpr,  # W % 4 == 0 and COLS == 4
    BRANCHES: tl.constexpr,  # 0: around two of four groups of pairs; 1: around three; 2: around all
    PREFETCH: tl.constexpr,  # see `strips.prefetch`; 0: none
    PTX: tl.constexpr, ACC: tl.constexpr, BANDS: tl.constexpr, STRIPS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = BANDS * STRIPS
    SUMS: tl.constexpr = (Y_CHANNELS if Y_GRAD else 0) + (L_CHANNELS if L_GRAD else 0)
    if VECTOR:
        W = W // 4 * 4  # so the compiler knows that rows begin at multiples of 4
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
    # The march begins two rows above the band, for what its first rows receive from these.
    for step in range(-2, march):
        row = top + step
        sums2 = nothing
        for dy in tl.static_range(2, 0, -1):
            sums0, sums, v, light = add_row_below(
                y_ptr, l_ptr, plane, row, dy, columns, beside, inside, H, W, u,
                v0, light0, sums0, sums2 if dy == 2 else sums1, nothing,
                own_ratio, row_ratio2 if dy == 2 else row_ratio1, column1, column2,
                Y_CHANNELS, L_CHANNELS, YCBCR, Y_GRAD, L_GRAD, VECTOR, BRANCHES, PTX, ACC, COLS, N,
            )  # fmt: skip
            if dy == 2:
                sums2 = sums
            else:
                sums1 = sums
        if PREFETCH:
            ahead = row_offsets(row + 3, H, W, False)
            prefetch(y_ptr + ahead, plane, left, W, Y_CHANNELS, PREFETCH)
            prefetch(l_ptr + ahead, plane, left, W, L_CHANNELS, PREFETCH)
        start = row_offsets(row, H, W, VECTOR)
        residuals = _residuals(
            y_ptr if FIDELITY_TO_Y else x_ptr, plane, start, columns, inside, light0,
            L_CHANNELS if FIDELITY and (L_GRAD or FIDELITY_TO_Y) else 0, VECTOR, COLS, N, ACC,
        )  # fmt: skip
        # Read for each row, so that it occupies no register meanwhile.
        grad = tl.load(grad_loss_ptr).to(ACC)
        scale = grad * scalar(pair_factor, ACC)
        grads = _gradients(
            sums0, residuals, u, scale, grad * scalar(fidelity_factor, ACC),
            Y_CHANNELS, L_CHANNELS, YCBCR, FIDELITY, FIDELITY_TO_Y, Y_GRAD, L_GRAD, COLS, PTX,
        )  # fmt: skip
        wanted = (step >= 0) & (row < H) & (left < W)
        _store(
            grad_y_ptr, grad_l_ptr, plane, start, columns, left, wanted, grads,
            Y_CHANNELS, L_CHANNELS, Y_GRAD, SUMS, VECTOR, COLS, N,
        )  # fmt: skip
        v0 = v
        light0 = light
        sums0 = sums1
        sums1 = sums2


def _branches(x: Tensor, light: Tensor) -> int:
    """BRANCHES: on sm_90 the fewest with which nothing spills; on other GPUs, where none was measured, all."""
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
    """The gradients in the dtypes of their arguments; an empty tensor for one that is not asked for."""
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
