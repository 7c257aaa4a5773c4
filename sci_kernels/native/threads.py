"""C functions on as many threads as PyTorch would use."""

import ctypes
from collections.abc import Callable
from threading import Thread

import torch

_MIN_ELEMENTS = 1 << 15  # starting a thread takes longer than fewer


def in_bands(function: Callable[..., int], problem: ctypes.Structure, rows: int, width: int) -> None:
    """Calls function(&problem, first, end) for bands of the rows, of `width` elements each, that make up all.

    The tensors whose memory it works on are kept as `problem.tensors`: an interrupted caller lets go of them while
    threads still write. MemoryError where a call returns not 0.
    """
    count = max(1, min(torch.get_num_threads(), rows, rows * width // _MIN_ELEMENTS))
    bounds = [ctypes.c_int64(rows * band // count) for band in range(count + 1)]
    failed = [True] * count

    def run(band: int) -> None:
        failed[band] = function(ctypes.byref(problem), bounds[band], bounds[band + 1]) != 0

    threads = [Thread(target=run, args=(band,)) for band in range(1, count)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    if any(failed):
        raise MemoryError("the native kernels could not allocate the rows that they work on")
