"""The enhance network and the division by `enhance.c`."""

import torch
from torch import Tensor

from ..constants import ILLUMINATION_MAX, ILLUMINATION_MIN
from ..reference import compute_dtype
from .build import library
from .problem import addresses, problem_type
from .threads import in_bands

_STRIDES = ("image", "channel", "row", "column")
_POINTERS = ("image", "reflectance", "illumination")
_INTEGERS = ("height", "width", *(f"{way}_{name}" for way in ("from", "to") for name in _STRIDES))
_REALS = (("weights", 252), ("lowest", 0), ("highest", 0))


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
    double = compute_dtype(x) == torch.float64
    problem = problem_type(double, _POINTERS, _INTEGERS, _REALS)(
        *addresses((x, result, light)),
        h,
        w,
        *x.stride(),
        *result.stride(),
        tuple(weights.flatten().tolist()),
        ILLUMINATION_MIN,
        ILLUMINATION_MAX,
    )
    problem.tensors = (x, result, light)
    code = library("enhance.c", DOUBLE=int(double), BYTES=int(x.dtype == torch.uint8))
    in_bands(code.enhance, problem, n * h, w)
    return result.to(image.dtype), None if light is None else light.to(image.dtype), None
