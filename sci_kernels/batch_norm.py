"""BatchNorm in training mode, ReLU and residual in few passes, for networks that run their backward themselves.

    u      = a (z - mean) + beta,  y = relu(u) [+ residual]     a = gamma invstd,  invstd^-2 = variance + eps
    g      = grad where u > 0, else 0                           grad_beta = sum g,  grad_gamma = invstd sum g (z - mean)
    grad_z = a (g - grad_beta / P - (z - mean) invstd grad_gamma / P)         sums over the P pixels of a channel

A layer's table, `(4, C)`, holds mean, a, beta and invstd of each channel, in float32 or float64. `statistics` computes
it and updates the running averages. Forward reads z twice, for its statistics and for y; backward reads z and grad
twice, and needs nothing saved but z and the table.

These operators have no autograd: the caller keeps z and the table, and calls `gradient` itself. They run by Triton on
GPUs, where features are contiguous, and in C on CPUs, where they are channels_last. `kernels_for` says which of them
can take a given z; every z must be one that it accepts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import native
from .arguments import default_impl
from .constants import MOST_SOURCES
from .ops import triton_launchers, unwatched
from .reference import compute_dtype

_MOST_CHANNELS = 256  # that the C kernels take: they keep a few vectors for each on their stack
_ROWS = 4  # of a table


class Running(NamedTuple):
    """The running averages that a BatchNorm keeps for inference, and their momentum."""

    mean: Tensor  # (C,)
    variance: Tensor  # (C,), the unbiased one
    batches: Tensor  # number of batches so far, int64
    momentum: float


def kernels_for(z: Tensor) -> str | None:
    """The kernels that can take features like z, `(N, C, H, W)`: "triton", "native", or None if there are none."""
    if z.device.type == "cuda":
        return "triton" if default_impl(z.device) == "triton" and z.is_contiguous() else None
    fits = z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64)
    fits = fits and z.is_contiguous(memory_format=torch.channels_last)
    fits = fits and z.shape[1] <= _MOST_CHANNELS and z.numel() > 0
    return "native" if fits and native.compiler_error() is None else None


def statistics(
    z: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    kernels: str,
    running: Running | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The table of a layer, from the statistics of z.

    Args:
        z: `(N, C, H, W)`.
        gamma, beta: `(C,)`.
        eps: added to the biased variance.
        kernels: what `kernels_for(z)` returned.
        running: averages that are updated in place; z then needs at least two pixels per channel.
        bias: `(C,)`, the bias of a convolution before the BatchNorm, left out of z because BatchNorm subtracts it
            again; it is added to the running mean.

    Raises:
        ValueError: a parameter or an average is not one number per channel.
    """
    _check_channels(z, gamma, beta, bias, *(running[:2] if running else ()))
    if running and (running.batches.dtype != torch.int64 or running.batches.numel() != 1):
        dtype, shape = running.batches.dtype, tuple(running.batches.shape)
        raise ValueError(f"running.batches: expected one int64; got {dtype}, shape {shape}")
    mean, variance, batches, momentum = (None, None, None, 0.0) if running is None else running
    call = _make_table if unwatched(z) else _statistics
    return call(z, gamma, beta, bias, mean, variance, batches, momentum, eps, kernels)


def forward(
    sources: Sequence[Tensor], tables: Sequence[Tensor | None], kernels: str, residual: Tensor | None = None
) -> Tensor:
    """relu(u_1) [+ residual] + relu(u_2) + ..., added in this order and each sum rounded to the dtype of the z.

    Args:
        sources: the z of one or several layers, alike in shape, dtype and memory format.
        tables: one for each source. The first may be None: that source has no BatchNorm, u = z.
        kernels: what `kernels_for(z)` returned.
        residual: of the shape of z.

    Returns:
        The sum, a new tensor in the dtype and memory format of z.

    Raises:
        ValueError: tables that do not fit the sources, or tensors of different shapes.
    """
    sources = [_like(z, sources[0]) for z in sources]
    plain = tables[0] is None
    known = [table for table in tables if table is not None]
    if len(sources) != len(tables) or len(known) < len(tables) - plain:
        raise ValueError("tables: expected one for each source; the first alone may be None")
    for table in known:
        _check_rows("table", table, sources[0], _ROWS)
    call = _add_up if unwatched(*sources) else _forward
    count = MOST_SOURCES
    total = None if residual is None else _like(residual, sources[0])
    total = call(sources[:count], known[: count - plain], total, plain, kernels)
    for first in range(count, len(sources), count):
        total = call(sources[first : first + count], known[first - plain :][:count], total, False, kernels)
    return total


