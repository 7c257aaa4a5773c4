"""Convolution, BatchNorm, ReLU and residuals of a whole network as one differentiable function that keeps little.

A network is a head, a block applied `layers` times to a trunk, and a last convolution:

    h_0 = relu([bn](conv(x))),   h_k = h_{k-1} + block(h_{k-1}),   out = conv(h_layers),   block = relu(bn(conv(.))) ...

PyTorch keeps three tensors a convolution for the backward pass: what it made, what BatchNorm and ReLU made of that, and
the sum. Here what a convolution made, z, is kept once; the rest is one scale, shift and clamp away from it, and
is computed again when backward comes to it. With `checkpoint`, not even z is kept:

    off      every z but, on a GPU, the head's: 16 channels, 6 convolutions, 384 bytes a pixel in float32
    stage    x; backward begins by making every z again
    block    x; backward makes the trunk up to each block again, and keeps the z of that block alone

What is made again is made by the same calls from the same numbers, the means and variances of the batch among
them: the same bits, and statistics that are updated once. On a CPU features are channels_last, which its convolutions
want.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .statistics import batch_norm_gradient, batch_statistics, channel_sums, on_cpu

CHECKPOINTS = ("off", "stage", "block")


class _Plan(NamedTuple):
    """What is not a tensor."""

    layers: int
    convs: int  # of a block
    eps: tuple[float | None, ...]  # of the BatchNorm after each convolution of head and block; None: there is none
    checkpoint: str
    dtype: torch.dtype  # of the convolutions

    def conv(self, application: int) -> int:
        """Which convolution is applied: the head's is 0, those of the block follow."""
        return 0 if application == 0 else 1 + (application - 1) % self.convs


