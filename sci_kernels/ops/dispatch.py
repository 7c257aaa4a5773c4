"""What all operators share: which code runs, which calls skip PyTorch's dispatcher, and which derivatives are refused.

The operators are differentiable once, in reverse mode. Other derivatives raise an error: for an operator without a rule
PyTorch would silently drop a tangent.

A call on plain tensors that nothing else observes skips the dispatcher, whose layers for operators written in Python
take 0.3 ms of processor time per call, three times as long as the kernels of a small image. An autograd function with
the same rules then takes the place of the operator.
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
_batched = torch._C._functorch.is_legacy_batchedtensor


def unwatched(*tensors: Tensor) -> bool:
    """Whether a call needs no dispatcher: there is no compiler, transform, mode, profiler or tensor subclass.

    Tensors without memory of their values need it as well, since only the dispatcher materializes them: those that are
    lazily negated, lazily zero, or batched by `torch.autograd.grad(is_grads_batched=True)`, which is no transform.
    """
    if torch.compiler.is_compiling():
        return False
    for tensor in tensors:
        if type(tensor) not in _PLAIN or tensor.is_neg() or tensor._is_zerotensor() or _batched(tensor):
            return False
    return not (_transformed() or _modes() or torch._C._get_tracing_state() or torch.autograd._profiler_enabled())


def direct(function: type[torch.autograd.Function], forward: Callable, grad: bool) -> Callable:
    """What is called in place of an operator by `unwatched` calls: a node of autograd only if a gradient is needed."""
    return function.apply if grad else forward


def refuse_other_derivatives(*tensors: Tensor) -> None:
    """Raises RuntimeError in forward mode, and under torch.func.grad and what is built on it. vmap is allowed."""
    compiling = torch.compiler.is_compiling()
    transformed = not compiling and torch._C._are_functorch_transforms_active()
    # Tangents cannot be seen while compiling or transforming: then everything inside a forward-mode level is refused.
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
    """The Triton launchers; RuntimeError if they cannot run on this device."""
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
    """The module `native` or `blocked`; RuntimeError if `native` was asked for and cannot run."""
    if impl == "blocked" or device.type != "cpu":
        return blocked
    error = native.compiler_error()
    if error is not None and impl == "native":
        raise RuntimeError(f"impl='native' cannot run here: {error}; use impl='blocked'")
    return native if error is None else blocked


def final(*tensors: Tensor) -> bool:
    """Whether a backward pass is `unwatched` and cannot be differentiated again, which only an operator refuses."""
    return not torch.is_grad_enabled() and unwatched(*tensors)
