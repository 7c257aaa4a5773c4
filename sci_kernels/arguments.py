"""Checks of arguments that the public functions share, from metadata alone, and the choice of an implementation."""

import importlib.util
import math
import numbers

import torch
from torch import Tensor

from . import native
from .constants import IMPLS

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...] = FLOATS) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor; got {type(tensor).__name__}")
    if tensor.dtype not in dtypes:
        *names, last = (str(dtype).removeprefix("torch.") for dtype in dtypes)
        expected = f"{', '.join(names)} or {last}"
        raise TypeError(f"{name}: expected {expected}; got {tensor.dtype}; convert it, as by .float()")
    if tensor.is_nested:
        raise TypeError(f"{name}: expected a dense tensor; got a nested one; give its images one by one")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor; got layout {tensor.layout}; convert it by .to_dense()")


def check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name}: expected the device of {other_name}, {other.device}; got {tensor.device}")


def check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number; got {type(value).__name__}")
    # Comparisons rather than math.isfinite: torch.compile traces a module's numbers as symbols.
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name}: expected a finite number; got {value}")


def resolve_impl(impl: str, tensor: Tensor) -> str:
    """The implementation for `ops`. If the caller named one, it is that one or an error, never another."""
    if impl not in IMPLS:
        raise ValueError(f"impl: expected one of {', '.join(IMPLS)}; got {impl!r}")
    if impl == "triton" and tensor.device.type not in ("cuda", "cpu"):
        raise ValueError(
            f"impl: 'triton' needs tensors on a CUDA or ROCm device, or on a CPU to be interpreted; got one on "
            f"{tensor.device}; move it, or use impl='blocked'"
        )
    if impl == "native" and tensor.device.type != "cpu":
        raise ValueError(
            f"impl: 'native' needs tensors on a CPU; got one on {tensor.device}; move it, or use impl='auto'"
        )
    # On a CPU "auto" stays: an exported program may run on another machine, and chooses native or blocked there.
    return "triton" if impl == "auto" and tensor.device.type == "cuda" and _HAS_TRITON else impl


def default_impl(device: str | torch.device) -> str:
    """The implementation that `impl="auto"` chooses for tensors on `device`: "triton", "native" or "blocked"."""
    kind = torch.device(device).type
    if kind == "cpu":
        return "native" if native.compiler_error() is None else "blocked"
    return "triton" if kind == "cuda" and _HAS_TRITON else "blocked"


def _has_triton() -> bool:
    try:
        return importlib.util.find_spec("triton") is not None
    except ValueError:  # sys.modules["triton"] is None: its import has been blocked
        return False


_HAS_TRITON = _has_triton()