def can_fuse(*parts: nn.Sequential) -> bool:
    """Whether these are what the function computes: train mode, and BatchNorm as it is by default."""
    norms = [module for part in parts for module in part if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return all(
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        for norm in norms
    )


def fused_network(
    x: Tensor, head: nn.Sequential, block: nn.Sequential, layers: int, last: nn.Conv2d, checkpoint: str = "off"
) -> Tensor:
    """`last(h_layers)` in train mode, with the BatchNorm statistics moved as the modules would move them.

    Args:
        x: `(N, C, H, W)`, any floating dtype; under autocast the convolutions run in its dtype.
        head: convolution, BatchNorm or none, ReLU.
        block: once or more convolution, BatchNorm, ReLU.
        layers: how often the block is applied.
        last: the convolution at the end.
        checkpoint: "off", "stage" or "block": what is kept for backward, see above.

    Returns:
        `(N, C', H, W)`, contiguous; differentiable once in x and in every parameter.
    """
    groups = _groups(head) + _groups(block)
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    plan = _Plan(layers, len(groups) - 1, tuple(norm and norm.eps for _, norm in groups), checkpoint, dtype)
    parameters = []
    for conv, norm in (*groups, (last, None)):
        parameters += [conv.weight, conv.bias, norm and norm.weight, norm and norm.bias]
    out, means, variances = _Network.apply(x, plan, *parameters)
    if any(norm is not None for _, norm in groups):
        norms = [groups[plan.conv(a)][1] for a in range(1 + layers * plan.convs)]
        _update_statistics([norm for norm in norms if norm is not None], means, variances, x.numel() // x.shape[1])
    return out


def _groups(part: nn.Sequential) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Each convolution with the BatchNorm that follows it, if one does."""
    groups = []
    for module in part:
        if isinstance(module, nn.Conv2d):
            groups.append((module, None))
        elif isinstance(module, nn.BatchNorm2d):
            groups[-1] = (groups[-1][0], module)
    return groups


def _update_statistics(norms: list[nn.BatchNorm2d], means: Tensor, variances: Tensor, count: int) -> None:
    """What BatchNorm does besides normalising; a shared one is moved once an application, in order."""
    unbiased = variances * (count / (count - 1))
    with torch.no_grad():
        for norm, mean, variance in zip(norms, means.unbind(), unbiased.unbind(), strict=True):
            norm.running_mean.mul_(1 - norm.momentum).add_(mean, alpha=norm.momentum)
            norm.running_var.mul_(1 - norm.momentum).add_(variance, alpha=norm.momentum)
            norm.num_batches_tracked.add_(1)


class _Parameters(NamedTuple):
    """Of one convolution and its BatchNorm; the convolution's as it computes with them."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor | None
    beta: Tensor | None


class _Pass:
    """One walk through the network: x and parameters as the arithmetic sees them, and what is known so far.

    An application is one use of a convolution, counted from the head; `z` and `statistics` are by application.
    """

    def __init__(self, x: Tensor, plan: _Plan, parameters: Sequence[Tensor | None]):
        self.plan = plan
        self.layout = torch.channels_last if on_cpu(x) else torch.contiguous_format
        self.x = self.laid_out(x)
        self.parameters = [
            _Parameters(self.laid_out(weight), bias.to(plan.dtype), gamma, beta)
            for weight, bias, gamma, beta in zip(*[iter(parameters)] * 4, strict=True)
        ]
        self.z: dict[int, Tensor] = {}
        self.statistics: dict[int, tuple[Tensor, Tensor]] = {}

    def laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.plan.dtype).contiguous(memory_format=self.layout)

    def convolve(self, application: int, features: Tensor) -> Tensor:
        """z of an application: kept, or made from its input."""
        if application in self.z:
            return self.z[application]
        weight, bias, *_ = self.parameters[self.plan.conv(application)]
        return torch.conv2d(features, weight, bias, padding=1)

    def activate(self, application: int, z: Tensor) -> Tensor:
        """relu([bn](z)), a new tensor."""
        conv = self.plan.conv(application)
        eps = self.plan.eps[conv]
        if eps is None:
            return z.relu()
        if application not in self.statistics:
            self.statistics[application] = batch_statistics(z)
        *_, gamma, beta = self.parameters[conv]
        mean, variance = self.statistics[application]
        return torch.native_batch_norm(z, gamma, beta, mean, variance, False, 0.0, eps)[0].relu_()

    def branch(self, block: int, features: Tensor, keep: bool = False) -> Tensor:
        """block(features); of a z that is kept, only the last is needed."""
        first = 1 + block * self.plan.convs
        last = first + self.plan.convs - 1
        for application in range(last if last in self.z else first, last + 1):
            z = self.convolve(application, features)
            if keep:
                self.z[application] = z
            features = self.activate(application, z)
        return features

    def trunk(self, blocks: int, keep: bool = False) -> Tensor:
        """h after so many blocks, a new tensor."""
        z = self.convolve(0, self.x)
        if keep and on_cpu(self.x):  # made of 3 channels, it is cheaper to make again than to keep
            self.z[0] = z
        features = self.activate(0, z)
        del z
        for block in range(blocks):
            features = self.branch(block, features, keep).add_(features)
        return features


class _Network(torch.autograd.Function):
    """The network as a function of x and its parameters; see the module."""

    @staticmethod
    def forward(ctx, x: Tensor, plan: _Plan, *parameters: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            walk = _Pass(x, plan, parameters)
            features = walk.trunk(plan.layers, keep=plan.checkpoint == "off")
            weight, bias, *_ = walk.parameters[-1]
            out = torch.conv2d(features, weight, bias, padding=1).contiguous()
        means, variances = (
            torch.stack(values) if values else x.new_empty(0)
            for values in ([pair[i] for pair in walk.statistics.values()] for i in (0, 1))
        )
        ctx.plan, ctx.normed, ctx.kept = plan, tuple(walk.statistics), tuple(walk.z)
        ctx.save_for_backward(x, means, variances, *parameters, *walk.z.values())
        ctx.mark_non_differentiable(means, variances)
        ctx.set_materialize_grads(False)
        return out, means, variances

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor | None, *_):
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        plan = ctx.plan
        x, means, variances, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 2
        with torch.autocast(x.device.type, enabled=False):
            parameters = rest[:count]
            walk = _Pass(x, plan, parameters)
            walk.statistics = dict(zip(ctx.normed, zip(means.unbind(), variances.unbind(), strict=True), strict=True))
            walk.z = dict(zip(ctx.kept, rest[count:], strict=True))
            del rest
            grad_x, grads = _Backward(walk, ctx.needs_input_grad[0]).run(walk.laid_out(grad))
        grads = (grad if grad is None else grad.to(like.dtype) for grad, like in zip(grads, parameters, strict=True))
        wanted = (g if needed else None for g, needed in zip(grads, ctx.needs_input_grad[2:], strict=True))
        return (None if grad_x is None else grad_x.to(x.dtype).contiguous()), None, *wanted


class _Backward:
    """The gradient, from the end to the beginning."""

    def __init__(self, walk: _Pass, need_x: bool):
        self.walk, self.plan, self.need_x = walk, walk.plan, need_x
        self.grads: list[list[Tensor | None]] = [[None] * 4 for _ in walk.parameters]
        # Where memory is not what is short, the trunk is made once instead of once a block.
        self.trunks = [] if on_cpu(walk.x) and self.plan.checkpoint != "block" else None

    def run(self, grad: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of x and of the parameters, from that of the output."""
        walk, plan = self.walk, self.plan
        if plan.checkpoint == "stage":
            walk.trunk(plan.layers, keep=True)
        if self.trunks is not None:
            self._keep_trunks()
        grad = self._convolution(grad, self._trunk(plan.layers), len(walk.parameters) - 1)
        for block in reversed(range(plan.layers)):
            grad = self._block(block, grad)
        z = walk.convolve(0, walk.x)
        grad = self._activation(grad, walk.activate(0, z), z, 0)
        grad = self._convolution(grad, walk.x, 0, self.need_x)
        return grad, [grad for group in self.grads for grad in group]

    def _keep_trunks(self) -> None:
        walk = self.walk
        self.trunks.append(walk.trunk(0))
        for block in range(self.plan.layers):
            self.trunks.append(walk.branch(block, self.trunks[-1]).add_(self.trunks[-1]))

    def _trunk(self, blocks: int) -> Tensor:
        return self.walk.trunk(blocks) if self.trunks is None else self.trunks.pop()

    def _block(self, block: int, grad: Tensor) -> Tensor:
        """Gradient of a block's input, from that of the trunk after it; at most six features are alive at once."""
        walk, first = self.walk, 1 + block * self.plan.convs
        last = first + self.plan.convs - 1
        features, made = None, []
        if first not in walk.z:
            features = self._trunk(block)
            made = self._convolved(first, last, features)
        else:
            made = [walk.z[application] for application in range(first, last + 1)]
        branch, activated = grad, walk.activate(last, made[-1])
        for application in range(last, first, -1):
            branch = self._activation(branch, activated, made.pop(), application)
            activated = walk.activate(application - 1, made[-1])
            branch = self._convolution(branch, activated, self.plan.conv(application))
        branch = self._activation(branch, activated, made.pop(), first)
        del activated
        features = self._trunk(block) if features is None else features
        return self._convolution(branch, features, self.plan.conv(first)).add_(grad)

    def _convolved(self, first: int, last: int, features: Tensor) -> list[Tensor]:
        """z of each application of a block, made again."""
        made = []
        for application in range(first, last + 1):
            made.append(self.walk.convolve(application, features))
            features = self.walk.activate(application, made[-1]) if application < last else None
        return made

    def _activation(self, grad: Tensor, activated: Tensor, z: Tensor, application: int) -> Tensor:
        """Through relu and BatchNorm. Overwrites `activated`."""
        conv = self.plan.conv(application)
        eps = self.plan.eps[conv]
        grad = torch.ops.aten.threshold_backward(grad, activated, 0, grad_input=activated)
        if eps is None:
            return grad
        statistics = self.walk.statistics[application]
        grad, *grads = batch_norm_gradient(grad, z, self.walk.parameters[conv].gamma, *statistics, eps)
        self._add(conv, 2, *grads)
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