def gradient(
    grad: Tensor,
    z: Tensor,
    table: Tensor,
    parameter_grads: Tensor,
    kernels: str,
    other: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """The gradient of z from that of y.

    Args:
        grad: the gradient of y, or one of two parts of it.
        z, table: those of the layer.
        parameter_grads: `(2 or more, C)`, in the dtype of the table: the gradients of gamma and beta are added to its
            first two rows.
        kernels: what `kernels_for(z)` returned.
        other: the other part of the gradient of y. It is added to `grad` in place, if that has the strides of z.
        overwrite: the result may take the memory of `grad`.

    Raises:
        ValueError: a shape or dtype does not fit.
    """
    _check_rows("table", table, z, _ROWS)
    _check_rows("parameter_grads", parameter_grads, z, 2)
    grad = _like(grad, z)
    other = None if other is None else _like(other, z)
    arguments = (grad, other, z, table, parameter_grads, kernels)
    if not overwrite:
        return (_differentiate if unwatched(grad, z) else _gradient)(*arguments)
    (_differentiate_in_place if unwatched(grad, z) else _gradient_in_place)(*arguments)
    return grad


def channel_sums(features: Tensor, kernels: str) -> Tensor:
    """The sum of each channel, `(C,)`, in at least float32."""
    if kernels == "native":
        features = features.contiguous(memory_format=torch.channels_last)
        return (native.channel_sums if unwatched(features) else _channel_sums)(features)
    return features.sum((0, 2, 3), dtype=torch.float32 if features.element_size() < 4 else None)


def _check_channels(z: Tensor, *parameters: Tensor | None) -> None:
    for parameter in parameters:
        if parameter is not None and parameter.shape != z.shape[1:2]:
            raise ValueError(
                f"gamma, beta, bias, averages: expected shape ({z.shape[1]},), one number per channel; "
                f"got {tuple(parameter.shape)}"
            )


def _check_rows(name: str, tensor: Tensor, z: Tensor, rows: int) -> None:
    """Raises ValueError unless the kernels can read and write so many rows of channels in the tensor."""
    # The result of `compute_dtype`, which is too slow for a check made this often: it calls PyTorch's dispatcher.
    dtype, shape = torch.float64 if z.dtype is torch.float64 else torch.float32, tensor.shape
    fits = len(shape) == 2 and shape[0] >= rows and shape[1] == z.shape[1] and tensor.is_contiguous()
    if not fits or tensor.dtype is not dtype:
        raise ValueError(
            f"{name}: expected {dtype} ({rows}, {z.shape[1]}), contiguous; got {tensor.dtype} {tuple(shape)}"
        )


def _like(tensor: Tensor, z: Tensor) -> Tensor:
    """The tensor in the dtype and strides of z: itself, or a copy."""
    if tensor.shape != z.shape:
        raise ValueError(
            f"sources, residual, grad: expected the shape of z, {tuple(z.shape)}; got {tuple(tensor.shape)}"
        )
    same = tensor.stride() == z.stride() and tensor.dtype == z.dtype
    return tensor if same else torch.empty_like(z).copy_(tensor)


def _make_table(
    z: Tensor,
    gamma: Tensor,
    beta: Tensor,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    batches: Tensor | None,
    momentum: float,
    eps: float,
    kernels: str,
) -> Tensor:
    arguments = (z, gamma, beta, bias, running_mean, running_variance, batches, momentum, eps)
    if kernels == "native":
        return native.batch_norm_statistics(*arguments)
    return triton_launchers(z.device).launch_batch_norm_statistics(*arguments)


_statistics = torch.library.custom_op(
    "sci::batch_norm_statistics",
    _make_table,
    mutates_args=("running_mean", "running_variance", "batches"),
)


@_statistics.register_fake
def _(z, gamma, beta, bias, running_mean, running_variance, batches, momentum, eps, kernels):
    return z.new_empty(_ROWS, z.shape[1], dtype=compute_dtype(z))


def _add_up(sources: list[Tensor], tables: list[Tensor], residual: Tensor | None, plain: bool, kernels: str) -> Tensor:
    if kernels == "native":
        return native.batch_norm_relu(sources, tables, residual, plain)
    return triton_launchers(sources[0].device).launch_batch_norm_relu(sources, tables, residual, plain)


_forward = torch.library.custom_op("sci::batch_norm_relu", _add_up, mutates_args=())


@_forward.register_fake
def _(sources, tables, residual, plain, kernels):
    return torch.empty_like(sources[0])


def _differentiate(
    grad: Tensor, other: Tensor | None, z: Tensor, table: Tensor, parameter_grads: Tensor, kernels: str
) -> Tensor:
    """The gradient of z; `grad + other` takes the place of `grad`."""
    out = torch.empty_like(z)
    _run_gradient(out, grad, other, z, table, parameter_grads, kernels)
    return out


def _differentiate_in_place(
    grad: Tensor, other: Tensor | None, z: Tensor, table: Tensor, parameter_grads: Tensor, kernels: str
) -> None:
    """The same in the place of `grad`."""
    _run_gradient(grad, grad, other, z, table, parameter_grads, kernels)


def _run_gradient(
    out: Tensor, grad: Tensor, other: Tensor | None, z: Tensor, table: Tensor, parameter_grads: Tensor, kernels: str
) -> None:
    arguments = (out, grad, other, z, table, parameter_grads)
    if kernels == "native":
        native.batch_norm_relu_gradient(*arguments)
    else:
        triton_launchers(z.device).launch_batch_norm_relu_gradient(*arguments)


_CHANGED = ("grad", "parameter_grads")
_gradient = torch.library.custom_op("sci::batch_norm_relu_bwd", _differentiate, mutates_args=_CHANGED)
_gradient_in_place = torch.library.custom_op(
    "sci::batch_norm_relu_bwd_", _differentiate_in_place, mutates_args=_CHANGED
)


@_gradient.register_fake
def _(grad, other, z, table, parameter_grads, kernels):
    return torch.empty_like(z)


@torch.library.custom_op("sci::channel_sums", mutates_args=())
def _channel_sums(features: Tensor) -> Tensor:
    return native.channel_sums(features)


@_channel_sums.register_fake
def _(features):
    return features.new_empty(features.shape[1])
