"""The 3x3 convolution of the networks.

When training is compiled, it is one operator that the compiler does not look into: at least on a CPU, Inductor fixes
the image size when it differentiates a convolution, and would compile the step again for every new size.
"""

import torch
from torch import Tensor, nn


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d(inputs, outputs, 3, padding=1)`."""

    bias: Tensor  # there always is one

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H, W)`."""
        if not (self.training and torch.compiler.is_compiling()):
            return super().forward(x)
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        return _convolve(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))


def conv_of(part: nn.Sequential) -> Conv3x3:
    """The convolution that a part of a network begins with."""
    conv = part[0]
    if not isinstance(conv, Conv3x3):
        raise TypeError(f"network: expected a part that begins with Conv3x3; got {type(conv).__name__}")
    return conv


@torch.library.custom_op("sci_model::conv3x3", mutates_args=())
def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.conv2d(x, weight, bias, padding=1).contiguous()


@_convolve.register_fake
def _(x, weight, bias):
    n, _, h, w = x.shape
    return x.new_empty(n, weight.shape[0], h, w)


@torch.library.custom_op("sci_model::conv3x3_bwd", mutates_args=())
def _convolve_backward(grad: Tensor, x: Tensor, weight: Tensor, x_grad: bool) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        *(grad.contiguous(), x, weight, [weight.shape[0]], [1, 1], [1, 1], [1, 1]),
        *(False, [0, 0], 1, [x_grad, True, True]),
    )
    return (grad_x.contiguous() if x_grad else x.new_empty(0)), grad_weight.contiguous(), grad_bias


@_convolve_backward.register_fake
def _(grad, x, weight, x_grad):
    grad_x = x.new_empty(x.shape if x_grad else 0)
    return grad_x, weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


def _setup(ctx, inputs, output) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx, grad):
    x_grad = ctx.needs_input_grad[0]
    grad_x, *grads = _convolve_backward(grad, *ctx.saved_tensors, x_grad)
    return (grad_x if x_grad else None), *grads


torch.library.register_autograd("sci_model::conv3x3", _backward, setup_context=_setup)
