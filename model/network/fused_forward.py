"""The walk forward through a network of `fused_training`, which describes what is kept for the walk back."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sci_kernels import batch_norm, convolution

from .batch_statistics import batch_statistics, on_cpu, planning


class NormConfig(NamedTuple):
    """What a BatchNorm needs in addition to its parameters."""

    eps: float
    running: batch_norm.Running


class Config(NamedTuple):
    """The arguments of the function that are not differentiated."""

    layers: int
    convs: int  # convolutions in a block
    norms: tuple[NormConfig | None, ...]  # after each convolution of head and block; None: it has no BatchNorm
    checkpoint: str
    subtract: bool  # whether the result is x minus the sigmoid
    dtype: torch.dtype  # of the convolutions
    impl: str  # of the operators; "blocked": plain PyTorch for BatchNorm as well
    convolutions: str  # "library": PyTorch's; "triton": those of `sci_kernels.convolution`

    def conv(self, application: int) -> int:
        """Which convolution is applied: the head's is 0, those of the block follow."""
        return 0 if application == 0 else 1 + (application - 1) % self.convs


class _Norm(NamedTuple):
    """A BatchNorm: its parameters and the rest."""

    gamma: Tensor
    beta: Tensor
    eps: float
    running: batch_norm.Running


class _Layer(NamedTuple):
    """A convolution, its parameters in the dtype that it computes in, and the BatchNorm that follows it."""

    weight: Tensor
    bias: Tensor
    norm: _Norm | None


def in_dtype(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """The tensor in the dtype; called often, and `to` takes time even where it has nothing to do."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


class Pass:
    """One walk through the network: x and parameters in the dtype of the arithmetic, and what is known so far.

    An application is one use of a convolution, counted from the head; `z` and `tables` are by application. Where
    BatchNorm follows, z is without the bias of its convolution, which BatchNorm would subtract again. A table
    is that of `batch_norm`, or mean and variance where PyTorch's own operators are used.
    """

    def __init__(self, x: Tensor, config: Config, parameters: Sequence[Tensor | None]):
        """`parameters`: weight, bias, gamma and beta of each convolution in turn, those of the last one at the end."""
        self.config = config
        self.layout = torch.channels_last if on_cpu(x) else torch.contiguous_format
        self.x = self.laid_out(x)
        by_layer = zip(*[iter(parameters)] * 4, strict=True)
        self.parameters = [
            _Layer(
                in_dtype(config.dtype, weight),
                in_dtype(config.dtype, bias),
                None if norm is None else _Norm(gamma, beta, *norm),
            )
            for (weight, bias, gamma, beta), norm in zip(by_layer, (*config.norms, None), strict=True)
        ]
        self.z: dict[int, Tensor] = {}
        self.tables: dict[int, Tensor] = {}
        self._kernels: dict[int, str | None] = {}

    def kernels(self, z: Tensor) -> str | None:
        """Which kernels of `batch_norm` take features with the channels of z; None: PyTorch's own operators do."""
        channels = z.shape[1]
        if channels not in self._kernels:
            takes = "triton" if planning() else batch_norm.kernels_for(z)
            self._kernels[channels] = None if self.config.impl == "blocked" else takes
        return self._kernels[channels]

    def laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.config.dtype).contiguous(memory_format=self.layout)

    def convolve(self, application: int, features: Tensor) -> Tensor:
        """z of an application: kept, or computed from its input."""
        if application in self.z:
            return self.z[application]
        weight, bias, norm = self.parameters[self.config.conv(application)]
        return self.convolved(features, weight, bias if norm is None else None)

    def convolved(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.config.convolutions == "triton":
            return convolution.forward(features, weight.contiguous(), bias)
        return torch.conv2d(features, weight, bias, padding=1)

    def convolution_gradients(
        self, grad: Tensor, features: Tensor, weight: Tensor, need_features: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of the features, if needed, and of the weight."""
        if self.config.convolutions == "triton":
            of_weight = convolution.weight_gradient(grad, features)
            return convolution.input_gradient(grad, weight.contiguous()) if need_features else None, of_weight
        of_features, of_weight, _ = torch.ops.aten.convolution_backward(
            *(grad, features, weight, None, [1, 1], [1, 1], [1, 1]),
            *(False, [0, 0], 1, [need_features, True, False]),
        )
        return of_features, of_weight

    def forget(self, application: int) -> None:
        """Free the memory of a z, even where the tensor itself is still referenced."""
        if application in self.z:
            self.z.pop(application).untyped_storage().resize_(0)

    def table(self, application: int, z: Tensor) -> Tensor | None:
        """The table of z, computed when it is first needed; None: no BatchNorm follows."""
        if application not in self.tables:
            _, bias, norm = self.parameters[self.config.conv(application)]
            if norm is None:
                return None
            if kernels := self.kernels(z):
                made = batch_norm.statistics(z, norm.gamma, norm.beta, norm.eps, kernels, norm.running, bias)
            else:
                made = batch_statistics(z, norm.running, bias)
            self.tables[application] = made
        return self.tables[application]

    def activate(self, sources: dict[int, Tensor], residual: Tensor | None = None) -> Tensor:
        """relu([bn](z)) of each application, added in order, the residual after the first; a new tensor."""
        tables = [self.table(application, z) for application, z in sources.items()]
        if kernels := self.kernels(next(iter(sources.values()))):
            return batch_norm.forward(list(sources.values()), tables, kernels, residual)
        activations = self._activations(sources, tables)
        total = next(activations)
        if residual is not None:
            total.add_(residual)
        for out in activations:
            total = out.add_(total)
        return total

    def _activations(self, sources: dict[int, Tensor], tables: list[Tensor | None]) -> Iterator[Tensor]:
        """relu([bn](z)) of one application after the other, by PyTorch's own operators."""
        for (application, z), table in zip(sources.items(), tables, strict=True):
            norm = self.parameters[self.config.conv(application)].norm
            if norm is None or table is None:
                yield z.relu()
            else:
                gamma, beta = in_dtype(table.dtype, norm.gamma), in_dtype(table.dtype, norm.beta)
                mean, variance = table.unbind()
                yield torch.native_batch_norm(z, gamma, beta, mean, variance, False, 0.0, norm.eps)[0].relu_()

    def block(self, block: int, features: Tensor, keep: bool = False) -> Tensor:
        """features + block(features)."""
        first, trunk = 1 + block * self.config.convs, features
        last = first + self.config.convs - 1
        for application in range(first, last + 1):
            z = self.convolve(application, features)
            if keep:
                self.z[application] = z
            features = self.activate({application: z}, trunk if application == last else None)
        return features

    def trunk(self, blocks: int, keep: bool = False) -> Tensor:
        """h after this many blocks, a new tensor; where their z are kept, it is the sum of what each block added."""
        z = self.convolve(0, self.x)
        if keep and on_cpu(self.x):  # elsewhere it is cheaper to compute it again from its 3 channels than to keep it
            self.z[0] = z
        added = range(self.config.convs, (blocks + 1) * self.config.convs, self.config.convs)
        if all(application in self.z for application in added):
            return self.activate({0: z} | {application: self.z[application] for application in added})
        features = self.activate({0: z})
        del z
        for block in range(blocks):
            features = self.block(block, features, keep)
        return features
