"""The way through a network of `fused`, and the way back; see there for what is kept."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sci_kernels import batch_norm, convolution

from .batch_statistics import batch_norm_gradient, batch_statistics, channel_sums, on_cpu, planning


class Plan(NamedTuple):
    """What is not a tensor with a gradient."""

    layers: int
    convs: int  # of a block
    eps: tuple[float | None, ...]  # of the BatchNorm after each convolution of head and block; None: there is none
    running: tuple[batch_norm.Running | None, ...]  # likewise
    checkpoint: str
    subtract: bool  # whether x less the sigmoid is given
    dtype: torch.dtype  # of the convolutions
    impl: str  # of the operators; "blocked": plain PyTorch for BatchNorm as well
    convolutions: str  # "library": PyTorch's; "triton": those of `sci_kernels.convolution`

    def conv(self, application: int) -> int:
        """Which convolution is applied: the head's is 0, those of the block follow."""
        return 0 if application == 0 else 1 + (application - 1) % self.convs


class _Parameters(NamedTuple):
    """Of one convolution and its BatchNorm; the convolution's as it computes with them."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor | None
    beta: Tensor | None


def in_dtype(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """The tensor in the dtype; `to` costs time where it has nothing to do, and this is asked often."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


class Pass:
    """One walk through the network: x and parameters as the arithmetic sees them, and what is known so far.

    An application is one use of a convolution, counted from the head; `z` and `tables` are by application. What
    BatchNorm would take away again is not added: z lacks the bias of its convolution where BatchNorm follows. A table
    is that of `batch_norm`, or mean and variance where PyTorch's own operators are used.
    """

    def __init__(self, x: Tensor, plan: Plan, parameters: Sequence[Tensor | None]):
        self.plan = plan
        self.layout = torch.channels_last if on_cpu(x) else torch.contiguous_format
        self.x = self.laid_out(x)
        self.parameters = [
            _Parameters(in_dtype(plan.dtype, weight), in_dtype(plan.dtype, bias), gamma, beta)
            for weight, bias, gamma, beta in zip(*[iter(parameters)] * 4, strict=True)
        ]
        self.z: dict[int, Tensor] = {}
        self.tables: dict[int, Tensor] = {}
        self._kernels: dict[int, str | None] = {}

    def kernels(self, z: Tensor) -> str | None:
        """Of `batch_norm`, for features of so many channels; None: PyTorch's own."""
        channels = z.shape[1]
        if channels not in self._kernels:
            takes = "triton" if planning() else batch_norm.kernels_for(z)
            self._kernels[channels] = None if self.plan.impl == "blocked" else takes
        return self._kernels[channels]

    def laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.plan.dtype).contiguous(memory_format=self.layout)

    def convolve(self, application: int, features: Tensor) -> Tensor:
        """z of an application: kept, or made from its input."""
        if application in self.z:
            return self.z[application]
        weight, bias, gamma, _ = self.parameters[self.plan.conv(application)]
        return self.convolved(features, weight, bias if gamma is None else None)

    def convolved(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.plan.convolutions == "triton":
            return convolution.forward(features, weight.contiguous(), bias)
        return torch.conv2d(features, weight, bias, padding=1)

    def convolution_gradients(
        self, grad: Tensor, features: Tensor, weight: Tensor, need_features: bool
    ) -> tuple[Tensor | None, Tensor]:
        """Of the features, if needed, and of the weight."""
        if self.plan.convolutions == "triton":
            of_weight = convolution.weight_gradient(grad, features)
            return convolution.input_gradient(grad, weight.contiguous()) if need_features else None, of_weight
        of_features, of_weight, _ = torch.ops.aten.convolution_backward(
            *(grad, features, weight, None, [1, 1], [1, 1], [1, 1]),
            *(False, [0, 0], 1, [need_features, True, False]),
        )
        return of_features, of_weight

    def forget(self, application: int) -> None:
        """Give back the memory of a z that nobody else has, whoever still holds the tensor."""
        if application in self.z:
            self.z.pop(application).untyped_storage().resize_(0)

    def table(self, application: int, z: Tensor) -> Tensor | None:
        """What is known of the channels of z; None: there is no BatchNorm."""
        conv = self.plan.conv(application)
        eps, running = self.plan.eps[conv], self.plan.running[conv]
        if eps is not None and application not in self.tables:
            _, bias, gamma, beta = self.parameters[conv]
            if kernels := self.kernels(z):
                made = batch_norm.statistics(z, gamma, beta, eps, kernels, running, bias)
            else:
                made = batch_statistics(z, running, bias)
            self.tables[application] = made
        return self.tables.get(application)

    def activate(self, sources: dict[int, Tensor], residual: Tensor | None = None) -> Tensor:
        """relu([bn](z)) of each application, added in order, the residual after the first; a new tensor."""
        known = [self.table(application, z) for application, z in sources.items()]
        if kernels := self.kernels(next(iter(sources.values()))):
            return batch_norm.forward(list(sources.values()), known, kernels, residual)
        for (application, z), table in zip(sources.items(), known, strict=True):
            if table is None:
                out = z.relu()
            else:
                conv = self.plan.conv(application)
                gamma, beta = (in_dtype(table.dtype, parameter) for parameter in self.parameters[conv][2:])
                out = torch.native_batch_norm(z, gamma, beta, *table.unbind(), False, 0.0, self.plan.eps[conv])[0]
                out = out.relu_()
            residual = out if residual is None else out.add_(residual)
        return residual

    def block(self, block: int, features: Tensor, keep: bool = False) -> Tensor:
        """features + block(features)."""
        first, trunk = 1 + block * self.plan.convs, features
        last = first + self.plan.convs - 1
        for application in range(first, last + 1):
            z = self.convolve(application, features)
            if keep:
                self.z[application] = z
            features = self.activate({application: z}, trunk if application == last else None)
        return features

    def trunk(self, blocks: int, keep: bool = False) -> Tensor:
        """h after so many blocks, a new tensor: the sum of what each has added, where their z are kept."""
        z = self.convolve(0, self.x)
        if keep and on_cpu(self.x):  # made of 3 channels, it is cheaper to make again than to keep
            self.z[0] = z
        added = range(self.plan.convs, (blocks + 1) * self.plan.convs, self.plan.convs)
        if all(application in self.z for application in added):
            return self.activate({0: z} | {application: self.z[application] for application in added})
        features = self.activate({0: z})
        del z
        for block in range(blocks):
            features = self.block(block, features, keep)
        return features


class Backward:
    """The gradient, from the end to the beginning."""

    def __init__(self, walk: Pass, need_x: bool):
        self.walk, self.plan, self.need_x = walk, walk.plan, need_x
        self.weights: list[Tensor | None] = [None for _ in walk.parameters]
        # Of gamma, beta and bias, which is zero where BatchNorm takes it away; else that of the bias alone.
        self.channels: list[Tensor | None] = [None for _ in walk.parameters]

    def run(self, grad: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of x and of the parameters, from that of the output."""
        walk, plan = self.walk, self.plan
        if walk.parameters[0].weight.shape[0] <= walk.x.shape[1]:  # no larger than x: there is room for it at once
            walk.z[0] = walk.convolve(0, walk.x)
        grad = self._convolution(grad, walk.trunk(plan.layers), len(walk.parameters) - 1)
        skipped = None
        for block in reversed(range(plan.layers)):
            grad, skipped = self._block(block, grad, skipped)
        walk.z[0] = walk.convolve(0, walk.x)
        grad = self._activation(grad, 0, skipped)
        del skipped
        grad = self._convolution(grad, walk.x, 0, self.need_x)
        return grad, [grad for conv in range(len(walk.parameters)) for grad in self._of_parameters(conv)]

    def _of_parameters(self, conv: int) -> tuple[Tensor | None, ...]:
        """Gradients of weight, bias, gamma and beta."""
        if self.walk.parameters[conv].gamma is None:
            return self.weights[conv], self.channels[conv], None, None
        gamma, beta, bias = self.channels[conv].unbind()  # rows of one storage
        return self.weights[conv], bias, gamma, beta

    def _block(self, block: int, grad: Tensor, skipped: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Gradient of a block's input, from that of the trunk after it: both in two parts, the second may be missing.

        At most six features are alive at once.
        """
        walk, first = self.walk, 1 + block * self.plan.convs
        last = first + self.plan.convs - 1
        features = None
        if first not in walk.z:
            features = walk.trunk(block)
            self._convolved(first, last, features)
        # What the block gives is needed once more: its gradient, put together in `grad`, must not be overwritten.
        branch = self._activation(grad, last, skipped, keep=True)
        del skipped
        for application in range(last, first, -1):
            activated = walk.activate({application - 1: walk.z[application - 1]})
            branch = self._convolution(branch, activated, self.plan.conv(application))
            del activated
            branch = self._activation(branch, application - 1)
        if features is not None:  # memory is short: one feature instead of two while the next block is made again
            return self._convolution(branch, features, self.plan.conv(first)).add_(grad), None
        walk.z[0] = walk.convolve(0, walk.x)  # from now on there is room for it
        return self._convolution(branch, walk.trunk(block), self.plan.conv(first)), grad

    def _convolved(self, first: int, last: int, features: Tensor) -> None:
        """z of each application of a block, made again."""
        walk = self.walk
        for application in range(first, last + 1):
            walk.z[application] = walk.convolve(application, features)
            features = walk.activate({application: walk.z[application]}) if application < last else None

    def _activation(self, grad: Tensor, application: int, other: Tensor | None = None, keep: bool = False) -> Tensor:
        """Through relu and BatchNorm; the last to need z.

        Adds `other` to `grad`, in place, and may overwrite that if it is not to be kept.
        """
        conv, z = self.plan.conv(application), self.walk.z[application]
        table = self.walk.table(application, z)
        kernels = self.walk.kernels(z)
        if other is not None and (table is None or not kernels):
            grad.add_(other)
        if table is None:
            grad = torch.ops.aten.threshold_backward(grad, z, 0)
        else:
            if self.channels[conv] is None:
                self.channels[conv] = table.new_zeros(3, table.shape[1])
            if kernels:
                known = (z, table, self.channels[conv], kernels)
                grad = batch_norm.gradient(grad, *known, other=other, overwrite=not keep)
            else:
                grad = self._normalization(grad, application, z, table)
        self.walk.forget(application)
        return grad

    def _normalization(self, grad: Tensor, application: int, z: Tensor, table: Tensor) -> Tensor:
        """The same by PyTorch's own operators."""
        conv, walk = self.plan.conv(application), self.walk
        activated = walk.activate({application: z})
        grad = torch.ops.aten.threshold_backward(grad, activated, 0, grad_input=activated)
        gamma = in_dtype(table.dtype, walk.parameters[conv].gamma)
        grad, *grads = batch_norm_gradient(grad, z, gamma, *table.unbind(), self.plan.eps[conv])
        self.channels[conv][:2] += torch.stack(grads)
        return grad

    def _convolution(self, grad: Tensor, features: Tensor, conv: int, need_features: bool = True) -> Tensor | None:
        """Through a convolution, summed over the applications of a shared one, never in half precision."""
        weight, _, gamma, _ = self.walk.parameters[conv]
        if gamma is None:
            kernels = self.walk.kernels(grad)
            self.channels[conv] = batch_norm.channel_sums(grad, kernels) if kernels else channel_sums(grad)
        grad, weight_grad = self.walk.convolution_gradients(grad, features, weight, need_features)
        if weight_grad.element_size() < 4:
            weight_grad = weight_grad.float()
        before = self.weights[conv]
        self.weights[conv] = weight_grad if before is None else before.add_(weight_grad)
        return grad
