"""The walk back through a network of `fused_training`: its gradient."""

from typing import overload

import torch
from torch import Tensor

from sci_kernels import batch_norm

from .batch_statistics import batch_norm_gradient, channel_sums
from .fused_forward import Pass, in_dtype


class Backward:
    """The gradient, from the last convolution to x; computes again what the walk did not keep."""

    def __init__(self, walk: Pass, need_x: bool):
        self.walk, self.config, self.need_x = walk, walk.config, need_x
        # The gradients of each convolution: of the weight, and by channel those of gamma, beta and bias, in this order
        # (that of the bias is zero, as BatchNorm subtracts it again), or without BatchNorm that of the bias alone.
        self.weights: dict[int, Tensor] = {}
        self.channels: dict[int, Tensor] = {}

    def run(self, grad: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of x and of the parameters, from that of the output."""
        walk, layers = self.walk, self.config.layers
        if walk.parameters[0].weight.shape[0] <= walk.x.shape[1]:  # no larger than x: there is room for it
            walk.z[0] = walk.convolve(0, walk.x)
        grad = self._convolution(grad, walk.trunk(layers), len(walk.parameters) - 1)
        skipped = None
        for block in reversed(range(layers)):
            grad, skipped = self._block(block, grad, skipped)
        walk.z[0] = walk.convolve(0, walk.x)
        grad = self._activation(grad, 0, skipped)
        del skipped
        grad_x = self._convolution(grad, walk.x, 0, self.need_x)
        del grad
        return grad_x, [grad for conv in range(len(walk.parameters)) for grad in self._of_parameters(conv)]

    def _of_parameters(self, conv: int) -> tuple[Tensor | None, ...]:
        """Gradients of weight, bias, gamma and beta."""
        if self.walk.parameters[conv].norm is None:
            return self.weights[conv], self.channels[conv], None, None
        gamma, beta, bias = self.channels[conv].unbind()  # rows of one storage
        return self.weights[conv], bias, gamma, beta

    def _block(self, block: int, grad: Tensor, skipped: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The gradient of a block's input, from that of the trunk after it: each is two parts to be added, or one.

        At most six tensors of features are alive at once.
        """
        walk, first = self.walk, 1 + block * self.config.convs
        last = first + self.config.convs - 1
        features = None
        if first not in walk.z:
            features = walk.trunk(block)
            self._convolved(first, last, features)
        # `grad`, which now holds the sum of both parts, is needed again below and must not be overwritten.
        branch = self._activation(grad, last, skipped, keep=True)
        del skipped
        for application in range(last, first, -1):
            activated = walk.activate({application - 1: walk.z[application - 1]})
            branch = self._convolution(branch, activated, self.config.conv(application))
            del activated
            branch = self._activation(branch, application - 1)
        if features is not None:  # memory is short: add the two parts before the next block is computed again
            return self._convolution(branch, features, self.config.conv(first)).add_(grad), None
        walk.z[0] = walk.convolve(0, walk.x)  # from now on there is room for it
        return self._convolution(branch, walk.trunk(block), self.config.conv(first)), grad

    def _convolved(self, first: int, last: int, features: Tensor) -> None:
        """Compute z of each application of a block again."""
        walk = self.walk
        for application in range(first, last + 1):
            walk.z[application] = walk.convolve(application, features)
            if application < last:
                features = walk.activate({application: walk.z[application]})

    def _activation(self, grad: Tensor, application: int, other: Tensor | None = None, keep: bool = False) -> Tensor:
        """The gradient through relu and BatchNorm, the last step that needs z.

        Adds `other` to `grad` in place, and may overwrite `grad` unless it is to be kept.
        """
        conv, z = self.config.conv(application), self.walk.z[application]
        table = self.walk.table(application, z)
        kernels = self.walk.kernels(z)
        if other is not None and (table is None or not kernels):
            grad.add_(other)
        norm = self.walk.parameters[conv].norm
        if norm is None or table is None:
            grad = torch.ops.aten.threshold_backward(grad, z, 0)
        else:
            if conv not in self.channels:
                self.channels[conv] = table.new_zeros(3, table.shape[1])
            if kernels:
                known = (z, table, self.channels[conv], kernels)
                grad = batch_norm.gradient(grad, *known, other=other, overwrite=not keep)
            else:
                mean, variance = table.unbind()
                activated = self.walk.activate({application: z})
                grad = torch.ops.aten.threshold_backward(grad, activated, 0, grad_input=activated)
                gamma = in_dtype(table.dtype, norm.gamma)
                grad, *grads = batch_norm_gradient(grad, z, gamma, mean, variance, norm.eps)
                self.channels[conv][:2] += torch.stack(grads)
        self.walk.forget(application)
        return grad

    @overload
    def _convolution(self, grad: Tensor, features: Tensor, conv: int) -> Tensor: ...

    @overload
    def _convolution(self, grad: Tensor, features: Tensor, conv: int, need_features: bool) -> Tensor | None: ...

    def _convolution(self, grad: Tensor, features: Tensor, conv: int, need_features: bool = True) -> Tensor | None:
        """The gradient of a convolution's input, if needed.

        That of its weight is added up over the applications of a shared convolution, never in half precision.
        """
        weight, _, norm = self.walk.parameters[conv]
        if norm is None:
            kernels = self.walk.kernels(grad)
            self.channels[conv] = batch_norm.channel_sums(grad, kernels) if kernels else channel_sums(grad)
        of_features, of_weight = self.walk.convolution_gradients(grad, features, weight, need_features)
        if of_weight.element_size() < 4:
            of_weight = of_weight.float()
        before = self.weights.get(conv)
        self.weights[conv] = of_weight if before is None else before.add_(of_weight)
        return of_features
