"""The enhance network and the brightening of the image, by `enhance.c`."""

import ctypes
import functools

import torch
from torch import Tensor

from ..constants import FADE, ILLUMINATION_MAX, ILLUMINATION_MIN, LUMA
from ..enhance_weights import constants_of
from ..reference import compute_dtype
from .build import library
from .c_structs import addresses, contiguous_in, problem_type
from .threads import in_bands

_STRIDES = ("image", "channel", "row", "column")
_POINTERS = ("image", "result", "illumination", "gain", "exposure")
_INTEGERS = ("height", "width", *(f"{way}_{name}" for way in ("from", "to") for name in _STRIDES))
_REALS = (("weights", 252), ("lowest", 0), ("highest", 0), ("luma", 3), ("share", 0), ("fade", 0))


def enhance(
    image: Tensor, weights: Tensor, illumination: bool, exposure: Tensor | None = None, gain: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The result, and illumination and gain if asked for; the first two in the image's dtype and memory format."""
    x = image.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    result = torch.empty_like(x)
    light = torch.empty_like(x) if illumination else None
    n, _, h, w = x.shape
    dtype = compute_dtype(x)
    double = dtype == torch.float64
    gains = x.new_empty((n, 1, h, w), dtype=dtype) if gain else None
    exposure = None if exposure is None else contiguous_in(dtype, exposure)
    # A copy, since other threads may use the same.
    prepared = _prepared(double, *constants_of(weights))
    problem = type(prepared).from_buffer_copy(prepared)
    problem.tensors = tensors = (x, result, light, gains, exposure)
    problem.image, problem.result, problem.illumination, problem.gain, problem.exposure = addresses(tensors)
    problem.height, problem.width = h, w
    problem.from_image, problem.from_channel, problem.from_row, problem.from_column = x.stride()
    problem.to_image, problem.to_channel, problem.to_row, problem.to_column = result.stride()
    code = library("enhance.c", DOUBLE=int(double), BYTES=int(x.dtype == torch.uint8))
    in_bands(code.enhance, problem, n * h, w)
    return result.to(image.dtype), None if light is None else light.to(image.dtype), gains


@functools.lru_cache(16)
def _prepared(double: bool, numbers: tuple[float, ...], black: float) -> ctypes.Structure:
    """The problem without the image's addresses and sizes; to be copied, not changed."""
    nothing = [None] * len(_POINTERS) + [0] * len(_INTEGERS)
    return problem_type(double, _POINTERS, _INTEGERS, _REALS)(
        *nothing, numbers, ILLUMINATION_MIN, ILLUMINATION_MAX, LUMA, 0.5 / black, FADE
    )
