"""BatchNorm, ReLU and residual, and their gradient, of contiguous features.

Formulas: `sci_kernels.batch_norm`. Features are (N, C, H, W), N C planes of `plane` = H W pixels. In the passes over
the features a program owns BLOCK consecutive pixels of one plane, so that the numbers of its channel are scalars. A
mask guards the end of the plane.

Sums take two kernels: each program of a pass writes its own sums to `partial`, and a second kernel, with a program for
each channel, adds those up in float64, always in the same order, and computes what the next pass needs of the channel.
Squares are those of differences from the block's own mean, so that features far from 0 lose no digits.

A table is `(4, C)`: mean, scale, beta and invstd of each channel.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..constants import MOST_SOURCES
from ..reference import compute_dtype
from .config import BATCH_NORM_BLOCK, BATCH_NORM_FINISH, FUSED, divide_up
from .launcher import Launcher
from .primitives import ACC, divide, scalar, scalar_bits


@triton.jit
def _place(C, plane, VECTOR: tl.constexpr, BLOCK: tl.constexpr):
    """This program's channel, the offset of its block, and a mask of the pixels that are inside the plane."""
    if VECTOR:
        plane = plane // 4 * 4  # so the compiler knows that planes begin at multiples of 4
    blocks = tl.cdiv(plane, BLOCK)
    index = tl.program_id(0) // blocks
    first = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK
    inside = first + tl.arange(0, BLOCK) < plane
    return index % C, index.to(tl.int64) * plane + first, inside


