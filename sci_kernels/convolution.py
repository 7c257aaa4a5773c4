"""3 x 3 convolutions of up to 16 channels on NVIDIA's tensor cores, for networks that run their backward themselves.

    out[o, p]            = bias[o] + sum over c and taps of weight[o, c, tap] x[c, p + tap]
    grad_x[c, p]         = sum over o and taps of weight[o, c, tap] grad[o, p - tap]
    grad_weight[o, c, t] = sum over pixels p of grad[o, p] x[c, p + t]

These operators have no autograd: the caller keeps x, and calls the gradients itself. All tensors are contiguous, in
float32, float16 or bfloat16. A product of float32 numbers is made of three TF32 products, which keeps the digits of
float32; where PyTorch's own convolutions may use TF32, it is a single one, as theirs. Sums are in float32, always in
the same order. In float32, features that are infinite or above 3.4e38 give NaN. `takes` says whether the kernels can
run.
"""

import operator

import torch
from torch import Tensor

from .arguments import check_device, check_tensor, default_impl
from .ops import triton_launchers

MOST_CHANNELS = 16
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can convolve x, (N, C, H, W), with weight, (O, C, 3, 3): on NVIDIA GPUs from sm_80 on."""
    if x.device.type != "cuda" or default_impl(x.device) != "triton" or torch.version.hip or x.numel() == 0:
        return False
    fits = x.dtype in _DTYPES and weight.dtype == x.dtype and x.dim() == 4 and weight.shape[1:] == (x.shape[1], 3, 3)
    fits = fits and max(weight.shape[:2]) <= MOST_CHANNELS and x.is_contiguous() and weight.is_contiguous()
    return fits and torch.cuda.get_device_capability(x.device) >= (8, 0)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution, `(N, O, H, W)` in the dtype of x.

    Raises:
        TypeError, ValueError: a tensor's dtype, shape, device or strides do not fit.
        RuntimeError: there is no Triton, or no NVIDIA GPU from sm_80 on.
    """
    _check("x", x, x.shape[1:2], weight)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: expected shape ({weight.shape[0]},); got {tuple(bias.shape)}")
    return _forward(x, weight, bias, float32_precision())


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """grad_x, `(N, C, H, W)` in the dtype of grad. Raises as `forward`."""
    _check("grad", grad, grad.shape[1:2], weight, of_output=True)
    return _input_gradient(grad, weight, float32_precision())


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """grad_weight, `(O, C, 3, 3)` in float32. Raises as `forward`."""
    for name, tensor in (("grad", grad), ("x", x)):
        _check_features(name, tensor)
    check_device("x", x, "grad", grad)
    if grad.dtype != x.dtype or grad.shape[:1] + grad.shape[2:] != x.shape[:1] + x.shape[2:]:
        raise ValueError(
            f"x: expected the images of grad, {grad.dtype} {tuple(grad.shape)}; got {x.dtype} {tuple(x.shape)}"
        )
    return _weight_gradient(grad, x, float32_precision())


def float32_precision() -> str:
    """How float32 numbers are multiplied: "tf32" where PyTorch's own convolutions may use TF32, else "tf32x3"."""
    try:
        allowed = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # cuDNN's operators have different settings, which PyTorch allows from 2.9 on
        # By name, since PyTorch's types lack it.
        allowed = operator.attrgetter("conv.fp32_precision")(torch.backends.cudnn) == "tf32"
    return "tf32" if allowed else "tf32x3"


def _check(name: str, features: Tensor, channels: torch.Size, weight: Tensor, of_output: bool = False) -> None:
    _check_features(name, features)
    check_device("weight", weight, name, features)
    fits = weight.dim() == 4 and weight.shape[2:] == (3, 3) and max(weight.shape[:2]) <= MOST_CHANNELS
    if not fits or weight.shape[0 if of_output else 1] != channels[0] or weight.dtype != features.dtype:
        raise ValueError(
            f"weight: expected {features.dtype} (O, C, 3, 3), at most {MOST_CHANNELS} channels, "
            f"{'O' if of_output else 'C'} = {channels[0]}; got {weight.dtype} {tuple(weight.shape)}"
        )
    if not weight.is_contiguous():
        raise ValueError("weight: expected a contiguous tensor; call .contiguous()")


def _check_features(name: str, tensor: Tensor) -> None:
    check_tensor(name, tensor, _DTYPES)
    if tensor.dim() != 4 or not 1 <= tensor.shape[1] <= MOST_CHANNELS or tensor.numel() == 0:
        raise ValueError(f"{name}: expected (N, 1 to {MOST_CHANNELS}, H, W), not empty; got {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor (not channels_last); call .contiguous()")


@torch.library.custom_op("sci::convolution", mutates_args=())
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, precision: str) -> Tensor:
    return triton_launchers(x.device).launch_convolution(x, weight, bias, precision)


@_forward.register_fake
def _(x, weight, bias, precision):
    return x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])


@torch.library.custom_op("sci::convolution_input_gradient", mutates_args=())
def _input_gradient(grad: Tensor, weight: Tensor, precision: str) -> Tensor:
    return triton_launchers(grad.device).launch_convolution_input_gradient(grad, weight, precision)


@_input_gradient.register_fake
def _(grad, weight, precision):
    return grad.new_empty(grad.shape[0], weight.shape[1], *grad.shape[2:])


@torch.library.custom_op("sci::convolution_weight_gradient", mutates_args=())
def _weight_gradient(grad: Tensor, x: Tensor, precision: str) -> Tensor:
    return triton_launchers(x.device).launch_convolution_weight_gradient(grad, x, precision)


@_weight_gradient.register_fake
def _(grad, x, precision):
    return x.new_empty(grad.shape[1], x.shape[1], 3, 3, dtype=torch.float32)
