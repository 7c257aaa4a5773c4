"""Illumination, division and clamps in one pass, and their gradient in another.

    illumination = clamp(residual + stage_input, 1e-4, 1),   reflectance = clamp(image / illumination, 0, 1)

With SIGMOID, the residual is the sigmoid of the tensor that is given for it, so that neither the sigmoid nor its
gradient takes a pass of its own. The gradient is derived in `blocked.retinex_gradient`.

Tensors are contiguous, and a program owns BLOCK consecutive elements. Only the last one may reach beyond the end, and
only it uses masks: a branch keeps them out of the others, which then read and write in vectors.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..constants import ILLUMINATION_MAX, ILLUMINATION_MIN
from ..reference import compute_dtype
from .config import FUSED, RETINEX_BLOCK, divide_up
from .launcher import Launcher
from .primitives import ACC, aligned, clamp, divide, load_block, ptx_level, reciprocal, sigmoid, store_block


@triton.jit
def _retinex_block(
    residual_ptr, stage_input_ptr, image_ptr, illumination_ptr, reflectance_ptr, mask,
    LOW: tl.constexpr, HIGH: tl.constexpr, SIGMOID: tl.constexpr, MASKED: tl.constexpr, PTX: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    residual = load_block(residual_ptr, mask, MASKED, ACC, BLOCK)
    if SIGMOID:
        residual = sigmoid(residual, PTX, ACC)
    stage_input = load_block(stage_input_ptr, mask, MASKED, ACC, BLOCK)
    image = load_block(image_ptr, mask, MASKED, ACC, BLOCK)
    illumination = clamp(residual + stage_input, tl.full([], LOW, ACC), tl.full([], HIGH, ACC))
    # Clamped before the division, too: as illumination <= 1 that changes no result, and no quotient overflows.
    image = clamp(image, tl.full([], 0.0, ACC), tl.full([], 1.0, ACC))
    reflectance = divide(image, illumination, PTX)
    reflectance = tl.minimum(reflectance, tl.full([], 1.0, ACC), propagate_nan=tl.PropagateNan.ALL)
    store_block(illumination_ptr, illumination, mask, MASKED, BLOCK)
    store_block(reflectance_ptr, reflectance, mask, MASKED, BLOCK)


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
    SIGMOID: tl.constexpr,
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    mask = first + tl.arange(0, BLOCK) < count
    pointers = (
        residual_ptr + first, stage_input_ptr + first, image_ptr + first, illumination_ptr + first,
        reflectance_ptr + first,
    )  # fmt: skip
    if first + BLOCK <= count:
        _retinex_block(*pointers, mask, LOW, HIGH, SIGMOID, False, PTX, ACC, BLOCK)
    else:
        _retinex_block(*pointers, mask, LOW, HIGH, SIGMOID, True, PTX, ACC, BLOCK)


@triton.jit
def _retinex_gradient_block(
    grad_illumination_ptr, grad_reflectance_ptr, residual_ptr, stage_input_ptr, image_ptr, grad_sum_ptr,
    grad_image_ptr, grad_residual_ptr, mask, LOW: tl.constexpr, HIGH: tl.constexpr, SIGMOID: tl.constexpr,
    MASKED: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    residual = load_block(residual_ptr, mask, MASKED, ACC, BLOCK)
    if SIGMOID:
        residual = sigmoid(residual, PTX, ACC)
    stage_input = load_block(stage_input_ptr, mask, MASKED, ACC, BLOCK)
    image = load_block(image_ptr, mask, MASKED, ACC, BLOCK)
    grad_illumination = load_block(grad_illumination_ptr, mask, MASKED, ACC, BLOCK)
    grad_reflectance = load_block(grad_reflectance_ptr, mask, MASKED, ACC, BLOCK)
    total = residual + stage_input
    illumination = clamp(total, tl.full([], LOW, ACC), tl.full([], HIGH, ACC))
    # The quotient is in [0, 1] exactly where the image is in [0, illumination]. Compared as unsigned integers, the bits
    # of a negative number or a NaN are larger than those of any illumination that is not NaN, so one comparison
    # suffices. (A NaN illumination makes every result NaN, or 0.) Adding 0 turns -0 into 0.
    BITS: tl.constexpr = tl.uint32 if tl.float32 == ACC else tl.uint64
    inside = (image + 0.0).to(BITS, bitcast=True) <= illumination.to(BITS, bitcast=True)
    grad_quotient = tl.where(inside, grad_reflectance, 0.0)
    inverse = reciprocal(illumination, PTX)
    grad_image = grad_quotient * inverse
    # The image is not clamped here, and is multiplied by the inverse twice: where the clamp stops the gradient, 0 times
    # a number that is not finite is NaN, as with autograd.
    direct = grad_illumination - grad_quotient * (image * inverse * inverse)
    grad_sum = tl.where(total == illumination, direct, 0.0)
    store_block(grad_image_ptr, grad_image, mask, MASKED, BLOCK)
    store_block(grad_sum_ptr, grad_sum, mask, MASKED, BLOCK)
    if SIGMOID:
        grad_residual = grad_sum * (1.0 - residual) * residual
        store_block(grad_residual_ptr, grad_residual, mask, MASKED, BLOCK)


@triton.jit(do_not_specialize=["count"])
def _retinex_bwd_kernel(
    grad_illumination_ptr,
    grad_reflectance_ptr,
    residual_ptr,
    stage_input_ptr,
    image_ptr,
    grad_sum_ptr,
    grad_image_ptr,
    grad_residual_ptr,  # written only with SIGMOID
    count,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    SIGMOID: tl.constexpr,
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    mask = first + tl.arange(0, BLOCK) < count
    pointers = (
        grad_illumination_ptr + first, grad_reflectance_ptr + first, residual_ptr + first, stage_input_ptr + first,
        image_ptr + first, grad_sum_ptr + first, grad_image_ptr + first, grad_residual_ptr + first,
    )  # fmt: skip
    if first + BLOCK <= count:
        _retinex_gradient_block(*pointers, mask, LOW, HIGH, SIGMOID, False, PTX, ACC, BLOCK)
    else:
        _retinex_gradient_block(*pointers, mask, LOW, HIGH, SIGMOID, True, PTX, ACC, BLOCK)


_launch_forward, _launch_backward = Launcher(_retinex_fwd_kernel), Launcher(_retinex_bwd_kernel)


def launch_retinex_forward(
    residual: Tensor, stage_input: Tensor, image: Tensor, dtype: torch.dtype, sigmoid: bool = False
) -> tuple[Tensor, Tensor]:
    """Illumination and reflectance, contiguous, in `dtype`."""
    outputs = _empty(image, dtype, 2)
    _launch_all(_launch_forward, (residual, stage_input, image), outputs, sigmoid)
    return outputs[0], outputs[1]


def launch_retinex_backward(
    grad_illumination: Tensor,
    grad_reflectance: Tensor,
    residual: Tensor,
    stage_input: Tensor,
    image: Tensor,
    dtype: torch.dtype,
    sigmoid: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of residual + stage_input, of the image, and of the tensor given for the residual.

    Contiguous, in `dtype`. The third is the first again without `sigmoid`.
    """
    grad_sum, grad_image, *more = _empty(image, dtype, 3 if sigmoid else 2)
    outputs = grad_sum, grad_image, more[0] if more else grad_sum
    _launch_all(_launch_backward, (grad_illumination, grad_reflectance, residual, stage_input, image), outputs, sigmoid)
    return outputs


def _empty(like: Tensor, dtype: torch.dtype, count: int) -> list[Tensor]:
    return [torch.empty_like(like, dtype=dtype, memory_format=torch.contiguous_format) for _ in range(count)]


def _launch_all(launch: Launcher, arguments: tuple[Tensor, ...], outputs: Sequence[Tensor], sigmoid: bool) -> None:
    """Runs an elementwise kernel, on contiguous tensors, so that an offset is the same in all."""
    arguments = tuple(aligned(argument) for argument in arguments)
    like = outputs[0]
    compute = compute_dtype(*arguments)
    level = ptx_level(like, compute)
    # In float64 half as many elements, as each takes twice the registers.
    block = RETINEX_BLOCK * 4 // compute.itemsize
    # Without this limit ptxas takes 80 registers and spills.
    options = {"num_warps": 4, **FUSED, **({"maxnreg": 168} if level >= 1 else {})}
    constants = (ILLUMINATION_MIN, ILLUMINATION_MAX, sigmoid, level, ACC[compute], block)
    count = like.numel()
    launch(divide_up(count, block), (*arguments, *outputs, count), constants, options)
