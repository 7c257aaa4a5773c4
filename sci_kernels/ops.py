"""The operators as torch.library sees them: schemas, fakes, autograd; launchers are imported when executed.

`native` and `blocked` find the gradients on their way to the loss, so their forward returns them, where it sees that
they will be wanted, and their backward only scales them. `triton` moves fewer bytes by computing them in a backward of
its own; its forward returns empty tensors in their place.

The operators are differentiable once, in reverse mode, and say so when asked for more: an operator without a rule
drops a tangent in silence.

A call on plain tensors, with nothing watching, does not pass through the dispatcher: its layers for operators written
in Python take 0.3 ms a call of processor time, three times what the kernels of a small image do. An autograd function
with the same rules takes the operator's place.
"""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch.autograd import forward_ad

from . import blocked, native, versions
from .reference import compute_dtype, promoted_dtype


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
    # A trace keeps what it sees, and is checked against one without gradients: it finds them in its backward pass.
    grad = torch.is_grad_enabled() and not torch._C._get_tracing_state()
    wanted = (grad and input.requires_grad, grad and illumination.requires_grad)
    call = _direct(_Loss, _loss_forward, any(wanted)) if unwatched(input, illumination) else _illumination_loss_fwd
    return call(input, illumination, sigma, color, fidelity_weight, smooth_weight, impl, *wanted)[0]


def retinex(residual: Tensor, stage_input: Tensor, image: Tensor, sigmoid: bool, impl: str) -> tuple[Tensor, Tensor]:
    """Illumination and reflectance, differentiable once."""
    refuse_other_derivatives(residual, stage_input, image)
    tensors = (residual, stage_input, image)
    grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    call = _direct(_Retinex, _retinex_forward, grad) if unwatched(*tensors) else _retinex_fwd
    return call(*tensors, impl, sigmoid)[:2]


_PLAIN = (Tensor, torch.nn.Parameter)
_transformed, _modes = torch._C._are_functorch_transforms_active, torch._C._len_torch_dispatch_stack


def unwatched(*tensors: Tensor) -> bool:
    """Whether nothing but these plain tensors has to learn of a call: no compiler, transform, mode or subclass.

    Nor may one be a lazy negative, which only the dispatcher turns into numbers.
    """
    if torch.compiler.is_compiling():
        return False
    for tensor in tensors:
        if type(tensor) not in _PLAIN or tensor.is_neg():
            return False
    return not (_transformed() or _modes() or torch._C._get_tracing_state() or torch.autograd._profiler_enabled())


def _direct(function: type[torch.autograd.Function], forward: Callable, grad: bool) -> Callable:
    """What stands for an operator where nothing watches: autograd's node only where a gradient is wanted."""
    return function.apply if grad else forward


def refuse_other_derivatives(*tensors: Tensor) -> None:
    """Forward mode, and torch.func.grad and what is built on it; vmap needs no rule and may pass."""
    compiling = torch.compiler.is_compiling()
    transformed = not compiling and torch._C._are_functorch_transforms_active()
    # What is being compiled or transformed shows no tangents: inside a forward-mode level all of it is refused.
    if forward_ad._current_level >= 0 and (
        compiling or transformed or any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
    ):
        raise RuntimeError("forward-mode differentiation is not supported by the fused operators; use impl='reference'")
    if transformed and any(
        interpreter.key() == TransformType.Grad for interpreter in torch._C._functorch.get_interpreter_stack()
    ):
        raise RuntimeError(
            "torch.func.grad, vjp and what is built on them are not supported by the fused operators; "
            "use torch.autograd.grad or impl='reference'"
        )


def _refuse_second_derivatives(ctx, *grads):
    raise RuntimeError("second derivatives are not supported by the fused operators; use impl='reference'")


def triton_launchers(device: torch.device) -> ModuleType:
    """The Triton launchers, or a RuntimeError that says why they cannot run on this device."""
    try:
        from . import triton as launchers
    except versions.UnsupportedVersionError as error:
        raise RuntimeError(
            f"impl='triton' cannot run here: {error}; install one of those, or use impl='blocked' or 'native'"
        ) from error
    except ImportError as error:
        raise RuntimeError(
            f"impl='triton' needs the triton package, which cannot be imported here ({error}); "
            "install triton or use impl='blocked'"
        ) from error
    if device.type != "cuda" and not launchers.INTERPRETED:
        raise RuntimeError(
            f"impl='triton' needs a tensor on a CUDA or ROCm device; got one on {device}; "
            "move it, use impl='blocked', or set TRITON_INTERPRET=1 before starting Python to interpret the kernels"
        )
    return launchers


def host_code(impl: str, device: torch.device) -> ModuleType:
    """`native` or `blocked`; a RuntimeError that says why the one asked for cannot run."""
    if impl == "blocked" or device.type != "cpu":
        return blocked
    error = native.compiler_error()
    if error is not None and impl == "native":
        raise RuntimeError(f"impl='native' cannot run here: {error}; use impl='blocked'")
    return native if error is None else blocked


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
    _, *grads = host_code(impl, input.device).loss(*arguments)
    return tuple(
        tensor.new_empty(0) if grad is None else (grad * grad_loss).to(tensor.dtype)
        for grad, tensor in zip(grads, (input, illumination), strict=True)
    )


