"""The loss and its gradients by `smooth_loss.c`."""

import ctypes
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import blocked
from ..constants import CENTERED_COLOR_BIAS, COLOR_MATRIX, COLORS, RADIUS
from ..reference import compute_dtype
from .build import library
from .c_structs import contiguous_in, problem_type
from .threads import in_bands

_SURELY_FINITE = 3e38  # also as a float32
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
    """As `blocked.loss`, which is called if the loss is not finite: in the C code NaN does not stay in its pixel."""
    dtype = compute_dtype(input, illumination)
    x, light = contiguous_in(dtype, input), contiguous_in(dtype, illumination)
    n, _, h, w = shape = x.shape
    smooth_loss, gradient_of_triples = _functions(dtype, shape[1], light.shape[1])
    partial = x.new_empty(n * h, dtype=torch.float64)
    grad_x = torch.empty_like(x) if input_grad else None
    grad_l = torch.empty_like(light) if illumination_grad else None
    # A copy, since other threads may use the same.
    prepared = _prepared(dtype, tuple(shape), sigma, color, fidelity_weight, smooth_weight)
    problem = type(prepared).from_buffer_copy(prepared)
    problem.input, problem.light, problem.partial = x.data_ptr(), light.data_ptr(), partial.data_ptr()
    problem.grad_input = None if grad_x is None else grad_x.data_ptr()
    problem.grad_light = None if grad_l is None else grad_l.data_ptr()
    problem.tensors = (x, light, grad_x, grad_l, partial)
    in_bands(smooth_loss, problem, n * h, w)
    if grad_x is not None and color == "reference":
        in_bands(gradient_of_triples, problem, x.numel() // 3, 3)
    # NumPy's sum, since PyTorch's depends on the number of threads.
    total = partial.numpy().sum().item()
    value = torch.scalar_tensor(total, dtype=dtype, device="cpu")
    if not abs(total) < _SURELY_FINITE and not math.isfinite(value):
        return blocked.loss(
            input, illumination, sigma, color, fidelity_weight, smooth_weight, input_grad, illumination_grad
        )
    return value, grad_x, grad_l


@functools.cache
def _functions(dtype: torch.dtype, channels: int, lights: int) -> tuple[Callable[..., int], Callable[..., int]]:
    """The C functions for these numbers of channels."""
    code = library("smooth_loss.c", DOUBLE=int(dtype == torch.float64), CHANNELS=channels, LIGHTS=lights)
    return code.smooth_loss, code.gradient_of_triples


@functools.lru_cache(1024)
def _prepared(
    dtype: torch.dtype, shape: tuple[int, ...], sigma: float, color: str, fidelity_weight: float, smooth_weight: float
) -> ctypes.Structure:
    """The problem without the addresses of its tensors; to be copied, not changed."""
    n, channels, h, w = shape
    factor = smooth_weight / (n * h * w)
    return problem_type(dtype == torch.float64, _POINTERS, _INTEGERS, _REALS)(
        *[None] * len(_POINTERS),
        h,
        w,
        COLORS.index(color),
        tuple(value for row in COLOR_MATRIX for value in row),
        CENTERED_COLOR_BIAS if color == "reference" else (0.0, 0.0, 0.0),  # cancels in ycbcr, more accurate without
        _ratios(h, w),
        -0.5 * math.log2(math.e) / (sigma * sigma),
        factor,
        2.0 * factor / (sigma * sigma),
        fidelity_weight / (n * channels * h * w),
    )


def _ratios(h: int, w: int) -> tuple[float, ...]:
    """log2 of H W / ((H - |dy|) (W - |dx|)) for all offsets: their means are over fewer pixels than the image has."""
    return tuple(math.log2(h * w / ((h - abs(dy)) * (w - abs(dx)))) for dy in _STEPS for dx in _STEPS)
