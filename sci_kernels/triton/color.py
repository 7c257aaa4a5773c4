"""The reference color mode: a 3 x 3 matrix times triples of consecutive elements of NCHW memory.

    Y[3t + p]  = sum_k M[k][p] X[3t + k] + bias[p]          up to a constant, which cancels
    dX[3t + k] = sum_p M[k][p] dY[3t + p]  -  g 2 f (L - X)[3t + k] / numel

The second line is the gradient of the whole loss: the fidelity term depends on X itself, and is added here.

A program owns N consecutive groups of TRIPLES triples, a lane one of them. If the number of elements is a multiple of
12, TRIPLES is 4 and a lane reads and writes three vectors of 4 elements; otherwise it is 1. Masks guard the end of
memory.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..constants import CENTERED_COLOR_BIAS, COLOR_MATRIX
from .config import COLOR_BLOCK, FUSED, divide_up
from .launcher import Launcher
from .primitives import ACC, scalar, scalar_bits
from .strips import join4, split4


@triton.jit
def _elements(count, TRIPLES: tl.constexpr, N: tl.constexpr):
    """Offsets of three pieces, each [N] or [N, 4], that hold a lane's triples, and which lanes are before the end."""
    index = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    inside = index * TRIPLES < count
    pieces: tl.tuple = ()
    if TRIPLES == 4:
        first = 12 * index[:, None] + tl.arange(0, 4)[None, :]
        inside = inside[:, None]
    else:
        first = 3 * index
    for piece in tl.static_range(3):
        pieces = pieces + (first + TRIPLES * piece,)
    return pieces, inside


@triton.jit
def _load_elements(ptr, pieces, inside, TRIPLES: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """A lane's 3 TRIPLES consecutive elements, as so many tensors [N]."""
    result: tl.tuple = ()
    for piece in tl.static_range(3):
        value = tl.load(ptr + pieces[piece], mask=inside, other=0.0).to(ACC)
        result = result + (split4(value, N) if TRIPLES == 4 else (value,))
    return result


@triton.jit
def _store_elements(ptr, pieces, inside, values, TRIPLES: tl.constexpr, N: tl.constexpr):
    for piece in tl.static_range(3):
        if TRIPLES == 4:
            tl.store(ptr + pieces[piece], join4(values[4 * piece : 4 * piece + 4], N), mask=inside)
        else:
            tl.store(ptr + pieces[piece], values[piece], mask=inside)


@triton.jit(do_not_specialize=["count"])
def _color_fwd_kernel(
    x_ptr, y_ptr, count, MATRIX: tl.constexpr, BIAS: tl.constexpr, TRIPLES: tl.constexpr, ACC: tl.constexpr,
    N: tl.constexpr,
):  # fmt: skip
    pieces, inside = _elements(count, TRIPLES, N)
    x = _load_elements(x_ptr, pieces, inside, TRIPLES, N, ACC)
    y: tl.tuple = ()
    for t in tl.static_range(TRIPLES):
        for p in tl.static_range(3):
            value = MATRIX[p] * x[3 * t] + MATRIX[3 + p] * x[3 * t + 1] + MATRIX[6 + p] * x[3 * t + 2] + BIAS[p]
            y = y + (value,)
    _store_elements(y_ptr, pieces, inside, y, TRIPLES, N)


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
    TRIPLES: tl.constexpr,
    ACC: tl.constexpr,
    N: tl.constexpr,
):
    pieces, inside = _elements(count, TRIPLES, N)
    g = _load_elements(grad_y_ptr, pieces, inside, TRIPLES, N, ACC)
    if FIDELITY:
        x = _load_elements(x_ptr, pieces, inside, TRIPLES, N, ACC)
        light = _load_elements(l_ptr, pieces, inside, TRIPLES, N, ACC)
        scale = tl.load(grad_loss_ptr).to(ACC) * scalar(fidelity_factor, ACC)
    grads: tl.tuple = ()
    for t in tl.static_range(TRIPLES):
        for k in tl.static_range(3):
            grad = MATRIX[3 * k] * g[3 * t] + MATRIX[3 * k + 1] * g[3 * t + 1] + MATRIX[3 * k + 2] * g[3 * t + 2]
            if FIDELITY:
                grad -= scale * (light[3 * t + k] - x[3 * t + k])
            grads = grads + (grad,)
    _store_elements(grad_x_ptr, pieces, inside, grads, TRIPLES, N)


_MATRIX = tuple(value for row in COLOR_MATRIX for value in row)
_OPTIONS = {"num_warps": 4, **FUSED}
_launch_forward, _launch_backward = Launcher(_color_fwd_kernel), Launcher(_color_bwd_kernel)


def _triples(x: Tensor, dtype: torch.dtype) -> int:
    """Triples of a lane: 4 if all elements can be read in vectors of 4, else 1."""
    return 4 if x.numel() % 12 == 0 and dtype == torch.float32 else 1


def launch_color_forward(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Y of a contiguous input, in `dtype`."""
    y = torch.empty_like(x, dtype=dtype)
    count, triples = x.numel() // 3, _triples(x, dtype)
    constants = (_MATRIX, CENTERED_COLOR_BIAS, triples, ACC[dtype], COLOR_BLOCK)
    _launch_forward(divide_up(count, triples * COLOR_BLOCK), (x, y, count), constants, _OPTIONS)
    return y


def launch_color_gradient(
    grad_loss: Tensor, grad_y: Tensor, x: Tensor, light: Tensor, fidelity_factor: float
) -> Tensor:
    """The input's gradient, in its dtype, from that of Y; `fidelity_factor` is 2 fidelity_weight / numel.

    It takes the memory of `grad_y` if the dtypes agree: a triple is read before it is written.
    """
    grad_x = grad_y if grad_y.dtype == x.dtype else torch.empty_like(x)
    count, triples = x.numel() // 3, _triples(x, grad_y.dtype)
    factor = scalar_bits(fidelity_factor, grad_y.dtype)
    constants = (_MATRIX, fidelity_factor != 0.0, triples, ACC[grad_y.dtype], COLOR_BLOCK)
    programs = divide_up(count, triples * COLOR_BLOCK)
    _launch_backward(programs, (grad_loss, grad_y, x, light, grad_x, factor, count), constants, _OPTIONS)
    return grad_x
