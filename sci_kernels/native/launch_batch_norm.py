"""BatchNorm, ReLU and residual by `batch_norm.c`: channels_last features, float32 or float64."""

import ctypes
import functools

import torch
from torch import Tensor

from ..constants import MOST_SOURCES
from .build import library
from .c_structs import contiguous_in, problem_type
from .threads import in_bands

_BLOCK = 512  # pixels that are summed together: with 16 channels they just fit in the first-level cache
_SOURCES = [f"z{number}" for number in range(MOST_SOURCES)]
_TABLES = [f"table{number}" for number in range(MOST_SOURCES)]
_FEATURES = ("residual", "grad", "other", "out", "partial")
_CHANNELS = ("gamma", "beta", "bias", "running_mean", "running_variance", "batches", "slopes", "parameter_grads")
_POINTERS = (*_SOURCES, *_TABLES, *_FEATURES, *_CHANNELS)
_INTEGERS = ("pixels", "sources", "plain")


def batch_norm_statistics(
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
    """The table `(4, C)`, see `sci_kernels.batch_norm`; updates the running averages."""
    table = z.new_empty(4, z.shape[1])
    parameters = {"gamma": gamma, "beta": beta, "bias": bias, "running_mean": running_mean}
    parameters["running_variance"] = running_variance
    tensors = {name: contiguous_in(z.dtype, given) for name, given in parameters.items() if given is not None}
    if batches is not None:
        tensors["batches"] = batches
    work = _Work(z, z0=z, table0=table, partial=_partial(z), **tensors)
    work.run("statistics")
    work.code.finish_statistics(work.address, ctypes.c_double(eps), ctypes.c_double(momentum))
    for name in ("running_mean", "running_variance"):
        average = parameters[name]
        if average is not None and tensors[name] is not average:
            average.copy_(tensors[name])
    return table


def batch_norm_relu(sources: list[Tensor], tables: list[Tensor], residual: Tensor | None, plain: bool) -> Tensor:
    """The sum of relu(u) of all sources, and of the residual. `plain`: the first source has no table."""
    out = torch.empty_like(sources[0])
    tensors = dict(zip(_SOURCES, sources, strict=False)) | dict(zip(_TABLES[plain:], tables, strict=False))
    if residual is not None:
        tensors["residual"] = residual
    work = _Work(out, out=out, **tensors)
    work.problem.sources, work.problem.plain = len(sources), plain
    work.run("apply")
    return out


def batch_norm_relu_gradient(
    out: Tensor, grad: Tensor, other: Tensor | None, z: Tensor, table: Tensor, parameter_grads: Tensor
) -> None:
    """Adds `other` to `grad`, writes the gradient of z to `out`, adds those of gamma and beta to `parameter_grads`."""
    slopes = table.new_empty(2, table.shape[1])
    tensors = {"grad": grad, "out": out, "slopes": slopes, "parameter_grads": parameter_grads}
    if other is not None:
        tensors["other"] = other
    work = _Work(z, z0=z, table0=table, partial=_partial(z), **tensors)
    work.run("sums")
    work.code.finish_sums(work.address)
    work.run("gradient")


def channel_sums(features: Tensor) -> Tensor:
    """The sum of each channel."""
    result = features.new_empty(features.shape[1])
    work = _Work(features, z0=features, out=result, partial=_partial(features))
    work.run("totals")
    work.code.finish_totals(work.address)
    return result


def _partial(z: Tensor) -> Tensor:
    """Memory for two sums of each block."""
    channels = z.shape[1]
    return z.new_empty(-(-z.numel() // (channels * _BLOCK)), 2, channels, dtype=torch.float64)


@functools.cache
def _code(double: bool, channels: int) -> ctypes.CDLL:
    return library("batch_norm.c", DOUBLE=int(double), CHANNELS=channels, BLOCK=_BLOCK, SOURCES=MOST_SOURCES)


class _Work:
    """The C code for features like z, and the problem that it is called with."""

    def __init__(self, z: Tensor, **tensors: Tensor):
        double, channels, count = z.dtype is torch.float64, z.shape[1], z.numel()
        self.width, self.blocks = _BLOCK * channels, -(-count // (channels * _BLOCK))
        self.code, self.problem = _code(double, channels), problem_type(double, _POINTERS, _INTEGERS)()
        for name, tensor in tensors.items():
            setattr(self.problem, name, tensor.data_ptr())
        self.problem.pixels = count // channels
        self.problem.tensors = tensors
        self.address = ctypes.byref(self.problem)

    def run(self, function: str) -> None:
        """Calls the function for all blocks, on PyTorch's number of threads."""
        in_bands(getattr(self.code, function), self.problem, self.blocks, self.width)