_illumination_loss_bwd = torch.library.custom_op("sci::illumination_loss_bwd", _loss_gradients, mutates_args=())


@_illumination_loss_bwd.register_fake
def _(
    grad_loss, input, illumination, sigma, color, fidelity_weight, smooth_weight, impl, input_grad, illumination_grad
):
    return (
        input.new_empty(input.shape if input_grad else 0),
        illumination.new_empty(illumination.shape if illumination_grad else 0),
    )


# Opaque, rather than two multiplications, so that a second derivative is refused instead of taking the stored gradients
# for constants.
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
    ctx.set_materialize_grads(False)  # or zeros would be made for the stored gradients, which are outputs as well
    input, illumination, *options, input_grad, illumination_grad = inputs
    ctx.options = options
    input_needed, illumination_needed, *_ = ctx.needs_input_grad
    # vmap hides that a gradient is wanted, and so does a program exported without one.
    foreseen = input_grad >= input_needed and illumination_grad >= illumination_needed
    ctx.stored = options[-1] != "triton" and foreseen
    if ctx.stored:
        ctx.dtypes = (input.dtype, illumination.dtype)
        needed = (input_needed, illumination_needed)
        ctx.save_for_backward(*(grad if need else None for grad, need in zip(output[1:], needed, strict=True)))
    else:
        ctx.save_for_backward(input, illumination)


def _may_be_given_away(grad_loss: Tensor) -> bool:
    """Whether the stored gradients are the answer as they are, and nobody will ask for them again.

    Scaling by 1 would take two copies the size of the image. Where looking costs something, no.
    """
    return (
        type(grad_loss) is Tensor
        and grad_loss.device.type == "cpu"
        and not torch.is_grad_enabled()  # else a second derivative may be asked for, to be refused
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._autograd._get_current_graph_task_keep_graph()
        and grad_loss.item() == 1.0
    )


def _loss_backward(ctx, grad_loss, *_):
    if grad_loss is None:
        return (None,) * len(ctx.needs_input_grad)
    needed = ctx.needs_input_grad[:2]
    if ctx.stored:
        stored = ctx.saved_tensors
        found = [(tensor, dtype) for tensor, dtype in zip(stored, ctx.dtypes, strict=True) if tensor is not None]
        if all(tensor.dtype == dtype for tensor, dtype in found) and _may_be_given_away(grad_loss):
            # No longer outputs of this node.
            grads = tuple(None if tensor is None else tensor.data for tensor in stored)
        else:
            stored = (grad_loss.new_empty(0) if tensor is None else tensor for tensor in stored)
            grads = _scale_gradients(grad_loss, *stored, *ctx.dtypes)
    else:
        call = _loss_gradients if _final(grad_loss, *ctx.saved_tensors) else _illumination_loss_bwd
        grads = call(grad_loss, *ctx.saved_tensors, *ctx.options, *needed)
    wanted = (grad if need else None for grad, need in zip(grads, needed, strict=True))
    return *wanted, *[None] * (len(ctx.needs_input_grad) - 2)


def _final(*tensors: Tensor) -> bool:
    """Whether a backward pass is unwatched, and no second derivative can be asked for, which an operator refuses."""
    return not torch.is_grad_enabled() and unwatched(*tensors)


class _Loss(torch.autograd.Function):
    """The operator and its rule as one node of autograd."""

    @staticmethod
    def forward(ctx, *inputs):
        output = _loss_forward(*inputs)
        _loss_setup(ctx, inputs, output)
        return output

    backward = staticmethod(_loss_backward)


torch.library.register_autograd("sci::illumination_loss_fwd", _loss_backward, setup_context=_loss_setup)


def _retinex_forward(
    residual: Tensor, stage_input: Tensor, image: Tensor, impl: str, sigmoid: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The third is the sigmoid for backward, where it is a pass of its own: `triton` takes it again."""
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
    """`residual` is the sigmoid where forward has returned it. The third is its argument's gradient, with `sigmoid`."""
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
        # Nor is there an image then: 0 times what is NaN or infinite in it would be NaN.
        grad_reflectance = image = torch.zeros_like(given)
    tensors = (grad_illumination, grad_reflectance, residual, stage_input, image)
    call = _retinex_gradients if _final(*tensors) else _retinex_bwd
    grad_sum, grad_image, grad_residual = call(
        grad_illumination, grad_reflectance, residual, stage_input, image, ctx.impl, ctx.sigmoid
    )
    grads = (grad_residual if ctx.sigmoid else grad_sum, grad_sum, grad_image)
    return *(
        grad.to(dtype) if needed else None
        for grad, dtype, needed in zip(grads, ctx.dtypes, (*ctx.needs_input_grad[:2], needs_image), strict=True)
    ), *[None] * (len(ctx.needs_input_grad) - 3)


class _Retinex(torch.autograd.Function):
    """The operator and its rule as one node of autograd."""

    @staticmethod
    def forward(ctx, *inputs):
        output = _retinex_forward(*inputs)
        _retinex_setup(ctx, inputs, output)
        return output

    backward = staticmethod(_retinex_backward)


torch.library.register_autograd("sci::retinex_fwd", _retinex_backward, setup_context=_retinex_setup)

for _name in ("illumination_loss_bwd", "scale_gradients", "retinex_bwd"):
    torch.library.register_autograd(f"sci::{_name}", _refuse_second_derivatives)
