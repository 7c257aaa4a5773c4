"""The exposure of sampled images by `exposure.c`."""

import torch
from torch import Tensor

from ..constants import HIGHLIGHTS, LUMA, MAX_EXPOSURE
from ..reference import compute_dtype
from .build import library
from .c_structs import addresses, problem_type
from .threads import in_bands

_POINTERS = ("image", "light", "exposure")
_REALS = (("target", 0), ("luma", 3), ("share", 0), ("highlights", 0), ("largest", 0))


def find_exposure(image: Tensor, light: Tensor, target: float, black: float) -> Tensor:
    """As `reference.find_exposure`."""
    dtype = compute_dtype(image)
    x, light = (tensor.detach().to(dtype).contiguous() for tensor in (image, light))
    n, _, h, w = x.shape
    exposure = x.new_empty(n)
    double = dtype == torch.float64
    problem = problem_type(double, _POINTERS, ("count",), _REALS)(
        *addresses((x, light, exposure)), h * w, target, LUMA, 0.5 / black, HIGHLIGHTS, MAX_EXPOSURE
    )
    problem.tensors = (x, light, exposure)
    in_bands(library("exposure.c", DOUBLE=int(double)).find_exposure, problem, n, h * w)
    return exposure
