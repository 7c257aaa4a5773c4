"""One call under torch.profiler: what it launches, which kernels take most of its time, and its trace."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from model.files import write_atomically

from .clock import synchronize


class Cost(NamedTuple):
    """The calls of a kernel on a GPU, or of an operator on a CPU without the operators that it calls."""

    name: str
    calls: int
    ms: float


def profiled(call: Callable[[], object], device: str) -> profile:
    """The finished profile of one call, which has been made before."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    synchronize(device)
    with profile(activities=activities, acc_events=True) as result:
        call()
        synchronize(device)
    return result


def count_calls(result: profile, device: str) -> int:
    """The number of kernels launched on a GPU; on a CPU, of operators called that call no others."""
    return sum(1 for _ in (_kernels(result) if device == "cuda" else _operators(result)))


def most_expensive(result: profile, device: str, count: int = 10) -> list[Cost]:
    """The kernels or operators that take most of the time, each with all its calls, most expensive first."""
    found: dict[str, list[float]] = defaultdict(list)
    if device == "cuda":
        for event in _kernels(result):
            found[event.name].append(event.device_time_total)
    else:
        for event in result.events():
            found[event.name].append(event.self_cpu_time_total)
    costs = [Cost(name, len(times), sum(times) / 1e3) for name, times in found.items()]
    return sorted(costs, key=lambda cost: -cost.ms)[:count]


def write_trace(result: profile, path: Path) -> None:
    """Writes the trace for Perfetto or chrome://tracing; the file is never seen incomplete. Raises OSError."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, f"trace{path.suffix}")  # the ending decides whether it is compressed
        result.export_chrome_trace(str(trace))
        write_atomically(path, trace.read_bytes())


def _kernels(result: profile) -> Iterator[FunctionEvent]:
    for event in result.events():
        copies = event.name.startswith(("Memcpy", "Memset"))
        if event.device_type == DeviceType.CUDA and not copies and not getattr(event, "is_user_annotation", False):
            yield event


def _operators(result: profile) -> Iterator[FunctionEvent]:
    for event in result.events():
        if _is_operator(event) and not any(_is_operator(child) for child in event.cpu_children):
            yield event


def _is_operator(event: FunctionEvent) -> bool:
    return "::" in event.name and not event.name.startswith("autograd::")
