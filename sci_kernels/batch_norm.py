"""BatchNorm in training, ReLU and residual as the passes that they need, for networks that drive their own backward.

    u      = a (z - mean) + beta,  y = relu(u) [+ residual]     a = gamma invstd,  invstd^-2 = variance + eps
    g      = grad where u > 0, else 0                           grad_beta = sum g,  grad_gamma = invstd sum g (z - mean)
    grad_z = a (g - grad_beta / P - (z - mean) invstd grad_gamma / P)         sums over the P pixels of a channel

Forward reads z twice, for its statistics and to make y; backward reads z and grad twice and keeps nothing but z.
These are operators without autograd: a caller that knows z and the statistics calls `gradient` itself. They run on
Triton for GPUs, where features are contiguous, and in C for CPUs, where they are channels_last; `kernels_for` tells.
Not differentiable. z itself must be what `kernels_for` takes.
"""

import torch
from torch import Tensor

from . import native
from .arguments import default_impl
from .ops import triton_launchers
from .reference import compute_dtype

_MOST_CHANNELS = 256  # of the C kernels, which keep a few vectors of each on their stack
Statistics = tuple[Tensor, Tensor]  # mean and biased variance of each channel


def kernels_for(z: Tensor) -> str | None:
    """Which kernels take features like z, `(N, C, H, W)`: "triton", "native" or, where nothing fits, None."""
    if z.device.type == "cuda":
        return "triton" if default_impl(z.device) == "triton" and z.is_contiguous() else None
    fits = z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64)
    fits = fits and z.is_contiguous(memory_format=torch.channels_last)
    fits = fits and z.shape[1] <= _MOST_CHANNELS and z.numel() > 0
    return "native" if fits and native.compiler_error() is None else None


def statistics(z: Tensor, kernels: str) -> Statistics:
    """Mean and biased variance of each channel, `(C,)`, at least float32."""
    return _statistics(z, kernels)


def forward(
    z: Tensor, of: Statistics, gamma: Tensor, beta: Tensor, eps: float, kernels: str, residual: Tensor | None = None
) -> Tensor:
    """y of the module's docstring, in the dtype and memory format of z; a new tensor."""
    _check_channels(z, gamma, beta)
    scale, _ = _scale(of, gamma, eps)
    residual = None if residual is None else _like(residual, z)
    return _forward(z, of[0], scale, beta.to(scale.dtype), residual, kernels)


def gradient(
    grad: Tensor,
    z: Tensor,
    of: Statistics,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    kernels: str,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of z, gamma and beta from that of y; with `overwrite` that of z may take its memory."""
    _check_channels(z, gamma, beta)
    grad = _like(grad, z)
    mean, pixels = of[0], z.numel() // z.shape[1]
    scale, invstd = _scale(of, gamma, eps)
    known = (grad, z, mean, scale, beta.to(mean.dtype))
    direct, product = _sums(*known, kernels)
    slope, offset = -scale * invstd * invstd * product / pixels, -scale * direct / pixels
    out = grad if overwrite else torch.empty_like(grad)
    _gradient(out, *known, slope.to(mean.dtype), offset.to(mean.dtype), kernels)
    return out, (product * invstd).to(gamma.dtype), direct.to(gamma.dtype)


def _check_channels(z: Tensor, *parameters: Tensor) -> None:
    for parameter in parameters:
        if parameter.shape != z.shape[1:2]:
            raise ValueError(f"gamma, beta: expected shape ({z.shape[1]},), a number a channel; got {parameter.shape}")


def _like(tensor: Tensor, z: Tensor) -> Tensor:
    """The tensor in the dtype and strides of z: itself, or a copy."""
    if tensor.shape != z.shape:
        raise ValueError(f"residual, grad: expected the shape of z, {tuple(z.shape)}; got {tuple(tensor.shape)}")
    same = tensor.stride() == z.stride() and tensor.dtype == z.dtype
    return tensor if same else torch.empty_like(z).copy_(tensor)


def _scale(of: Statistics, gamma: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """a and invstd of the module's docstring."""
    invstd = (of[1] + eps).rsqrt()
    return gamma.to(invstd.dtype) * invstd, invstd


@torch.library.custom_op("sci::batch_norm_statistics", mutates_args=())
def _statistics(z: Tensor, kernels: str) -> tuple[Tensor, Tensor]:
    if kernels == "native":
        return native.batch_norm_statistics(z)
    return triton_launchers(z.device).launch_batch_norm_statistics(z)


@_statistics.register_fake
def _(z, kernels):
    dtype = compute_dtype(z)
    return z.new_empty(z.shape[1], dtype=dtype), z.new_empty(z.shape[1], dtype=dtype)


@torch.library.custom_op("sci::batch_norm_relu", mutates_args=())
def _forward(z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, residual: Tensor | None, kernels: str) -> Tensor:
    if kernels == "native":
        return native.batch_norm_relu(z, mean, scale, beta, residual)
    return triton_launchers(z.device).launch_batch_norm_relu(z, mean, scale, beta, residual)


@_forward.register_fake
def _(z, mean, scale, beta, residual, kernels):
    return torch.empty_like(z)


@torch.library.custom_op("sci::batch_norm_relu_sums", mutates_args=())
def _sums(grad: Tensor, z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, kernels: str) -> tuple[Tensor, Tensor]:
    """sum g and sum g (z - mean) of each channel."""
    if kernels == "native":
        return native.batch_norm_relu_sums(grad, z, mean, scale, beta)
    return triton_launchers(z.device).launch_batch_norm_relu_sums(grad, z, mean, scale, beta)


@_sums.register_fake
def _(grad, z, mean, scale, beta, kernels):
    dtype = torch.float64 if kernels == "native" else compute_dtype(z)
    return z.new_empty(z.shape[1], dtype=dtype), z.new_empty(z.shape[1], dtype=dtype)


@torch.library.custom_op("sci::batch_norm_relu_bwd", mutates_args=("out",))
def _gradient(
    out: Tensor,
    grad: Tensor,
    z: Tensor,
    mean: Tensor,
    scale: Tensor,
    beta: Tensor,
    slope: Tensor,
    offset: Tensor,
    kernels: str,
) -> None:
    """out = scale g + slope (z - mean) + offset; it may be grad."""
    arguments = (out, grad, z, mean, scale, beta, slope, offset)
    if kernels == "native":
        native.batch_norm_relu_gradient(*arguments)
    else:
        triton_launchers(z.device).launch_batch_norm_relu_gradient(*arguments)
