"""What a measurement depends on: machine, versions, commit; and how measurements are written to files."""

import contextlib
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from model.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]  # JSON values by name: one measurement, or what a whole file of them depends on


def write_json(path: Path, content: object) -> None:
    """Writes `content` to a file that is never seen incomplete. Raises OSError."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def save_json(path: Path, content: object) -> int:
    """As `write_json`; a file that cannot be written gives one line. Returns the exit status."""
    try:
        write_json(path, content)
    except OSError as error:
        print(f"--json: {path}: cannot be written ({error.strerror or error}); name another file", file=sys.stderr)
        return 2
    return 0


def environment() -> Row:
    """What a measurement depends on: machine, versions, commit, date."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: Row = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "vectors": torch.backends.cpu.get_cpu_capability(),  # that PyTorch uses, such as AVX2 or AVX512
        "cpus": cpus,
        "threads": torch.get_num_threads(),
        **_gpu_description(),
        "python": platform.python_version(),
    }
    for package in ("torch", "triton", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _gpu_description() -> Row:
    """The GPU's name, capability, multiprocessors, highest clock, runtime and driver; all None without a GPU."""
    found: Row = dict.fromkeys(("gpu", "capability", "multiprocessors", "clock_ghz", "runtime", "driver"))
    if torch.cuda.is_available():
        found["multiprocessors"] = torch.cuda.get_device_properties().multi_processor_count
        found["gpu"] = torch.cuda.get_device_name()
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        found["runtime"] = f"HIP {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        with contextlib.suppress(OSError):
            query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader,nounits"]
            done = subprocess.run(query, capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.count(",") >= 1:
                found["driver"], clock = (text.strip() for text in done.stdout.splitlines()[0].split(",")[:2])
                found["clock_ghz"] = int(clock) / 1e3 if clock.isdecimal() else None
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit, marked "with changes" where the working tree differs from it; SCI_COMMIT overrides it."""
    if given := os.environ.get("SCI_COMMIT"):
        return given
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + (" with changes" if changes.stdout.strip() else "")
