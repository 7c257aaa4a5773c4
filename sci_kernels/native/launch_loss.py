"""The loss and its gradients by `smooth_loss.c`."""

import math

import torch
from torch import Tensor

from .. import blocked
from ..constants import CENTERED_COLOR_BIAS, COLOR_MATRIX, COLORS, RADIUS
from ..reference import compute_dtype
from .build import library
from .problem import addresses, problem_type
from .threads import in_bands

_STEPS = range(-RADIUS, RADIUS + 1)
_POINTERS = ("input", "light", "grad_input", "grad_light", "partial")
_INTEGERS = ("height", "width", "color")
_ARRAYS = (("matrix", 9), ("bias", 3), ("ratio", 25))
_REALS = (*_ARRAYS, *((name, 0) for name in ("exponent", "smooth", "smooth_y", "fidelity")))


def loss(
    input: Tensor,
    illumination: Tensor,
    sigma: float,
    color: str,
    fidelity_weight: float,
    smooth_weight: float,
    input_grad: bool,
    illumination_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `blocked.loss`, which takes over where the loss is not finite: this code keeps no NaN in its place."""
    dtype = compute_dtype(input, illumination)
    x, light = (tensor.detach().to(dtype).contiguous() for tensor in (input, illumination))
    n, channels, h, w = x.shape
    double = dtype == torch.float64
    code = library("smooth_loss.c", DOUBLE=int(double), CHANNELS=channels, LIGHTS=light.shape[1])
    partial = x.new_empty(n * h, dtype=torch.float64)
    grad_x = torch.empty_like(x) if input_grad else None
    grad_l = torch.empty_like(light) if illumination_grad else None
    tensors = (x, light, grad_x, grad_l, partial)
    factor = smooth_weight / (n * h * w)
    problem = problem_type(double, _POINTERS, _INTEGERS, _REALS)(
        *addresses(tensors),
        h,
        w,
        COLORS.index(color),
        tuple(value for row in COLOR_MATRIX for value in row),
        CENTERED_COLOR_BIAS if color == "reference" else (0.0, 0.0, 0.0),  # cancels in ycbcr, which is sharper without
        _ratios(h, w),
        -0.5 * math.log2(math.e) / (sigma * sigma),
        factor,
        2.0 * factor / (sigma * sigma),
        fidelity_weight / x.numel(),
    )
    problem.tensors = tensors
    in_bands(code.smooth_loss, problem, n * h, w)
    if grad_x is not None and color == "reference":
        in_bands(code.gradient_of_triples, problem, x.numel() // 3, 3)
    # NumPy's sum, since PyTorch's depends on the number of threads.
    value = torch.tensor(partial.numpy().sum(), dtype=dtype)
    if not math.isfinite(value):
        return blocked.loss(
            input, illumination, sigma, color, fidelity_weight, smooth_weight, input_grad, illumination_grad
        )
    return value, grad_x, grad_l


def _ratios(h: int, w: int) -> tuple[float, ...]:
    """log2 of H W / ((H - |dy|) (W - |dx|)): each offset's mean is over fewer pixels than the image has."""
    return tuple(math.log2(h * w / ((h - abs(dy)) * (w - abs(dx)))) for dy in _STEPS for dx in _STEPS)
