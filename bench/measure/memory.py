"""The peak memory of a call: on a CPU that of a separate process, on a GPU that of PyTorch's allocations."""

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from .provenance import ROOT

PREFIX = "extra bytes: "


def extra_memory(factory: str, *args: object) -> int:
    """Bytes by which one call raises the peak resident memory of a process that is started for it.

    factory: "module:function"; called with `args` (JSON values) in the new process, it prepares the data and
        returns the call to measure. The memory that is resident when it returns does not count.

    Raises RuntimeError with the last line of the process's errors if it fails.
    """
    command = [sys.executable, "-m", "bench.measure", factory, json.dumps(args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith(PREFIX):
            return int(line.removeprefix(PREFIX))
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise RuntimeError(f"{factory}: measuring its memory failed: {reason}")


def measure_here(factory: str, args: list) -> int:
    """What the process of `extra_memory` does."""
    module, function = factory.split(":")
    call = getattr(importlib.import_module(module), function)(*args)
    before = _reset_peak()
    call()
    return _peak() - before


def _reset_peak() -> int:
    """Resets the peak where the system allows that (Linux); returns the peak before the call."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Peak resident memory in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource  # not on Windows

        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage if sys.platform == "darwin" else usage * 1024


def peak_gpu_memory(call: Callable[[], object]) -> int:
    """Bytes by which a call raises the peak of what PyTorch has allocated on the GPU."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
