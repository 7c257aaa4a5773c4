"""Convolution, BatchNorm, ReLU and residuals of a whole network as one differentiable function that keeps little.

A network is a head, a block applied `layers` times to a trunk, and a last convolution:

    h_0 = relu([bn](conv(x))),   h_k = h_{k-1} + block(h_{k-1}),   block = relu(bn(conv(.))) ...
    out = conv(h_layers), or x - sigmoid(conv(h_layers))

PyTorch keeps three tensors per convolution for backward: its output, what BatchNorm and ReLU make of that, and the sum.
Here only the output, z, is kept; the rest follows from it by one scale, shift and clamp, and is computed again in
backward. Backward frees the memory of each z as soon as it no longer needs it, where autograd would free all at the
end; a second backward through the same graph computes them again. With `checkpoint`, not even z is kept:

    off      keeps every z but, on a GPU, the head's: 16 channels, 6 convolutions, 384 bytes per pixel in float32
    stage    keeps x; backward begins by computing every z again
    block    keeps x; backward computes the trunk up to each block again, and keeps the z of that block alone

What is computed again comes from the same calls on the same numbers, including the means and variances of the batch: it
has the same bits, and the running averages are updated once. On a CPU features are channels_last, the format that its
convolutions prefer.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sci_kernels import batch_norm, convolution

from .batch_statistics import planning
from .fused_backward import Backward
from .fused_forward import Config, NormConfig, Pass, in_dtype

CHECKPOINTS = ("off", "stage", "block")
# "auto" is the faster one wherever that has been measured: so far the library's everywhere.
CONVOLUTIONS = ("auto", "library", "triton")


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
    x: Tensor,
    head: nn.Sequential,
    block: nn.Sequential,
    layers: int,
    last: nn.Conv2d,
    checkpoint: str = "off",
    subtract: bool = False,
    impl: str = "auto",
    convolutions: str = "auto",
) -> Tensor:
    """`last(h_layers)` in train mode; updates the running averages of BatchNorm as the modules would.

    Args:
        x: `(N, C, H, W)`, any floating dtype; under autocast the convolutions run in its dtype.
        head: convolution, BatchNorm or none, ReLU.
        block: once or more convolution, BatchNorm, ReLU.
        layers: how many times the block is applied.
        last: the convolution at the end.
        checkpoint: "off", "stage" or "block": what is kept for backward, see above.
        subtract: return x minus the sigmoid of that; needs C' = C.
        impl: of the operators: with "blocked", BatchNorm is PyTorch's, otherwise that of `sci_kernels.batch_norm` where
            it supports the features.
        convolutions: "library": PyTorch's; "triton": `sci_kernels.convolution`, on NVIDIA GPUs from sm_80 on, for
            features that are not float64; "auto": see `CONVOLUTIONS`.

    Returns:
        `(N, C', H, W)`; differentiable once in x and in every parameter. On a CPU it is channels_last, but with
        `subtract` in the memory format of x.
    """
    groups = _groups(head) + _groups(block)
    norms = tuple(None if norm is None else _norm_config(norm) for _, norm in groups)
    pixels = x.numel() // x.shape[1]
    if pixels < 2 and any(norm is not None for norm in norms):
        raise ValueError(f"x: expected two pixels or more, of which BatchNorm takes a variance; got {tuple(x.shape)}")
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    if convolutions == "triton":
        _check_triton(x, dtype, [conv.weight for conv, _ in (*groups, (last, None))])
    else:
        convolutions = "library"
    config = Config(layers, len(groups) - 1, norms, checkpoint, subtract, dtype, impl, convolutions)
    parameters: list[Tensor | None] = []
    for conv, norm in (*groups, (last, None)):
        parameters += [conv.weight, conv.bias, *((None, None) if norm is None else (norm.weight, norm.bias))]
    return _Network.apply(x, config, *parameters)


def _check_triton(x: Tensor, dtype: torch.dtype, weights: list[Tensor]) -> None:
    """Raise RuntimeError where the Triton kernels do not support one of the convolutions."""
    for weight in weights:
        features = x.new_empty((1, weight.shape[1], 1, 1), dtype=dtype)
        if not (planning() or convolution.takes(features, weight.to(dtype).contiguous())):
            raise RuntimeError(
                "convolutions: 'triton' needs an NVIDIA GPU from sm_80 on, float32 or half precision and at most "
                f"{convolution.MOST_CHANNELS} channels; got {dtype} on {x.device}, weights {tuple(weight.shape)}; "
                "use 'library'"
            )


def _norm_config(norm: nn.BatchNorm2d) -> NormConfig:
    """With the running averages; those of a shared BatchNorm move once per application, in order."""
    mean, variance, batches, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    if mean is None or variance is None or batches is None or momentum is None:
        raise ValueError(f"head, block: expected BatchNorm with running averages and a momentum; got {norm}")
    return NormConfig(norm.eps, batch_norm.Running(mean, variance, batches, momentum))


def _groups(part: nn.Sequential) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Each convolution with the BatchNorm that follows it, if one does."""
    groups: list[tuple[nn.Conv2d, nn.BatchNorm2d | None]] = []
    for module in part:
        if isinstance(module, nn.Conv2d):
            groups.append((module, None))
        elif isinstance(module, nn.BatchNorm2d):
            groups[-1] = (groups[-1][0], module)
    return groups


