"""The loss as torch.library sees it: schemas, fakes, autograd; launchers are imported when executed.

`native` and `blocked` can compute the gradients together with the loss at little cost. So their forward also returns
those that will be needed, and their backward only scales them. `triton` moves fewer bytes by computing them in a
backward of its own; its forward returns empty tensors in their place.
"""

import torch
from torch import Tensor

from ..reference import compute_dtype
from .dispatch import (
    direct,
    final,
    host_code,
    refuse_other_derivatives,
    refuse_second_derivatives,
    triton_launchers,
    unwatched,
)


def loss(
    input: Tensor,
    illumination: Tensor,
    sigma: float,
    color: str,
    fidelity_weight: float,
    smooth_weight: float,
    impl: str,
) -> Tensor:
    """fidelity_weight * mean((L - X)^2) + smooth_weight * smooth_loss(X, L), differentiable once."""
    refuse_other_derivatives(input, illumination)
    # While tracing, gradients are left to the backward pass: a trace is checked against one made without gradients.
    grad = torch.is_grad_enabled() and not torch._C._get_tracing_state()
    wanted = (grad and input.requires_grad, grad and illumination.requires_grad)
    call = direct(_Loss, _loss_forward, any(wanted)) if unwatched(input, illumination) else _illumination_loss_fwd
    return call(input, illumination, sigma, color, fidelity_weight, smooth_weight, impl, *wanted)[0]


