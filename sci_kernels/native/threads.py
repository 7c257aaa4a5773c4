"""Runs C functions on the threads that PyTorch computes with.

The threads of PyTorch's OpenMP runtime spin for a while after each of its loops, so that other threads would have to
share the processor's cores with them. Hence the bands of a kernel run on the same threads, by `GOMP_parallel`, which
the runtimes of GCC, LLVM and Intel all have. It is searched for in the libraries that are loaded already: a second
runtime would start a second set of threads. The bands run on Python threads if PyTorch does not use OpenMP or hides it,
and in a forked process, which inherits the runtime's records of its threads, but not the threads.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import torch

from .build import library

_MIN_ELEMENTS = 1 << 15  # of a band: with fewer, waking a thread takes longer than it saves
_FORKED_AND_NOT_EXECUTED = 0x40  # PF_FORKNOEXEC of Linux


class _Runtime(ctypes.Structure):
    """As in `threads.c`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("GOMP_parallel", "omp_in_parallel", "omp_get_thread_num")]


def in_bands(function: Callable[..., int], problem: ctypes.Structure, rows: int, width: int) -> None:
    """Calls function(&problem, first, end) for bands that together are all rows, of `width` elements each.

    The bands depend only on the sizes and on PyTorch's number of threads. MemoryError if a call does not return 0.
    """
    threads = torch.get_num_threads()
    bands = max(1, min(threads, rows, rows * width // _MIN_ELEMENTS))
    if bands == 1:
        failed = function(ctypes.byref(problem), ctypes.c_int64(0), ctypes.c_int64(rows))
    elif os.getpid() == _PROCESS and (openmp := _openmp()):
        # All threads, as in PyTorch's own loops: libgomp ends those that a region does not use, and starts them again.
        failed = openmp(function, ctypes.byref(problem), rows, bands, threads)
    else:
        failed = _on_python_threads(function, problem, rows, bands)
    if failed:
        raise MemoryError("the native kernels could not allocate the rows that they work on")


def _on_python_threads(function: Callable[..., int], problem: ctypes.Structure, rows: int, bands: int) -> bool:
    """Returns whether a call failed.

    `problem.tensors` keeps the tensors alive: an interrupted caller drops them while threads still write.
    """
    bounds = [ctypes.c_int64(rows * band // bands) for band in range(bands + 1)]
    failed = [True] * bands

    def run(band: int) -> None:
        failed[band] = function(ctypes.byref(problem), bounds[band], bounds[band + 1]) != 0

    threads = [Thread(target=run, args=(band,)) for band in range(1, bands)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    return any(failed)


@functools.cache
def _openmp() -> Callable[..., int] | None:
    """`run_in_bands` of `threads.c` on PyTorch's OpenMP runtime; None if that is not found."""
    # In the order in which PyTorch's own calls were bound: the global symbols, then PyTorch's libraries.
    for path in (None, torch._C.__file__):
        with contextlib.suppress(OSError, AttributeError):  # not loaded, or without these functions
            loaded = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
            addresses = [ctypes.cast(getattr(loaded, name), ctypes.c_void_p) for name, *_ in _Runtime._fields_]
            if _is_that_of_pytorch(loaded):
                run = library("threads.c").run_in_bands
                run.argtypes = [*3 * [ctypes.c_void_p], *2 * [ctypes.c_int64], ctypes.c_uint]
                return functools.partial(run, ctypes.pointer(_Runtime(*addresses)))
    return None


def _is_that_of_pytorch(openmp: ctypes.CDLL) -> bool:
    """Whether PyTorch sees a number of threads that is set in this runtime, for the calling thread only."""
    before = openmp.omp_get_max_threads()
    other = before - 1 or 2
    try:
        openmp.omp_set_num_threads(other)
        return before != other == torch.get_num_threads()
    finally:
        openmp.omp_set_num_threads(before)


def _is_forked() -> bool:
    """Whether this process was forked and has executed no program since; False if the system does not say so."""
    try:
        flags = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[6]
    except OSError:
        return False
    return bool(int(flags) & _FORKED_AND_NOT_EXECUTED)


_PROCESS = None if _is_forked() else os.getpid()