class _Network(torch.autograd.Function):
    """The network as a function of x and its parameters; see the module."""

    @staticmethod
    def forward(ctx, x: Tensor, config: Config, *parameters: Tensor | None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            walk = Pass(x, config, parameters)
            features = walk.trunk(config.layers, keep=config.checkpoint == "off")
            weight, bias, _ = walk.parameters[-1]
            out, sigmoid = walk.convolved(features, weight, bias), None
            if config.subtract:
                sigmoid = out.sigmoid_()
                out = x - sigmoid
        ctx.config, ctx.dtype, ctx.normed, ctx.kept = config, x.dtype, tuple(walk.tables), tuple(walk.z)
        ctx.save_for_backward(walk.x, sigmoid, *parameters, *walk.tables.values(), *walk.z.values())
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor | None):
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        config, count = ctx.config, len(ctx.needs_input_grad) - 2
        x, sigmoid, *rest = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            parameters, tables, z = rest[:count], rest[count : count + len(ctx.normed)], rest[count + len(ctx.normed) :]
            walk = Pass(x, config, parameters)
            walk.tables = dict(zip(ctx.normed, tables, strict=True))
            walk.z = {a: z for a, z in zip(ctx.kept, z, strict=True) if z.untyped_storage().nbytes()}
            del rest, z
            if config.checkpoint == "stage" or len(walk.z) < len(ctx.kept):
                walk.trunk(config.layers, keep=True)
            grad_x, grads = Backward(walk, ctx.needs_input_grad[0]).run(_output_gradient(grad, sigmoid, walk))
        if grad_x is not None:
            grad_x = grad_x.to(ctx.dtype).contiguous()
            grad_x = grad_x.add_(grad) if config.subtract else grad_x
        return grad_x, None, *_wanted(grads, parameters, ctx.needs_input_grad[2:])


def _wanted(
    grads: Sequence[Tensor | None], parameters: Sequence[Tensor | None], needed: Sequence[bool]
) -> Iterator[Tensor | None]:
    """The gradients that autograd needs, each in the dtype of its parameter, and None for the others."""
    for grad, parameter, need in zip(grads, parameters, needed, strict=True):
        yield None if not need or grad is None or parameter is None else in_dtype(parameter.dtype, grad)


def _output_gradient(grad: Tensor, sigmoid: Tensor | None, walk: Pass) -> Tensor:
    """The gradient of the last convolution's output, from that of the function's result."""
    grad = grad.to(walk.config.dtype)
    if sigmoid is not None:
        grad = torch.ops.aten.sigmoid_backward(grad, sigmoid).neg_()
    return walk.laid_out(grad)
