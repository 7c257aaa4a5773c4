"""BatchNorm's statistics, running averages and gradient by PyTorch, where `sci_kernels.batch_norm` has no kernel.

PyTorch's CPU kernels for channels_last add up the values of a channel one by one, in the tensor's precision: over
an image, five digits are left of seven. Here the memory (P pixels, C channels) is viewed as (P / k, k C) with
k near sqrt(P). The same kernels then give k partial results per channel, each over sqrt(P) values, which are
combined in float64.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from sci_kernels import batch_norm

_PLANNING = ContextVar("planning for a GPU", default=False)


@contextmanager
def planned_for_gpu() -> Iterator[None]:
    """Within this context, tensors on the CPU, which may be fake, are treated as those of a GPU would be."""
    token = _PLANNING.set(True)
    try:
        yield
    finally:
        _PLANNING.reset(token)


def planning() -> bool:
    """Whether tensors are to be treated as those of a GPU."""
    return _PLANNING.get()


def on_cpu(tensor: Tensor) -> bool:
    """Whether the tensor is on a CPU, and not to be treated as one of a GPU."""
    return tensor.device.type == "cpu" and not planning()


def batch_statistics(z: Tensor, running: batch_norm.Running, bias: Tensor) -> Tensor:
    """Mean and biased variance of each channel of `(N, C, H, W)`, `(2, C)`, float32 or float64.

    Updates the running averages of the BatchNorm, whose input is z with the bias added.
    """
    mean, variance = _mean_and_variance(_at_least_float32(z))
    pixels = z.numel() // z.shape[1]
    running.mean.mul_(1 - running.momentum).add_(mean + bias, alpha=running.momentum)
    running.variance.mul_(1 - running.momentum).add_(variance * (pixels / (pixels - 1)), alpha=running.momentum)
    running.batches.add_(1)
    return torch.stack([mean, variance])


def _mean_and_variance(z: Tensor) -> tuple[Tensor, Tensor]:
    if not _in_phases(z):
        return torch.batch_norm_update_stats(z, None, None, 0.0)
    channels = z.shape[1]
    counts: list[int] = []
    means: list[Tensor] = []
    variances: list[Tensor] = []
    for part in _parts(z):
        mean, variance = (t.view(-1, channels).double() for t in torch.batch_norm_update_stats(part, None, None, 0.0))
        means.append(mean)
        variances.append(variance)
        counts += [part.shape[0]] * mean.shape[0]
    share = torch.tensor(counts, dtype=torch.float64)[:, None] / sum(counts)
    each_mean, each_variance = torch.cat(means), torch.cat(variances)
    mean = (share * each_mean).sum(0)
    variance = (share * (each_variance + (each_mean - mean).square())).sum(0)
    return mean.to(z.dtype), variance.to(z.dtype)


def channel_sums(grad: Tensor) -> Tensor:
    """Sum of each channel of `(N, C, H, W)`."""
    if not _in_phases(grad):
        return grad.sum((0, 2, 3))
    first, *rest = (part.sum(0).view(-1, grad.shape[1]).sum(0) for part in _parts(grad))
    return sum(rest, start=first)


def batch_norm_gradient(
    grad: Tensor, z: Tensor, gamma: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of z, gamma and beta, from that of gamma * (z - mean) / sqrt(variance + eps) + beta.

    grad_z = gamma invstd (grad - sum(grad) / P - (z - mean) invstd^2 sum(grad (z - mean)) / P). Overwrites `grad`.
    """
    invstd = (variance + eps).rsqrt()
    if not _in_phases(z):
        return torch.ops.aten.native_batch_norm_backward(
            grad, z, gamma, None, None, mean, invstd, True, eps, [True, True, True]
        )
    dtype, grad, z = grad.dtype, _at_least_float32(grad), _at_least_float32(z)
    channels, pixels = z.shape[1], z.numel() // z.shape[1]
    grad_gamma, grad_beta = _reduced(grad, z, mean, invstd, eps)
    # As scale * grad + slope * z + shift, in two passes.
    scale = gamma * invstd
    slope = (-scale * invstd * grad_gamma / pixels).to(z.dtype)
    shift = (-scale * grad_beta / pixels).to(z.dtype)
    for part, z_part in zip(_parts(grad), _parts(z), strict=True):
        repeat = part.shape[1] // channels
        scales, slopes, shifts, means = (t.repeat(repeat) for t in (scale, slope, shift, mean))
        part.mul_(scales).add_(torch.addcmul(shifts, z_part - means, slopes))
    return grad.to(dtype), grad_gamma.to(gamma.dtype), grad_beta.to(gamma.dtype)


def _reduced(grad: Tensor, z: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """sum(grad (z - mean) invstd) and sum(grad) of each channel, float64."""
    channels, gammas, betas = z.shape[1], [], []
    for part, z_part in zip(_parts(grad), _parts(z), strict=True):
        repeat = part.shape[1] // channels
        _, grad_gamma, grad_beta = torch.ops.aten.native_batch_norm_backward(
            *(part, z_part, None, None, None, mean.repeat(repeat), invstd.repeat(repeat)),
            *(True, eps, [False, True, True]),
        )
        gammas.append(grad_gamma.view(-1, channels).double())
        betas.append(grad_beta.view(-1, channels).double())
    return torch.cat(gammas).sum(0), torch.cat(betas).sum(0)


def _at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor; as float32 if it is of half precision on a CPU, whose kernels would add up in half precision."""
    return tensor.float() if on_cpu(tensor) and tensor.element_size() < 4 else tensor


def _in_phases(tensor: Tensor) -> bool:
    return on_cpu(tensor) and tensor.is_contiguous(memory_format=torch.channels_last)


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The memory of a channels_last tensor as `(P // k, k C)`, and the remaining pixels as `(rest, C)`."""
    flat = tensor.permute(0, 2, 3, 1).flatten(0, 2)
    pixels, channels = flat.shape
    phases = 1 << (math.isqrt(pixels).bit_length() - 1)
    rows = pixels // phases
    yield flat[: rows * phases].view(rows, phases * channels)
    if rows * phases < pixels:
        yield flat[rows * phases :]
