"""Illumination, division and clamps in one pass, and their gradient in another.

    illumination = clamp(residual + stage_input, 1e-4, 1),   reflectance = clamp(image / illumination, 0, 1)

The gradient is derived in `blocked.retinex_gradient`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..constants import ILLUMINATION_MAX, ILLUMINATION_MIN
from ..reference import compute_dtype
from .config import ELEMENTWISE_BLOCK, ELEMENTWISE_WARPS
from .primitives import ACC, divide


@triton.jit
def _clamp(x, low, high):
    # PTX min and max drop a NaN unless told otherwise.
    return tl.clamp(x, low, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _elements(count, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return offsets, offsets < count


@triton.jit(do_not_specialize=["count"])
def _retinex_fwd_kernel(
    residual_ptr,
    stage_input_ptr,
    image_ptr,
    illumination_ptr,
    reflectance_ptr,
    count,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets, mask = _elements(count, BLOCK)
    residual = tl.load(residual_ptr + offsets, mask=mask, other=0.0).to(ACC)
    stage_input = tl.load(stage_input_ptr + offsets, mask=mask, other=0.0).to(ACC)
    image = tl.load(image_ptr + offsets, mask=mask, other=0.0).to(ACC)
    illumination = _clamp(residual + stage_input, tl.full([], LOW, ACC), tl.full([], HIGH, ACC))
    reflectance = _clamp(divide(image, illumination), tl.full([], 0.0, ACC), tl.full([], 1.0, ACC))
    tl.store(illumination_ptr + offsets, illumination, mask=mask)
    tl.store(reflectance_ptr + offsets, reflectance, mask=mask)


@triton.jit(do_not_specialize=["count"])
def _retinex_bwd_kernel(
    grad_illumination_ptr,
    grad_reflectance_ptr,
    residual_ptr,
    stage_input_ptr,
    image_ptr,
    grad_sum_ptr,
    grad_image_ptr,
    count,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets, mask = _elements(count, BLOCK)
    residual = tl.load(residual_ptr + offsets, mask=mask, other=0.0).to(ACC)
    stage_input = tl.load(stage_input_ptr + offsets, mask=mask, other=0.0).to(ACC)
    image = tl.load(image_ptr + offsets, mask=mask, other=0.0).to(ACC)
    grad_illumination = tl.load(grad_illumination_ptr + offsets, mask=mask, other=0.0).to(ACC)
    grad_reflectance = tl.load(grad_reflectance_ptr + offsets, mask=mask, other=0.0).to(ACC)
    low = tl.full([], LOW, ACC)
    high = tl.full([], HIGH, ACC)
    total = residual + stage_input
    illumination = _clamp(total, low, high)
    quotient = divide(image, illumination)
    grad_image = divide(tl.where((quotient >= 0.0) & (quotient <= 1.0), grad_reflectance, 0.0), illumination)
    grad_sum = tl.where((total >= low) & (total <= high), grad_illumination - grad_image * quotient, 0.0)
    tl.store(grad_image_ptr + offsets, grad_image, mask=mask)
    tl.store(grad_sum_ptr + offsets, grad_sum, mask=mask)


def launch_retinex_forward(
    residual: Tensor, stage_input: Tensor, image: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Illumination and reflectance, contiguous, in `dtype`."""
    return _launch(_retinex_fwd_kernel, (residual, stage_input, image), dtype)


def launch_retinex_backward(
    grad_illumination: Tensor,
    grad_reflectance: Tensor,
    residual: Tensor,
    stage_input: Tensor,
    image: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The gradients of residual + stage_input and of image, contiguous, in `dtype`."""
    arguments = (grad_illumination, grad_reflectance, residual, stage_input, image)
    return _launch(_retinex_bwd_kernel, arguments, dtype)


def _launch(kernel, arguments: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Runs an elementwise kernel of two outputs; contiguous copies make one offset fit all."""
    arguments = tuple(argument.contiguous() for argument in arguments)
    like = arguments[-1]
    outputs = (torch.empty_like(like, dtype=dtype), torch.empty_like(like, dtype=dtype))
    acc = ACC[compute_dtype(*arguments)]
    with torch.cuda.device_of(like):
        kernel[(triton.cdiv(like.numel(), ELEMENTWISE_BLOCK),)](
            *arguments, *outputs, like.numel(), ILLUMINATION_MIN, ILLUMINATION_MAX, acc, ELEMENTWISE_BLOCK,
            num_warps=ELEMENTWISE_WARPS,
        )  # fmt: skip
    return outputs