@triton.jit
def _centered(z_ptr, table_ptr, channel, inside, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """z - mean, with which everything is computed: for a z far from 0 that loses fewer digits than scale z + offset."""
    return tl.load(z_ptr + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC) - tl.load(table_ptr + channel)


@triton.jit
def _activated(z_ptr, table_ptr, C, channel, inside, PLAIN: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """relu(scale (z - mean) + beta); if PLAIN, relu(z)."""
    if PLAIN:
        y = tl.load(z_ptr + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC)
    else:
        z = _centered(z_ptr, table_ptr, channel, inside, ACC, BLOCK)
        y = z * tl.load(table_ptr + C + channel) + tl.load(table_ptr + 2 * C + channel)
    return tl.where(y < 0, 0.0, y)  # NaN stays


@triton.jit
def _let_through(grad, z, table_ptr, C, channel):
    """g: the gradient where the argument of relu is positive or NaN, else 0."""
    u = z * tl.load(table_ptr + C + channel) + tl.load(table_ptr + 2 * C + channel)
    return tl.where(u <= 0, 0.0, grad)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_statistics_kernel(
    z_ptr, partial_ptr, C, plane, VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes partial, (2, programs): each block's sum, and its sum of squared differences from its own mean."""
    _, start, inside = _place(C, plane, VECTOR, BLOCK)
    z = tl.load(z_ptr + start + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC)
    total = tl.sum(z)
    count = tl.minimum(plane - tl.program_id(0) % tl.cdiv(plane, BLOCK) * BLOCK, BLOCK).to(ACC)
    from_mean = tl.where(inside, z - divide(total, count, 0), 0.0)
    program = tl.program_id(0)
    tl.store(partial_ptr + program, total)
    tl.store(partial_ptr + tl.num_programs(0) + program, tl.sum(from_mean * from_mean))


@triton.jit
def _of_channel(partial_ptr, index, channel, blocks, inside):
    """The sums of the blocks `index` of a channel, numbered through all its planes, in partial, (N, C, blocks)."""
    place = (index // blocks * tl.num_programs(0) + channel).to(tl.int64) * blocks + index % blocks
    return tl.load(partial_ptr + place, mask=inside, other=0.0).to(tl.float64)


@triton.jit
def _move(ptr, keep, added, where, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """x = keep x + added, for one number in memory, by one thread: others might read it after it was written.

    BLOCK is at least the number of threads, so that only one of them has lane 0.
    """
    lane = tl.arange(0, BLOCK)
    first = (lane == 0) & where
    before = tl.load(ptr + lane, mask=first, other=0).to(ACC)
    tl.store(ptr + lane, (keep * before + added).to(ptr.dtype.element_ty), mask=first)


@triton.jit(do_not_specialize=["N", "plane", "eps", "momentum"])
def _batch_norm_table_kernel(
    partial_ptr, gamma_ptr, beta_ptr, bias_ptr, mean_ptr, variance_ptr, batches_ptr, table_ptr, N, plane,
    eps: tl.int64, momentum: tl.int64,
    BIAS: tl.constexpr, RUNNING: tl.constexpr, PLANE_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the table of one channel from partial, (2, N, C, blocks), and updates the running averages."""
    channel, channels = tl.program_id(0), tl.num_programs(0)
    blocks = tl.cdiv(plane, PLANE_BLOCK)
    squares_ptr = partial_ptr + N.to(tl.int64) * channels * blocks
    pixels = (N.to(tl.int64) * plane).to(tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, N * blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        total += _of_channel(partial_ptr, index, channel, blocks, index < N * blocks)
    mean = tl.sum(total) / pixels
    squares = tl.zeros([BLOCK], tl.float64)
    for first in range(0, N * blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        inside = index < N * blocks
        count = tl.minimum(plane - index % blocks * PLANE_BLOCK, PLANE_BLOCK).to(tl.float64)
        apart = _of_channel(partial_ptr, index, channel, blocks, inside) / count - mean
        about = _of_channel(squares_ptr, index, channel, blocks, inside)
        squares += tl.where(inside, about + count * apart * apart, 0.0)
    summed = tl.sum(squares)
    one = tl.full([], 1.0, tl.float64)
    invstd = one / tl.sqrt(summed / pixels + scalar(eps, tl.float64))
    tl.store(table_ptr + channel, mean)
    tl.store(table_ptr + channels + channel, tl.load(gamma_ptr + channel).to(tl.float64) * invstd)
    tl.store(table_ptr + 2 * channels + channel, tl.load(beta_ptr + channel).to(tl.float64))
    tl.store(table_ptr + 3 * channels + channel, invstd)
    if RUNNING:
        if BIAS:
            mean += tl.load(bias_ptr + channel).to(tl.float64)
        new = scalar(momentum, tl.float64)
        _move(mean_ptr + channel, one - new, new * mean, True, tl.float64, BLOCK)
        _move(variance_ptr + channel, one - new, new * (summed / (pixels - one)), True, tl.float64, BLOCK)
        _move(batches_ptr, 1, 1, channel == 0, tl.int64, BLOCK)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_relu_fwd_kernel(
    z0_ptr, z1_ptr, z2_ptr, z3_ptr, table0_ptr, table1_ptr, table2_ptr, table3_ptr, residual_ptr, out_ptr, C, plane,
    SOURCES: tl.constexpr, PLAIN: tl.constexpr, RESIDUAL: tl.constexpr,
    VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the sum of the sources. After each addition it is rounded to the dtype of the features, as in memory."""
    channel, start, inside = _place(C, plane, VECTOR, BLOCK)
    columns = start + tl.arange(0, BLOCK)
    y = _activated(z0_ptr + start, table0_ptr, C, channel, inside, PLAIN, ACC, BLOCK)
    if RESIDUAL:
        y += tl.load(residual_ptr + columns, mask=inside, other=0.0).to(ACC)
    rounded: tl.constexpr = out_ptr.dtype.element_ty
    if SOURCES > 1:
        y = y.to(rounded).to(ACC) + _activated(z1_ptr + start, table1_ptr, C, channel, inside, False, ACC, BLOCK)
    if SOURCES > 2:
        y = y.to(rounded).to(ACC) + _activated(z2_ptr + start, table2_ptr, C, channel, inside, False, ACC, BLOCK)
    if SOURCES > 3:
        y = y.to(rounded).to(ACC) + _activated(z3_ptr + start, table3_ptr, C, channel, inside, False, ACC, BLOCK)
    tl.store(out_ptr + columns, y, mask=inside)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_relu_sums_kernel(
    grad_ptr, other_ptr, z_ptr, table_ptr, partial_ptr, C, plane,
    OTHER: tl.constexpr, VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes partial, (2, programs): each block's sum g and sum g (z - mean). If OTHER, it is first added to `grad`."""
    channel, start, inside = _place(C, plane, VECTOR, BLOCK)
    columns = start + tl.arange(0, BLOCK)
    z = _centered(z_ptr + start, table_ptr, channel, inside, ACC, BLOCK)
    grad = tl.load(grad_ptr + columns, mask=inside, other=0.0).to(ACC)
    if OTHER:
        grad += tl.load(other_ptr + columns, mask=inside, other=0.0).to(ACC)
        rounded = grad.to(grad_ptr.dtype.element_ty)
        tl.store(grad_ptr + columns, rounded, mask=inside)
        grad = rounded.to(ACC)
    g = _let_through(grad, z, table_ptr, C, channel)
    program = tl.program_id(0)
    tl.store(partial_ptr + program, tl.sum(g))
    tl.store(partial_ptr + tl.num_programs(0) + program, tl.sum(g * z))


@triton.jit(do_not_specialize=["N", "plane"])
def _batch_norm_slopes_kernel(
    partial_ptr, table_ptr, slopes_ptr, grads_ptr, N, plane, PLANE_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """For one channel: writes slope and offset, (2, C), of z's gradient; adds to those of gamma and beta, (2, C)."""
    channel, channels = tl.program_id(0), tl.num_programs(0)
    blocks = tl.cdiv(plane, PLANE_BLOCK)
    product_ptr = partial_ptr + N.to(tl.int64) * channels * blocks
    direct, product = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for first in range(0, N * blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        direct += _of_channel(partial_ptr, index, channel, blocks, index < N * blocks)
        product += _of_channel(product_ptr, index, channel, blocks, index < N * blocks)
    summed, about_mean = tl.sum(direct), tl.sum(product)
    scale = tl.load(table_ptr + channels + channel).to(tl.float64)
    invstd = tl.load(table_ptr + 3 * channels + channel).to(tl.float64)
    share = -scale / (N.to(tl.int64) * plane).to(tl.float64)
    tl.store(slopes_ptr + channel, share * invstd * invstd * about_mean)
    tl.store(slopes_ptr + channels + channel, share * summed)
    one = tl.full([], 1.0, tl.float64)
    _move(grads_ptr + channel, one, about_mean * invstd, True, tl.float64, BLOCK)
    _move(grads_ptr + channels + channel, one, summed, True, tl.float64, BLOCK)


@triton.jit(do_not_specialize=["C", "plane"])
def _batch_norm_relu_bwd_kernel(
    grad_ptr, z_ptr, table_ptr, slopes_ptr, out_ptr, C, plane,
    VECTOR: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes out = scale g + slope (z - mean) + offset, the gradient of z."""
    channel, start, inside = _place(C, plane, VECTOR, BLOCK)
    z = _centered(z_ptr + start, table_ptr, channel, inside, ACC, BLOCK)
    grad = tl.load(grad_ptr + start + tl.arange(0, BLOCK), mask=inside, other=0.0).to(ACC)
    g = _let_through(grad, z, table_ptr, C, channel)
    result = (
        tl.load(table_ptr + C + channel) * g + tl.load(slopes_ptr + channel) * z + tl.load(slopes_ptr + C + channel)
    )
    tl.store(out_ptr + start + tl.arange(0, BLOCK), result, mask=inside)


_launch_statistics, _finish_table = Launcher(_batch_norm_statistics_kernel), Launcher(_batch_norm_table_kernel)
_launch_sums, _finish_slopes = Launcher(_batch_norm_relu_sums_kernel), Launcher(_batch_norm_slopes_kernel)
_launch_forward, _launch_backward = Launcher(_batch_norm_relu_fwd_kernel), Launcher(_batch_norm_relu_bwd_kernel)
_OPTIONS = {"num_warps": 4, **FUSED}


def launch_batch_norm_statistics(
    z: Tensor,
    gamma: Tensor,
    beta: Tensor,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    batches: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The table of z's channels in the dtype of the arithmetic; updates the running averages, if there are any."""
    running = running_mean is not None
    partial = _partial(z)
    table = z.new_empty(4, z.shape[1], dtype=partial.dtype)
    _launch(_launch_statistics, z, z, partial)
    averages = (table if average is None else average for average in (running_mean, running_variance, batches))
    numbers = (scalar_bits(value, torch.float64) for value in (eps, momentum))
    parameters = (gamma, beta, beta if bias is None else bias)
    flags = (bias is not None, running)
    _finish(_finish_table, z, partial, *parameters, *averages, table, numbers=tuple(numbers), flags=flags)
    return table


def launch_batch_norm_relu(sources: list[Tensor], tables: list[Tensor], residual: Tensor | None, plain: bool) -> Tensor:
    """The sum of relu(u) of all sources, and of the residual. `plain`: the first source has no table."""
    first, absent = sources[0], MOST_SOURCES - len(sources)
    out = torch.empty_like(first)
    known = ([first] if plain else []) + tables
    added = first if residual is None else residual
    arguments = (*sources, *[first] * absent, *known, *known[:1] * absent, added, out)
    _launch(_launch_forward, first, *arguments, flags=(len(sources), plain, residual is not None))
    return out


def launch_batch_norm_relu_gradient(
    out: Tensor, grad: Tensor, other: Tensor | None, z: Tensor, table: Tensor, parameter_grads: Tensor
) -> None:
    """Adds `other` to `grad`, writes the gradient of z to `out`, adds those of gamma and beta to `parameter_grads`."""
    partial, slopes = _partial(z), table.new_empty(2, table.shape[1])
    added = grad if other is None else other
    _launch(_launch_sums, z, grad, added, z, table, partial, flags=(other is not None,))
    _finish(_finish_slopes, z, partial, table, slopes, parameter_grads)
    _launch(_launch_backward, z, grad, z, table, slopes, out)


def _partial(z: Tensor) -> Tensor:
    """Memory for two sums of each block of each plane."""
    return z.new_empty(2, z.shape[0], z.shape[1], _blocks(z), dtype=compute_dtype(z))


def _blocks(z: Tensor) -> int:
    return divide_up(z.shape[2] * z.shape[3], BATCH_NORM_BLOCK)


def _launch(launch: Launcher, z: Tensor, *arguments: Tensor, flags: tuple[bool | int, ...] = ()) -> None:
    """One program for each block of each plane of z."""
    n, channels, h, w = z.shape
    constants = (*flags, h * w % 4 == 0, ACC[compute_dtype(z)], BATCH_NORM_BLOCK)
    launch(n * channels * _blocks(z), (*arguments, channels, h * w), constants, _OPTIONS)


def _finish(
    launch: Launcher, z: Tensor, *arguments: Tensor, numbers: tuple[int, ...] = (), flags: tuple[bool, ...] = ()
) -> None:
    """One program for each channel."""
    n, channels, h, w = z.shape
    constants = (*flags, BATCH_NORM_BLOCK, BATCH_NORM_FINISH)
    launch(channels, (*arguments, n, h * w, *numbers), constants, _OPTIONS)
