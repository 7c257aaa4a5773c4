"""What all operators share: which code runs, what may pass by PyTorch's dispatcher, and which derivatives are refused.

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

from .. import blocked, native, versions

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


def direct(function: type[torch.autograd.Function], forward: Callable, grad: bool) -> Callable:
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


def refuse_second_derivatives(ctx, *grads):
    raise RuntimeError("second derivatives are not supported by the fused operators; use impl='reference'")


def triton_launchers(device: torch.device) -> ModuleType:
    """The Triton launchers, or a RuntimeError that says why they cannot run on this device."""
    try:
        from .. import triton as launchers
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


def final(*tensors: Tensor) -> bool:
    """Whether a backward pass is unwatched, and no second derivative can be asked for, which an operator refuses."""
    return not torch.is_grad_enabled() and unwatched(*tensors)
