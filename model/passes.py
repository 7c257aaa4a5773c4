"""The way through a network of `fused`, and the way back; see there for what is kept."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sci_kernels import batch_norm

from .statistics import batch_norm_gradient, batch_statistics, channel_sums, on_cpu, planning


class Plan(NamedTuple):
    """What is not a tensor."""

    layers: int
    convs: int  # of a block
    eps: tuple[float | None, ...]  # of the BatchNorm after each convolution of head and block; None: there is none
    checkpoint: str
    subtract: bool  # whether x less the sigmoid is given
    dtype: torch.dtype  # of the convolutions
    impl: str  # of the operators; "blocked": plain PyTorch for BatchNorm as well

    def conv(self, application: int) -> int:
        """Which convolution is applied: the head's is 0, those of the block follow."""
        return 0 if application == 0 else 1 + (application - 1) % self.convs


class _Parameters(NamedTuple):
    """Of one convolution and its BatchNorm; the convolution's as it computes with them."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor | None
    beta: Tensor | None


class Pass:
    """One walk through the network: x and parameters as the arithmetic sees them, and what is known so far.

    An application is one use of a convolution, counted from the head; `z` and `statistics` are by application.
    """

    def __init__(self, x: Tensor, plan: Plan, parameters: Sequence[Tensor | None]):
        self.plan = plan
        self.layout = torch.channels_last if on_cpu(x) else torch.contiguous_format
        self.x = self.laid_out(x)
        self.parameters = [
            _Parameters(self.laid_out(weight), bias.to(plan.dtype), gamma, beta)
            for weight, bias, gamma, beta in zip(*[iter(parameters)] * 4, strict=True)
        ]
        self.z: dict[int, Tensor] = {}
        self.statistics: dict[int, tuple[Tensor, Tensor]] = {}

    def kernels(self, z: Tensor) -> str | None:
        """Of `batch_norm`, for these features; None: PyTorch's own."""
        if self.plan.impl == "blocked":
            return None
        return "triton" if planning() else batch_norm.kernels_for(z)

    def laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.plan.dtype).contiguous(memory_format=self.layout)

    def convolve(self, application: int, features: Tensor) -> Tensor:
        """z of an application: kept, or made from its input."""
        if application in self.z:
            return self.z[application]
        weight, bias, *_ = self.parameters[self.plan.conv(application)]
        return torch.conv2d(features, weight, bias, padding=1)

    def forget(self, application: int) -> None:
        """Give back the memory of a z that nobody else has, whoever still holds the tensor."""
        if application in self.z:
            self.z.pop(application).untyped_storage().resize_(0)

    def activate(self, application: int, z: Tensor, residual: Tensor | None = None) -> Tensor:
        """relu([bn](z)) [+ residual], a new tensor."""
        conv = self.plan.conv(application)
        eps = self.plan.eps[conv]
        if eps is None:
            return z.relu() if residual is None else z.relu().add_(residual)
        kernels = self.kernels(z)
        if application not in self.statistics:
            self.statistics[application] = batch_norm.statistics(z, kernels) if kernels else batch_statistics(z)
        *_, gamma, beta = self.parameters[conv]
        mean, variance = self.statistics[application]
        if kernels:
            return batch_norm.forward(z, (mean, variance), gamma, beta, eps, kernels, residual)
        out = torch.native_batch_norm(z, gamma, beta, mean, variance, False, 0.0, eps)[0].relu_()
        return out if residual is None else out.add_(residual)

    def block(self, block: int, features: Tensor, keep: bool = False) -> Tensor:
        """features + block(features); of a z that is kept, only the last is needed."""
        first, trunk = 1 + block * self.plan.convs, features
        last = first + self.plan.convs - 1
        for application in range(last if last in self.z else first, last + 1):
            z = self.convolve(application, features)
            if keep:
                self.z[application] = z
            features = self.activate(application, z, trunk if application == last else None)
        return features

    def trunk(self, blocks: int, keep: bool = False) -> Tensor:
        """h after so many blocks, a new tensor."""
        z = self.convolve(0, self.x)
        if keep and on_cpu(self.x):  # made of 3 channels, it is cheaper to make again than to keep
            self.z[0] = z
        features = self.activate(0, z)
        del z
        for block in range(blocks):
            features = self.block(block, features, keep)
        return features


