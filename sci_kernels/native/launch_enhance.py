"""The enhance network and the division by `enhance.c`."""

import ctypes
import functools

import torch
from torch import Tensor

from ..constants import ILLUMINATION_MAX, ILLUMINATION_MIN
from ..reference import compute_dtype
from .build import library
from .threads import in_bands

_STRIDES = ("image", "channel", "row", "column")


@functools.cache
def _structure(real: type) -> type[ctypes.Structure]:
    """`problem` of the C source."""

    class Problem(ctypes.Structure):
        _fields_ = [
            *((name, ctypes.c_void_p) for name in ("image", "reflectance", "illumination")),
            ("height", ctypes.c_int64),
            ("width", ctypes.c_int64),
            *((f"from_{name}", ctypes.c_int64) for name in _STRIDES),
            *((f"to_{name}", ctypes.c_int64) for name in _STRIDES),
            ("weights", real * 252),
            ("lowest", real),
            ("highest", real),
        ]

    return Problem


def enhance(image: Tensor, weights: Tensor, illumination: bool) -> tuple[Tensor, Tensor | None]:
    """Reflectance, and illumination if asked for, in the image's dtype and memory format."""
    x = image.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    result = torch.empty_like(x)
    light = torch.empty_like(x) if illumination else None
    n, _, h, w = x.shape
    double = compute_dtype(x) == torch.float64
    problem = _structure(ctypes.c_double if double else ctypes.c_float)(
        *(None if tensor is None else tensor.data_ptr() for tensor in (x, result, light)),
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
    return result.to(image.dtype), None if light is None else light.to(image.dtype)
