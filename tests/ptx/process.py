"""The process in which Triton compiles, while that of the tests may interpret the same kernels.

Triton decides once whether a kernel is compiled or interpreted, when it is decorated. So the executor has a process of
its own; launches are sent there. Tensors travel in shared memory: what a kernel writes, both processes see.
"""

import functools
import importlib
import os
import traceback
from pathlib import Path

import torch

from tests.ptx.memory import Fault


class Executor:
    """Runs functions in the other process, on a GPU that is not there; the first call starts it."""

    def __init__(self, cache: Path):
        """`cache`: where compiled kernels are kept; not Triton's own folder, as these have no machine code."""
        self.cache, self.process, self.pipe = cache, None, None

    def call(self, function, *args, target: str = "sm_90", images: int = 1, **options):
        """function(*args, **options), for `gpu.Gpu(target, images)`; raises what it raises."""
        if self.process is None:
            self._start()
        try:
            self.pipe.send((function, target, images, _detached(args), options))
            result, error = self.pipe.recv()
        except BaseException:  # an answer that nobody waits for would be taken for the next one
            self.close()
            raise
        if error is not None:
            raise error
        return result

    def launchers(self, target: str, images: int = 1) -> "Launchers":
        return Launchers(functools.partial(self.call, target=target, images=images))

    def _start(self) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, str(self.cache)), daemon=True)
        self.process.start()
        other.close()

    def close(self) -> None:
        if self.process is not None:
            self.pipe.close()
            self.process.terminate()
            self.process.join()
            self.process = None


class Launchers:
    """Stands for the package `sci_kernels.triton`: the same launchers, in the other process."""

    INTERPRETED = True  # else tensors on a CPU would be refused

    def __init__(self, call):
        self.call = call

    def __getattr__(self, name: str):
        return functools.partial(self.call, _launch, name)


def _launch(name: str, *args, **options):
    return getattr(importlib.import_module("sci_kernels.triton"), name)(*args, **options)


def _detached(args: tuple) -> tuple:
    """Only tensors outside of autograd can be sent; they share the memory of the given ones."""
    return tuple(arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in args)


def _serve(pipe, cache: str) -> None:
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ["TRITON_CACHE_DIR"] = cache
    torch.set_num_threads(1)
    from tests.ptx.gpu import Gpu  # imports Triton

    while True:
        try:
            function, target, images, args, options = pipe.recv()
        except EOFError:
            return
        try:
            with Gpu(target, images) as gpu:
                result, error = function(*args, **options), None
                gpu.check_written(result)
        except Fault as fault:
            result, error = None, fault
        except Exception:  # of any type, perhaps one that cannot be sent
            result, error = None, RuntimeError(f"in the executor's process:\n{traceback.format_exc()}")
        pipe.send((result, error))
