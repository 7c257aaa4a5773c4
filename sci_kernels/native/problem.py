"""What the C sources call `problem`: addresses of tensors, sizes and numbers, as ctypes structures."""

import ctypes
import functools
from collections.abc import Iterable

import torch
from torch import Tensor

_REALS = {False: ctypes.c_float, True: ctypes.c_double}


@functools.cache
def problem_type(
    double: bool, pointers: tuple[str, ...], integers: tuple[str, ...] = (), reals: tuple[tuple[str, int], ...] = ()
) -> type[ctypes.Structure]:
    """The structure of so many pointers, 64-bit integers and `real`s, in this order; a real of length 0 is no array."""
    real = _REALS[double]

    class Problem(ctypes.Structure):
        _fields_ = [
            *((name, ctypes.c_void_p) for name in pointers),
            *((name, ctypes.c_int64) for name in integers),
            *((name, real * length if length else real) for name, length in reals),
        ]

    return Problem


def addresses(tensors: Iterable[Tensor | None]) -> list[int | None]:
    """Where their memory begins; None is NULL."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def contiguous_in(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """The tensor, contiguous, in `dtype`, for its memory alone: itself where it is so, without a look at gradients."""
    if tensor.dtype is dtype and tensor.is_contiguous():
        return tensor
    return tensor.detach().to(dtype).contiguous()
