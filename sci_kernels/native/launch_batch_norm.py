"""BatchNorm, ReLU and residual by `batch_norm.c`: channels_last features, float32 or float64."""

import torch
from torch import Tensor

from .build import library
from .problem import addresses, problem_type
from .threads import in_bands

_BLOCK = 512  # pixels, whose sums are made together: with 16 channels they just stay in the first cache
_FEATURES = ("z", "grad", "residual", "out", "partial")
_CHANNELS = ("mean", "scale", "beta", "slope", "offset")
_LANES = 16  # at most


def batch_norm_statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel."""
    partial = _partial(z)
    _run("statistics", z=z, partial=partial)
    pixels = z.numel() // z.shape[1]
    counts = torch.full((len(partial), 1), float(_BLOCK), dtype=torch.float64)
    counts[-1] = pixels - _BLOCK * (len(partial) - 1)
    sums, squares = partial.unbind(1)
    mean = _added(sums) / pixels
    variance = _added(squares + counts * (sums / counts - mean).square()) / pixels
    return mean.to(z.dtype), variance.to(z.dtype)


def batch_norm_relu(z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, residual: Tensor | None) -> Tensor:
    """relu(scale (z - mean) + beta) [+ residual]"""
    out = torch.empty_like(z)
    _run("apply", z=z, mean=mean, scale=scale, beta=beta, residual=residual, out=out)
    return out


def batch_norm_relu_sums(grad: Tensor, z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """sum g and sum g (z - mean) of each channel, in float64."""
    partial = _partial(z)
    _run("sums", grad=grad, z=z, mean=mean, scale=scale, beta=beta, partial=partial)
    return _added(partial[:, 0]), _added(partial[:, 1])


def batch_norm_relu_gradient(
    out: Tensor, grad: Tensor, z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, slope: Tensor, offset: Tensor
) -> None:
    """out = scale g + slope (z - mean) + offset"""
    channels = {"mean": mean, "scale": scale, "beta": beta, "slope": slope, "offset": offset}
    _run("gradient", z=z, grad=grad, out=out, **channels)


def _added(blocks: Tensor) -> Tensor:
    """NumPy's sum over blocks, since PyTorch's may depend on the number of threads."""
    return torch.from_numpy(blocks.numpy().sum(0))


def _partial(z: Tensor) -> Tensor:
    blocks = -(-z.numel() // z.shape[1] // _BLOCK)
    return z.new_empty(blocks, 2, z.shape[1], dtype=torch.float64)


def _run(function: str, **tensors: Tensor | None) -> None:
    z = tensors["z"]
    channels = z.shape[1]
    for name in tensors.keys() & set(_CHANNELS):
        tensors[name] = tensors[name].to(z.dtype).repeat(_LANES)
    double = z.dtype == torch.float64
    problem = problem_type(double, (*_FEATURES, *_CHANNELS), ("pixels",))(
        **dict(zip(tensors, addresses(tensors.values()), strict=True)), pixels=z.numel() // channels
    )
    problem.tensors = tensors
    code = library("batch_norm.c", DOUBLE=int(double), CHANNELS=channels, BLOCK=_BLOCK)
    blocks = -(-problem.pixels // _BLOCK)
    in_bands(getattr(code, function), problem, blocks, _BLOCK * channels)
