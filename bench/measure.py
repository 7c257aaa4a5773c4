"""Times taken in turn, memory taken alone, and where and with what they were taken."""

import contextlib
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from .files import beside

ROOT = Path(__file__).resolve().parent.parent
_MEMORY_PREFIX = "extra bytes: "


class Timing(NamedTuple):
    """Seconds a call."""

    median: float
    p20: float
    p80: float
    repeats: int


def interleave(
    calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1, device: str = "cpu"
) -> dict[str, Timing]:
    """Time several calls in turn, a, b, a, b, ..., so that a busy moment of the machine falls on all of them.

    Every call is warmed before any is timed. On a GPU each time includes waiting for the device.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(-warmup, repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize(device)
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: summary(values) for name, values in seconds.items()}


def summary(values: list[float]) -> Timing:
    """Median, 20th and 80th percentile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return Timing(statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)], len(ordered))


def extra_memory(factory: str, *args) -> int:
    """Bytes by which one call raises the peak resident memory of a process of its own.

    factory: "module:function"; called with `args` (JSON values) in the new process, it prepares the data and
        returns the call to measure. What is resident once it has returned does not count.

    Raises RuntimeError with the last line of the process's errors if it fails.
    """
    command = [sys.executable, "-m", "bench.measure", factory, json.dumps(args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith(_MEMORY_PREFIX):
            return int(line.removeprefix(_MEMORY_PREFIX))
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise RuntimeError(f"{factory}: measuring its memory failed: {reason}")


def _measure_here(factory: str, args: list) -> int:
    module, function = factory.split(":")
    call = getattr(importlib.import_module(module), function)(*args)
    before = _reset_peak()
    call()
    return _peak() - before


def _reset_peak() -> int:
    """Forget the peak so far where the system can (Linux); returns the peak from which the call starts."""
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


def write_json(path: Path, content: object) -> None:
    """Write `content` so that the file is whole at every moment. Raises OSError."""
    with beside(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")


def environment() -> dict[str, object]:
    """What a figure depends on: machine, versions, commit, date."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": cpus,
        "threads": torch.get_num_threads(),
        **_gpu_facts(),
        "python": platform.python_version(),
    }
    for package in ("torch", "triton", "numpy"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = None
    return facts


def _gpu_facts() -> dict[str, str | float | None]:
    """Of the GPU its name, capability, multiprocessors and highest clock, runtime and driver; None where none is."""
    facts = dict.fromkeys(("gpu", "capability", "multiprocessors", "clock_ghz", "runtime", "driver"))
    if torch.cuda.is_available():
        facts["multiprocessors"] = torch.cuda.get_device_properties().multi_processor_count
        facts["gpu"] = torch.cuda.get_device_name()
        facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        facts["runtime"] = f"HIP {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        with contextlib.suppress(OSError):
            query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader,nounits"]
            done = subprocess.run(query, capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.count(",") >= 1:
                facts["driver"], clock = (text.strip() for text in done.stdout.splitlines()[0].split(",")[:2])
                facts["clock_ghz"] = int(clock) / 1e3 if clock.isdecimal() else None
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit measured, marked where the working tree differs from it; SCI_COMMIT where there is no repository."""
    if told := os.environ.get("SCI_COMMIT"):
        return told
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + (" with changes" if changes.stdout.strip() else "")


if __name__ == "__main__":
    print(f"{_MEMORY_PREFIX}{_measure_here(sys.argv[1], json.loads(sys.argv[2]))}")
