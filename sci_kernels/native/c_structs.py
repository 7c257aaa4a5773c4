"""The C sources' `problem`, as ctypes structures: addresses of tensors, sizes and numbers."""

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
    """The structure of these pointers, 64-bit integers and `real`s, in this order; a length of 0 means no array."""
    real = _REALS[double]

    class Problem(ctypes.Structure):
        _fields_ = [
            *((name, ctypes.c_void_p) for name in pointers),
            *((name, ctypes.c_int64) for name in integers),
            *((name, real * length if length else real) for name, length in reals),
        ]

    return Problem


def addresses(tensors: Iterable[Tensor | None]) -> list[int | None]:
    """The addresses of the tensors' memory; None for NULL."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def contiguous_in(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """The tensor, contiguous and in `dtype`, to be passed by its address: itself if it is so, else a detached copy."""
    if tensor.dtype is dtype and tensor.is_contiguous():
        return tensor
    return tensor.detach().to(dtype).contiguous()
