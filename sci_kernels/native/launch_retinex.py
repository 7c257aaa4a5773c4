"""The Retinex step and its gradient by `retinex.c`."""

import torch
from torch import Tensor

from ..constants import ILLUMINATION_MAX, ILLUMINATION_MIN
from ..reference import compute_dtype
from .build import library
from .c_structs import problem_type
from .threads import in_bands

_INPUTS = ("residual", "stage_input", "image", "grad_illumination", "grad_reflectance")
_OUTPUTS = ("illumination", "reflectance", "grad_sum", "grad_image")
_REALS = (("lowest", 0), ("highest", 0))


def retinex(residual: Tensor, stage_input: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """As `blocked.retinex`."""
    inputs = {"residual": residual, "stage_input": stage_input, "image": image}
    return _run("retinex", inputs, ("illumination", "reflectance"))


def retinex_gradient(
    grad_illumination: Tensor, grad_reflectance: Tensor, residual: Tensor, stage_input: Tensor, image: Tensor
) -> tuple[Tensor, Tensor]:
    """As `blocked.retinex_gradient`."""
    inputs = dict(zip(_INPUTS, (residual, stage_input, image, grad_illumination, grad_reflectance), strict=True))
    return _run("retinex_gradient", inputs, ("grad_sum", "grad_image"))


def _run(function: str, inputs: dict[str, Tensor], outputs: tuple[str, str]) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(*inputs.values())
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in inputs.items()}
    results = [torch.empty_like(tensors["residual"]) for _ in outputs]
    tensors |= zip(outputs, results, strict=True)
    double = dtype == torch.float64
    problem = problem_type(double, (*_INPUTS, *_OUTPUTS), reals=_REALS)(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        lowest=ILLUMINATION_MIN,
        highest=ILLUMINATION_MAX,
    )
    problem.tensors = tensors
    code = library("retinex.c", DOUBLE=int(double))
    in_bands(getattr(code, function), problem, results[0].numel(), 1)
    return results[0], results[1]
