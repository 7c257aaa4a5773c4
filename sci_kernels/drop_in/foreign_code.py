"""The state of PyTorch in which somebody else's loss is run, whatever the program has set."""

import contextlib
import operator
import random
import threading
import unittest.mock
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

# The settings are those of the whole process, so only one thread at a time may change them.
_LOCK = threading.RLock()


@contextlib.contextmanager
def foreign_code(device: str) -> Iterator[None]:
    """Gradients on, autocast off, float32 products without TF32, new tensors in float32 on `device`.

    All of these settings, and the random states, are restored afterwards. Without CUDA, `tensor.cuda()` returns the
    tensor itself: the official color transform calls it.
    """
    with _LOCK, contextlib.ExitStack() as stack:
        stack.enter_context(random_states_kept())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # This mode costs time at every call: it is entered only if the program has set another default device.
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
    """`foreign_code` in one thread: on tensors as small as probes, waiting for others would take most of the time."""
    with foreign_code(device), contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        yield


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Restores the random states of PyTorch (on the CPU and the current GPU), NumPy and Python."""
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
    # One by one, since the common setting cannot be read if they differ. By name, since PyTorch's types lack them.
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
