"""The denoising filter by `denoise.c`."""

import math

import torch
from torch import Tensor

from ..constants import REACH
from ..reference import compute_dtype, falloff
from .build import library
from .c_structs import addresses, problem_type
from .threads import in_bands

_STRIDES = ("image", "channel", "row", "column")
_POINTERS = ("image", "gain", "result")
_INTEGERS = ("height", "width", *(f"{what}_{name}" for what in ("from", "gain", "to") for name in _STRIDES))
_REALS = (("factor", 0), ("spread", 0))
_LOG2E = math.log2(math.e)


def denoise(image: Tensor, gain: Tensor, strength: float) -> Tensor:
    """The filtered image, in the image's dtype and memory format."""
    x = image.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    dtype = compute_dtype(x)
    gains = gain.detach().to(dtype)
    result = torch.empty_like(x)
    _, _, h, w = x.shape
    double, of_bytes = dtype == torch.float64, x.dtype == torch.uint8
    problem = problem_type(double, _POINTERS, _INTEGERS, _REALS)(
        *addresses((x, gains, result)),
        h,
        w,
        *x.stride(),
        *gains.stride(),
        *result.stride(),
        _LOG2E * falloff(strength) / (255 * 255 if of_bytes else 1),
        -0.5 * _LOG2E / (REACH * REACH),
    )
    problem.tensors = (x, gains, result)
    code = library("denoise.c", DOUBLE=int(double), BYTES=int(of_bytes))
    in_bands(code.denoise, problem, x.shape[0] * h, w)
    return result.to(image.dtype)
