"""The Retinex step as torch.library sees it: schemas, fakes, autograd; launchers are imported when executed."""

import torch
from torch import Tensor

from ..reference import compute_dtype, promoted_dtype
from .dispatch import (
    direct,
    final,
    host_code,
    refuse_other_derivatives,
    refuse_second_derivatives,
    triton_launchers,
    unwatched,
)


def retinex(residual: Tensor, stage_input: Tensor, image: Tensor, sigmoid: bool, impl: str) -> tuple[Tensor, Tensor]:
    """Illumination and reflectance, differentiable once."""
    refuse_other_derivatives(residual, stage_input, image)
    tensors = (residual, stage_input, image)
    grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    call = direct(_Retinex, _retinex_forward, grad) if unwatched(*tensors) else _retinex_fwd
    return call(*tensors, impl, sigmoid)[:2]


def _retinex_forward(
    residual: Tensor, stage_input: Tensor, image: Tensor, impl: str, sigmoid: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The third result is the sigmoid, saved for backward, if it took a pass of its own; `triton` computes it again."""
    dtype = promoted_dtype(residual, stage_input, image)
    if impl == "triton":
        launch = triton_launchers(residual.device).launch_retinex_forward
        return *launch(residual, stage_input, image, dtype, sigmoid), residual.new_empty(0)
    if sigmoid:
        residual = residual.to(compute_dtype(residual, stage_input, image)).contiguous().sigmoid()
    illumination, reflectance = host_code(impl, residual.device).retinex(residual, stage_input, image)
    return illumination.to(dtype), reflectance.to(dtype), residual if sigmoid else residual.new_empty(0)


_retinex_fwd = torch.library.custom_op("sci::retinex_fwd", _retinex_forward, mutates_args=())


@_retinex_fwd.register_fake
def _(residual, stage_input, image, impl, sigmoid=False):
    dtype, compute = (of(residual, stage_input, image) for of in (promoted_dtype, compute_dtype))
    stored = residual.new_empty(residual.shape, dtype=compute) if sigmoid and impl != "triton" else None
    return (
        *(residual.new_empty(residual.shape, dtype=dtype) for _ in range(2)),
        residual.new_empty(0) if stored is None else stored,
    )


def _retinex_gradients(
    grad_illumination: Tensor,
    grad_reflectance: Tensor,
    residual: Tensor,
    stage_input: Tensor,
    image: Tensor,
    impl: str,
    sigmoid: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of residual + stage_input, of image, and with `sigmoid` of its argument.

    `residual` is the sigmoid if forward returned it.
    """
    dtype = promoted_dtype(residual, stage_input, image)
    arguments = (grad_illumination, grad_reflectance, residual, stage_input, image)
    if impl == "triton":
        *grads, grad_residual = triton_launchers(residual.device).launch_retinex_backward(*arguments, dtype, sigmoid)
    else:
        grads = host_code(impl, residual.device).retinex_gradient(*arguments)
        if sigmoid:
            grad_residual = torch.ops.aten.sigmoid_backward(grads[0], residual.to(grads[0].dtype)).to(dtype)
    return *(grad.to(dtype) for grad in grads), grad_residual if sigmoid else residual.new_empty(0)


_retinex_bwd = torch.library.custom_op("sci::retinex_bwd", _retinex_gradients, mutates_args=())


@_retinex_bwd.register_fake
def _(grad_illumination, grad_reflectance, residual, stage_input, image, impl, sigmoid=False):
    dtype = promoted_dtype(residual, stage_input, image)
    shapes = (residual.shape, residual.shape, residual.shape if sigmoid else 0)
    return tuple(residual.new_empty(shape, dtype=dtype) for shape in shapes)


def _retinex_setup(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)
    residual, stage_input, image, ctx.impl, ctx.sigmoid = inputs
    ctx.dtypes = (residual.dtype, stage_input.dtype, image.dtype)
    stored = ctx.sigmoid and ctx.impl != "triton"
    ctx.save_for_backward(output[2] if stored else residual, stage_input, image)


def _retinex_backward(ctx, grad_illumination, grad_reflectance, _):
    given = grad_reflectance if grad_illumination is None else grad_illumination
    if given is None:
        return (None,) * len(ctx.needs_input_grad)
    residual, stage_input, image = ctx.saved_tensors
    needs_image = ctx.needs_input_grad[2] and grad_reflectance is not None
    if grad_illumination is None:
        grad_illumination = torch.zeros_like(given)
    if grad_reflectance is None:
        # With a zero image, too: 0 times a pixel that is NaN or infinite would be NaN.
        grad_reflectance = image = torch.zeros_like(given)
    tensors = (grad_illumination, grad_reflectance, residual, stage_input, image)
    call = _retinex_gradients if final(*tensors) else _retinex_bwd
    grad_sum, grad_image, grad_residual = call(
        grad_illumination, grad_reflectance, residual, stage_input, image, ctx.impl, ctx.sigmoid
    )
    grads = (grad_residual if ctx.sigmoid else grad_sum, grad_sum, grad_image)
    return *(
        grad.to(dtype) if needed else None
        for grad, dtype, needed in zip(grads, ctx.dtypes, (*ctx.needs_input_grad[:2], needs_image), strict=True)
    ), *[None] * (len(ctx.needs_input_grad) - 3)


class _Retinex(torch.autograd.Function):
    """The operator with its gradient as one node of autograd, for `unwatched` calls."""

    @staticmethod
    def forward(ctx, *inputs):
        output = _retinex_forward(*inputs)
        _retinex_setup(ctx, inputs, output)
        return output

    backward = staticmethod(_retinex_backward)


torch.library.register_autograd("sci::retinex_fwd", _retinex_backward, setup_context=_retinex_setup)
torch.library.register_autograd("sci::retinex_bwd", refuse_second_derivatives)
