"""The enhance network and what brightens the image by it, by `enhance.c`."""

import torch
from torch import Tensor

from ..constants import FADE, ILLUMINATION_MAX, ILLUMINATION_MIN, LUMA
from ..enhance_weights import constants_of
from ..reference import compute_dtype
from .build import library
from .problem import addresses, problem_type
from .threads import in_bands

_STRIDES = ("image", "channel", "row", "column")
_POINTERS = ("image", "result", "illumination", "gain", "exposure")
_INTEGERS = ("height", "width", *(f"{way}_{name}" for way in ("from", "to") for name in _STRIDES))
_REALS = (("weights", 252), ("lowest", 0), ("highest", 0), ("luma", 3), ("share", 0), ("fade", 0))


def enhance(
    image: Tensor, weights: Tensor, illumination: bool, exposure: Tensor | None = None, gain: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Result, and illumination and gain if asked for; the first two in the image's dtype and memory format."""
    x = image.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    result = torch.empty_like(x)
    light = torch.empty_like(x) if illumination else None
    n, _, h, w = x.shape
    dtype = compute_dtype(x)
    double = dtype == torch.float64
    gains = x.new_empty((n, 1, h, w), dtype=dtype) if gain else None
    exposure = None if exposure is None else exposure.to(dtype).contiguous()
    numbers, black = constants_of(weights)
    problem = problem_type(double, _POINTERS, _INTEGERS, _REALS)(
        *addresses((x, result, light, gains, exposure)),
        h,
        w,
        *x.stride(),
        *result.stride(),
        numbers,
        ILLUMINATION_MIN,
        ILLUMINATION_MAX,
        LUMA,
        0.5 / black,
        FADE,
    )
    problem.tensors = (x, result, light, gains, exposure)
    code = library("enhance.c", DOUBLE=int(double), BYTES=int(x.dtype == torch.uint8))
    in_bands(code.enhance, problem, n * h, w)
    return result.to(image.dtype), None if light is None else light.to(image.dtype), gains