def _loss_forward(
    input: Tensor,
    illumination: Tensor,
    sigma: float,
    color: str,
    fidelity_weight: float,
    smooth_weight: float,
    impl: str,
    input_grad: bool,
    illumination_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    options = (sigma, color, fidelity_weight, smooth_weight)
    if impl == "triton":
        value = triton_launchers(input.device).launch_loss_forward(input, illumination, *options)
        return value, value.new_empty(0), value.new_empty(0)
    value, *grads = host_code(impl, input.device).loss(input, illumination, *options, input_grad, illumination_grad)
    return value, *(value.new_empty(0) if grad is None else grad for grad in grads)


_illumination_loss_fwd = torch.library.custom_op("sci::illumination_loss_fwd", _loss_forward, mutates_args=())


@_illumination_loss_fwd.register_fake
def _(input, illumination, sigma, color, fidelity_weight, smooth_weight, impl, input_grad, illumination_grad):
    dtype = compute_dtype(input, illumination)
    stored = impl != "triton"
    return (
        input.new_empty((), dtype=dtype),
        input.new_empty(input.shape if stored and input_grad else 0, dtype=dtype),
        input.new_empty(illumination.shape if stored and illumination_grad else 0, dtype=dtype),
    )


def _loss_gradients(
    grad_loss: Tensor,
    input: Tensor,
    illumination: Tensor,
    sigma: float,
    color: str,
    fidelity_weight: float,
    smooth_weight: float,
    impl: str,
    input_grad: bool,
    illumination_grad: bool,
) -> tuple[Tensor, Tensor]:
    arguments = (input, illumination, sigma, color, fidelity_weight, smooth_weight, input_grad, illumination_grad)
    if impl == "triton":
        return triton_launchers(input.device).launch_loss_backward(grad_loss, *arguments)
    _, grad_input, grad_illumination = host_code(impl, input.device).loss(*arguments)
    return _scaled(grad_input, grad_loss, input), _scaled(grad_illumination, grad_loss, illumination)


def _scaled(grad: Tensor | None, grad_loss: Tensor, of: Tensor) -> Tensor:
    """A gradient times the incoming one, in the dtype of its argument `of`; empty where there is none."""
    return of.new_empty(0) if grad is None else (grad * grad_loss).to(of.dtype)


_illumination_loss_bwd = torch.library.custom_op("sci::illumination_loss_bwd", _loss_gradients, mutates_args=())


@_illumination_loss_bwd.register_fake
def _(
    grad_loss, input, illumination, sigma, color, fidelity_weight, smooth_weight, impl, input_grad, illumination_grad
):
    return (
        input.new_empty(input.shape if input_grad else 0),
        illumination.new_empty(illumination.shape if illumination_grad else 0),
    )


# An operator, not two multiplications: autograd would differentiate those with the stored gradients as constants,
# whereas second derivatives are to be refused.
@torch.library.custom_op("sci::scale_gradients", mutates_args=())
def _scale_gradients(
    grad_loss: Tensor,
    grad_input: Tensor,
    grad_illumination: Tensor,
    input_dtype: torch.dtype,
    illumination_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    return (grad_input * grad_loss).to(input_dtype), (grad_illumination * grad_loss).to(illumination_dtype)


@_scale_gradients.register_fake
def _(grad_loss, grad_input, grad_illumination, input_dtype, illumination_dtype):
    return (
        grad_input.new_empty(grad_input.shape, dtype=input_dtype),
        grad_illumination.new_empty(grad_illumination.shape, dtype=illumination_dtype),
    )


def _loss_setup(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)  # else zeros are allocated for the stored gradients, which are outputs, too
    input, illumination, *options, input_grad, illumination_grad = inputs
    ctx.options = options
    input_needed, illumination_needed, *_ = ctx.needs_input_grad
    # Under vmap, or in a program that was exported without gradients, forward did not know that one would be needed.
    foreseen = input_grad >= input_needed and illumination_grad >= illumination_needed
    ctx.stored = options[-1] != "triton" and foreseen
    if ctx.stored:
        ctx.dtypes = (input.dtype, illumination.dtype)
        needed = (input_needed, illumination_needed)
        ctx.save_for_backward(*(grad if need else None for grad, need in zip(output[1:], needed, strict=True)))
    else:
        ctx.save_for_backward(input, illumination)


def _may_be_given_away(grad_loss: Tensor) -> bool:
    """Whether the stored gradients may be returned as they are: the factor is 1, and backward will not run again.

    That saves two copies of the size of an image. On a GPU False, since reading the factor would wait for it.
    """
    return (
        final(grad_loss)
        and grad_loss.device.type == "cpu"
        and not torch._C._autograd._get_current_graph_task_keep_graph()
        and grad_loss.item() == 1.0
    )


def _loss_backward(ctx, grad_loss, *_):
    if grad_loss is None:
        return (None,) * len(ctx.needs_input_grad)
    needed = ctx.needs_input_grad[:2]
    saved = ctx.saved_tensors  # once: a checkpoint gives them out only once, and an offloaded one is moved each time
    if ctx.stored:
        found = [(tensor, dtype) for tensor, dtype in zip(saved, ctx.dtypes, strict=True) if tensor is not None]
        if all(tensor.dtype == dtype for tensor, dtype in found) and _may_be_given_away(grad_loss):
            # `data`, so that they are not outputs of this node any more.
            grads = tuple(None if tensor is None else tensor.data for tensor in saved)
        else:
            stored = (grad_loss.new_empty(0) if tensor is None else tensor for tensor in saved)
            grads = _scale_gradients(grad_loss, *stored, *ctx.dtypes)
    else:
        call = _loss_gradients if final(grad_loss, *saved) else _illumination_loss_bwd
        grads = call(grad_loss, *saved, *ctx.options, *needed)
    wanted = (grad if need else None for grad, need in zip(grads, needed, strict=True))
    return *wanted, *[None] * (len(ctx.needs_input_grad) - 2)


class _Loss(torch.autograd.Function):
    """The operator with its gradient as one node of autograd, for `unwatched` calls."""

    @staticmethod
    def forward(ctx, *inputs):
        output = _loss_forward(*inputs)
        _loss_setup(ctx, inputs, output)
        return output

    backward = staticmethod(_loss_backward)


torch.library.register_autograd("sci::illumination_loss_fwd", _loss_backward, setup_context=_loss_setup)
for _name in ("illumination_loss_bwd", "scale_gradients"):
    torch.library.register_autograd(f"sci::{_name}", refuse_second_derivatives)
