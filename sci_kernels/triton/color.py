"""The reference colour mode: a matrix over triples of consecutive elements of NCHW memory.

    Y[3t + p]  = sum_k M[k][p] X[3t + k] + bias[p]          up to a constant, which cancels
    dX[3t + k] = sum_p M[k][p] dY[3t + p]  -  g 2 f (L - X)[3t + k] / numel

The second line is the gradient of the whole loss: the fidelity term acts on X itself, so it joins here.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..constants import CENTERED_COLOR_BIAS, COLOR_MATRIX
from .config import COLOR_BLOCK, FUSED
from .primitives import ACC, scalar, scalar_bits


@triton.jit
def _triples(count, BLOCK: tl.constexpr):
    """Offsets of the first elements of this program's triples, and which of them exist."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return 3 * index, index < count


@triton.jit(do_not_specialize=["count"])
def _color_fwd_kernel(
    x_ptr, y_ptr, count, MATRIX: tl.constexpr, BIAS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr
):
    first, mask = _triples(count, BLOCK)
    x0 = tl.load(x_ptr + first, mask=mask, other=0.0).to(ACC)
    x1 = tl.load(x_ptr + first + 1, mask=mask, other=0.0).to(ACC)
    x2 = tl.load(x_ptr + first + 2, mask=mask, other=0.0).to(ACC)
    for p in tl.static_range(3):
        y = MATRIX[p] * x0 + MATRIX[3 + p] * x1 + MATRIX[6 + p] * x2 + BIAS[p]
        tl.store(y_ptr + first + p, y, mask=mask)


@triton.jit(do_not_specialize=["grad_loss_ptr", "fidelity_factor", "count"])
def _color_bwd_kernel(
    grad_loss_ptr,
    grad_y_ptr,
    x_ptr,
    l_ptr,
    grad_x_ptr,
    fidelity_factor: tl.int64,
    count,
    MATRIX: tl.constexpr,
    FIDELITY: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    first, mask = _triples(count, BLOCK)
    g0 = tl.load(grad_y_ptr + first, mask=mask, other=0.0)
    g1 = tl.load(grad_y_ptr + first + 1, mask=mask, other=0.0)
    g2 = tl.load(grad_y_ptr + first + 2, mask=mask, other=0.0)
    scale = tl.load(grad_loss_ptr).to(ACC) * scalar(fidelity_factor, ACC)
    for k in tl.static_range(3):
        grad = MATRIX[3 * k] * g0 + MATRIX[3 * k + 1] * g1 + MATRIX[3 * k + 2] * g2
        if FIDELITY:
            x = tl.load(x_ptr + first + k, mask=mask, other=0.0).to(ACC)
            light = tl.load(l_ptr + first + k, mask=mask, other=0.0).to(ACC)
            grad -= scale * (light - x)
        tl.store(grad_x_ptr + first + k, grad, mask=mask)


_MATRIX = tuple(value for row in COLOR_MATRIX for value in row)


def launch_color_forward(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Y of a contiguous input, in `dtype`."""
    y = torch.empty_like(x, dtype=dtype)
    count = x.numel() // 3
    with torch.cuda.device_of(x):
        _color_fwd_kernel[(triton.cdiv(count, COLOR_BLOCK),)](
            x, y, count, _MATRIX, CENTERED_COLOR_BIAS, ACC[dtype], COLOR_BLOCK, num_warps=4, **FUSED
        )
    return y


def launch_color_gradient(
    grad_loss: Tensor, grad_y: Tensor, x: Tensor, light: Tensor, fidelity_factor: float
) -> Tensor:
    """The input's gradient, in its dtype, from that of Y; `fidelity_factor` is 2 fidelity_weight / numel.

    It takes the memory of `grad_y` where it fits: a triple is read whole before it is written.
    """
    grad_x = grad_y if grad_y.dtype == x.dtype else torch.empty_like(x)
    count = x.numel() // 3
    with torch.cuda.device_of(x):
        _color_bwd_kernel[(triton.cdiv(count, COLOR_BLOCK),)](
            grad_loss, grad_y, x, light, grad_x, scalar_bits(fidelity_factor, grad_y.dtype), count, _MATRIX,
            fidelity_factor != 0.0, ACC[grad_y.dtype], COLOR_BLOCK, num_warps=4, **FUSED,
        )  # fmt: skip
    return grad_x
