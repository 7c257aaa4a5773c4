"""BatchNorm, ReLU and residual, and their gradient, of contiguous features: one plane of one channel after another.

Formulas: `sci_kernels.batch_norm`. A program takes a block of one plane, so that what is of a channel is a scalar.
Statistics are put together from each block's sum and its squares about its own mean, in float64: features far from 0
lose no digit, and the bits do not depend on the order in which programs end.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference import compute_dtype
from .config import BATCH_NORM_BLOCK, BATCH_NORM_FINISH, FUSED, divide_up
from .primitives import ACC, divide


@triton.jit
def _place(C, plane, VECTOR: tl.constexpr, BLOCK: tl.constexpr):
    """Of this program: its channel, where its block begins, and which of its elements are inside the plane."""
    if VECTOR:
        plane = plane // 4 * 4  # tells the compiler that planes begin where vectors may
    blocks = tl.cdiv(plane, BLOCK)
    index = tl.program_id(0) // blocks
    first = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK
    inside = first + tl.arange(0, BLOCK) < plane
    return index % C, index.to(tl.int64) * plane + first, inside


@triton.jit
def _centered(z_ptr, mean_ptr, channel, inside, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """z - mean, from which everything is made: far from 0, z itself would cost digits."""
    return tl.load(z_ptr + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC) - tl.load(mean_ptr + channel)


@triton.jit
def _let_through(grad_ptr, z, scale, beta, inside, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """g: the gradient where relu's argument is positive, or NaN."""
    grad = tl.load(grad_ptr + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC)
    return tl.where(z * scale + beta <= 0, 0.0, grad)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_statistics_kernel(
    z_ptr, partial_ptr, C, plane, VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """partial: (2, programs), each program's sum, and its squares about the mean of its own block."""
    _, start, inside = _place(C, plane, VECTOR, BLOCK)
    z = tl.load(z_ptr + start + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC)
    total = tl.sum(z)
    count = tl.minimum(plane - tl.program_id(0) % tl.cdiv(plane, BLOCK) * BLOCK, BLOCK).to(ACC)
    from_mean = tl.where(inside, z - divide(total, count, 0), 0.0)
    program = tl.program_id(0)
    tl.store(partial_ptr + program, total)
    tl.store(partial_ptr + tl.num_programs(0) + program, tl.sum(from_mean * from_mean))


@triton.jit(do_not_specialize=["N", "plane"])
def _batch_norm_mean_kernel(
    partial_ptr, mean_ptr, variance_ptr, N, plane, PLANE_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and biased variance of one channel from its blocks, which `partial` (2, N, C, blocks) has."""
    channel, channels = tl.program_id(0), tl.num_programs(0)
    blocks = tl.cdiv(plane, PLANE_BLOCK)
    squares_ptr = partial_ptr + N.to(tl.int64) * channels * blocks
    pixels = (N.to(tl.int64) * plane).to(tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, N * blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        place = (index // blocks * channels + channel).to(tl.int64) * blocks + index % blocks
        total += tl.load(partial_ptr + place, mask=index < N * blocks, other=0.0).to(tl.float64)
    mean = tl.sum(total) / pixels
    squares = tl.zeros([BLOCK], tl.float64)
    for first in range(0, N * blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        inside = index < N * blocks
        place = (index // blocks * channels + channel).to(tl.int64) * blocks + index % blocks
        count = tl.minimum(plane - index % blocks * PLANE_BLOCK, PLANE_BLOCK).to(tl.float64)
        apart = tl.load(partial_ptr + place, mask=inside, other=0.0).to(tl.float64) / count - mean
        about = tl.load(squares_ptr + place, mask=inside, other=0.0).to(tl.float64)
        squares += tl.where(inside, about + count * apart * apart, 0.0)
    tl.store(mean_ptr + channel, mean)
    tl.store(variance_ptr + channel, tl.sum(squares) / pixels)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_relu_fwd_kernel(
    z_ptr, mean_ptr, scale_ptr, beta_ptr, residual_ptr, out_ptr, C, plane,
    RESIDUAL: tl.constexpr, VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, start, inside = _place(C, plane, VECTOR, BLOCK)
    columns = start + tl.arange(0, BLOCK)
    z = _centered(z_ptr + start, mean_ptr, channel, inside, ACC, BLOCK)
    y = z * tl.load(scale_ptr + channel) + tl.load(beta_ptr + channel)
    y = tl.where(y < 0, 0.0, y)  # NaN stays
    if RESIDUAL:
        y += tl.load(residual_ptr + columns, mask=inside, other=0.0).to(ACC)
    tl.store(out_ptr + columns, y, mask=inside)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_relu_sums_kernel(
    grad_ptr, z_ptr, mean_ptr, scale_ptr, beta_ptr, partial_ptr, C, plane,
    VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """partial: (2, programs), each program's share of both sums."""
    channel, start, inside = _place(C, plane, VECTOR, BLOCK)
    z = _centered(z_ptr + start, mean_ptr, channel, inside, ACC, BLOCK)
    scale, beta = tl.load(scale_ptr + channel), tl.load(beta_ptr + channel)
    g = _let_through(grad_ptr + start, z, scale, beta, inside, ACC, BLOCK)
    program = tl.program_id(0)
    tl.store(partial_ptr + program, tl.sum(g))
    tl.store(partial_ptr + tl.num_programs(0) + program, tl.sum(g * z))


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_relu_bwd_kernel(
    grad_ptr, z_ptr, mean_ptr, scale_ptr, beta_ptr, slope_ptr, offset_ptr, out_ptr, C, plane,
    VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, start, inside = _place(C, plane, VECTOR, BLOCK)
    z = _centered(z_ptr + start, mean_ptr, channel, inside, ACC, BLOCK)
    scale, beta = tl.load(scale_ptr + channel), tl.load(beta_ptr + channel)
    g = _let_through(grad_ptr + start, z, scale, beta, inside, ACC, BLOCK)
    result = scale * g + tl.load(slope_ptr + channel) * z + tl.load(offset_ptr + channel)
    tl.store(out_ptr + start + tl.arange(0, BLOCK), result, mask=inside)


def launch_batch_norm_statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, in the dtype of the arithmetic."""
    n, channels, h, w = z.shape
    dtype = compute_dtype(z)
    partial = z.new_empty(2, n, channels, _blocks(z), dtype=dtype)
    _launch(_batch_norm_statistics_kernel, z, z, partial)
    mean, variance = (z.new_empty(channels, dtype=dtype) for _ in range(2))
    with torch.cuda.device_of(z):
        _batch_norm_mean_kernel[(channels,)](
            partial, mean, variance, n, h * w, BATCH_NORM_BLOCK, BATCH_NORM_FINISH, num_warps=4, **FUSED
        )
    return mean, variance


def launch_batch_norm_relu(z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, residual: Tensor | None) -> Tensor:
    """relu(scale (z - mean) + beta) [+ residual], contiguous, in the dtype of z."""
    out = torch.empty_like(z)
    added = z if residual is None else residual.contiguous()
    _launch(_batch_norm_relu_fwd_kernel, z, z, mean, scale, beta, added, out, flags=(residual is not None,))
    return out


def launch_batch_norm_relu_sums(
    grad: Tensor, z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """sum g and sum g (z - mean) of each channel."""
    partial = z.new_empty(2, z.shape[0], z.shape[1], _blocks(z), dtype=mean.dtype)
    _launch(_batch_norm_relu_sums_kernel, z, grad, z, mean, scale, beta, partial)
    direct, product = partial.sum((1, 3)).unbind()
    return direct.clone(), product.clone()


def launch_batch_norm_relu_gradient(
    out: Tensor, grad: Tensor, z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, slope: Tensor, offset: Tensor
) -> None:
    """out = scale g + slope (z - mean) + offset"""
    _launch(_batch_norm_relu_bwd_kernel, z, grad, z, mean, scale, beta, slope, offset, out)


def _blocks(z: Tensor) -> int:
    return divide_up(z.shape[2] * z.shape[3], BATCH_NORM_BLOCK)


def _launch(kernel, z: Tensor, *arguments: Tensor, flags: tuple[bool, ...] = ()) -> None:
    """One program for each block of each plane of z."""
    n, channels, h, w = z.shape
    with torch.cuda.device_of(z):
        kernel[(n * channels * _blocks(z),)](
            *arguments, channels, h * w, *flags, h * w % 4 == 0, ACC[compute_dtype(z)], BATCH_NORM_BLOCK,
            num_warps=4, **FUSED,
        )  # fmt: skip