class Backward:
    """The gradient, from the end to the beginning."""

    def __init__(self, walk: Pass, need_x: bool):
        self.walk, self.plan, self.need_x = walk, walk.plan, need_x
        self.grads: list[list[Tensor | None]] = [[None] * 4 for _ in walk.parameters]
        # Where memory is not what is short, the trunk is made once instead of once a block.
        self.trunks = [] if on_cpu(walk.x) and self.plan.checkpoint != "block" else None

    def run(self, grad: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of x and of the parameters, from that of the output."""
        walk, plan = self.walk, self.plan
        if self.trunks is not None:
            self._keep_trunks()
        grad = self._convolution(grad, self._trunk(plan.layers), len(walk.parameters) - 1)
        for block in reversed(range(plan.layers)):
            grad = self._block(block, grad)
        walk.z[0] = walk.convolve(0, walk.x)
        grad = self._activation(grad, 0)
        grad = self._convolution(grad, walk.x, 0, self.need_x)
        return grad, [grad for group in self.grads for grad in group]

    def _keep_trunks(self) -> None:
        walk = self.walk
        self.trunks.append(walk.trunk(0))
        for block in range(self.plan.layers):
            self.trunks.append(walk.block(block, self.trunks[-1]))

    def _trunk(self, blocks: int) -> Tensor:
        return self.walk.trunk(blocks) if self.trunks is None else self.trunks.pop()

    def _block(self, block: int, grad: Tensor) -> Tensor:
        """Gradient of a block's input, from that of the trunk after it; at most six features are alive at once."""
        walk, first = self.walk, 1 + block * self.plan.convs
        last = first + self.plan.convs - 1
        features = None
        if first not in walk.z:
            features = self._trunk(block)
            self._convolved(first, last, features)
        branch = grad
        for application in range(last, first, -1):
            # What the block gives is needed once more: its gradient must not be overwritten.
            branch = self._activation(branch, application, keep=application == last)
            activated = walk.activate(application - 1, walk.z[application - 1])
            branch = self._convolution(branch, activated, self.plan.conv(application))
            del activated
        branch = self._activation(branch, first, keep=first == last)
        features = self._trunk(block) if features is None else features
        return self._convolution(branch, features, self.plan.conv(first)).add_(grad)

    def _convolved(self, first: int, last: int, features: Tensor) -> None:
        """z of each application of a block, made again."""
        walk = self.walk
        for application in range(first, last + 1):
            walk.z[application] = walk.convolve(application, features)
            features = walk.activate(application, walk.z[application]) if application < last else None

    def _activation(self, grad: Tensor, application: int, keep: bool = False) -> Tensor:
        """Through relu and BatchNorm. Overwrites `grad` if it is not to be kept, and is the last to need z."""
        conv, z = self.plan.conv(application), self.walk.z[application]
        eps = self.plan.eps[conv]
        if eps is None:
            grad = torch.ops.aten.threshold_backward(grad, z, 0)
        else:
            gamma, beta = self.walk.parameters[conv][2:]
            statistics = self.walk.statistics[application]
            if kernels := self.walk.kernels(z):
                known = (z, statistics, gamma, beta, eps, kernels)
                grad, *grads = batch_norm.gradient(grad, *known, overwrite=not keep)
            else:
                activated = self.walk.activate(application, z)
                grad = torch.ops.aten.threshold_backward(grad, activated, 0, grad_input=activated)
                grad, *grads = batch_norm_gradient(grad, z, gamma, *statistics, eps)
            self._add(conv, 2, *grads)
        self.walk.forget(application)
        return grad

    def _convolution(self, grad: Tensor, features: Tensor, conv: int, need_features: bool = True) -> Tensor | None:
        """Through a convolution. BatchNorm takes away what a bias before it adds: its gradient is zero."""
        weight, bias, gamma, _ = self.walk.parameters[conv]
        bias_grad = channel_sums(grad) if gamma is None else torch.zeros_like(bias)
        grad, weight_grad, _ = torch.ops.aten.convolution_backward(
            *(grad, features, weight, None, [1, 1], [1, 1], [1, 1]),
            *(False, [0, 0], 1, [need_features, True, False]),
        )
        self._add(conv, 0, weight_grad, bias_grad)
        return grad

    def _add(self, conv: int, first: int, *grads: Tensor) -> None:
        """Sums over the applications of a shared convolution, never in half precision."""
        for place, grad in enumerate(grads, first):
            grad = grad.to(torch.promote_types(grad.dtype, torch.float32))
            before = self.grads[conv][place]
            self.grads[conv][place] = grad if before is None else before + grad
