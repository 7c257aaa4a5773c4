"""The surroundings in which somebody else's loss is run, the same whatever the program around has set."""

import contextlib
import operator
import random
import threading
import unittest.mock
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

# What is set here is the process's: of two threads, one waits.
_LOCK = threading.RLock()


@contextlib.contextmanager
def foreign_code(device: str) -> Iterator[None]:
    """Gradients on, autocast off, products of float32 in float32, new tensors in float32 on `device`.

    All of that, and random states, are put back. Where there is no CUDA, `tensor.cuda()` returns the tensor: the
    official color transform calls it.
    """
    with _LOCK, contextlib.ExitStack() as stack:
        stack.enter_context(random_states_kept())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # A mode, which costs something at every call: only where the surroundings set another device.
        if torch.get_default_device().type not in ("cpu", device):
            stack.enter_context(torch.device(device))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        stack.enter_context(_full_precision())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            stack.enter_context(torch.autocast("cuda", enabled=False))
        else:
            stack.enter_context(unittest.mock.patch.object(Tensor, "cuda", lambda self, *args, **kwargs: self))
        yield


@contextlib.contextmanager
def probing(device: str) -> Iterator[None]:
    """`foreign_code`, in one thread: on tensors as small as a probe, waiting for a second takes most of the time."""
    with foreign_code(device), contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        yield


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """PyTorch's on the CPU and the current GPU, NumPy's and Python's."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 and no bfloat16 in products of float32."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # before PyTorch 2.9
        before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            torch.backends.cudnn.allow_tf32 = convolutions
        return
    # One by one: the setting for all of them cannot be read where they differ. By name: PyTorch declares no types here.
    names = ("cuda.matmul", "cudnn.conv", "mkldnn.matmul", "mkldnn.conv")
    settings = [operator.attrgetter(name)(torch.backends) for name in names]
    precisions = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, precisions, strict=True):
            setting.fp32_precision = precision
