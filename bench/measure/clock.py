"""How calls are timed on CPUs and GPUs, and what else has to be known of a device: its bandwidth, its cache.

A device is "cpu", or "cuda" for PyTorch's current GPU.
"""

import contextlib
import functools
import itertools
import math
import os
import statistics
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch

K = TypeVar("K")
MAX_SETS = 64  # of inputs: for images so small that more would be needed, launches take most of the time anyway
_BATCH_SECONDS = 2e-3
_MAX_BATCH = 50
_CYCLES_PER_SECOND = 2e9  # to tell a GPU how long to wait; its true clock matters little


class Timing(NamedTuple):
    """Seconds per call."""

    median: float
    p20: float
    p80: float
    repeats: int


def summary(values: list[float]) -> Timing:
    """The median, 20th and 80th percentile of several times."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return Timing(statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)], len(ordered))


def milliseconds(timing: Timing) -> dict[str, float]:
    """A time as rows have it."""
    return {name: 1e3 * getattr(timing, name) for name in ("median", "p20", "p80")}


class Repeated:
    """A call on rotating inputs, timed in batches that are long enough for the clock; making this warms it up."""

    def __init__(self, call: Callable[[int], object], sets: int, device: str):
        self._call, self._device = call, device
        self._turns = itertools.cycle(range(sets))
        self._batch = 1
        self._enqueued = 0.0  # seconds until all launches of a batch are queued
        self._run()
        synchronize(device)
        if device != "cpu":
            seconds = wall_seconds(self._run, device)
            self._batch = min(_MAX_BATCH, max(1, math.ceil(_BATCH_SECONDS / seconds)))
            start = time.perf_counter()
            self._run()
            self._enqueued = time.perf_counter() - start
            synchronize(device)

    def _run(self) -> None:
        for _ in range(self._batch):
            self._call(next(self._turns))

    def latency(self, repeats: int) -> float:
        """Median seconds from a call to its results while the device does nothing else."""
        call = lambda: self._call(next(self._turns))  # noqa: E731
        return summary([wall_seconds(call, self._device) for _ in range(repeats)]).median

    def seconds(self, queued: bool = False) -> float:
        """Seconds per call. With `queued`, the GPU starts once all launches are queued: Python's time does not count.

        A call that itself waits for the GPU, as for a copy to it, cannot be queued ahead.
        """
        if self._device == "cpu":
            return wall_seconds(self._run, self._device) / self._batch
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        synchronize(self._device)
        if queued:
            torch.cuda._sleep(int(1.5 * self._enqueued * _CYCLES_PER_SECOND))
        start.record()
        self._run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / self._batch


def take_turns(calls: Mapping[str, Repeated], repeats: int, device: str) -> dict[str, tuple[Timing, Timing | None]]:
    """Times (as called, with launches queued) of each call, measured a, b, a, b, ...; on a CPU the second is None."""
    modes = (False,) if device == "cpu" else (False, True)
    clocks = {
        (name, queued): functools.partial(call.seconds, queued) for name, call in calls.items() for queued in modes
    }
    times = _in_turns(clocks, repeats)
    return {name: (times[name, False], times.get((name, True))) for name in calls}


def interleave(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm: bool = True, device: str = "cpu"
) -> dict[str, Timing]:
    """Times of calls that are slow enough for the clock, measured a, b, a, b, ...; each waits for the device.

    With `warm`, each is called once before. Without it they must have been called already.
    """
    if warm:
        for call in calls.values():
            call()
    return _in_turns({name: functools.partial(wall_seconds, call, device) for name, call in calls.items()}, repeats)


def _in_turns(clocks: Mapping[K, Callable[[], float]], repeats: int) -> dict[K, Timing]:
    """What each clock says. They are read in turns, so that a busy moment of the machine slows all of them."""
    seconds: dict[K, list[float]] = {key: [] for key in clocks}
    for _ in range(repeats):
        for key, clock in clocks.items():
            seconds[key].append(clock())
    return {key: summary(values) for key, values in seconds.items()}


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def wall_seconds(call: Callable[[], object], device: str) -> float:
    """Seconds from a call to its results."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def sets_needed(set_bytes: int, device: str) -> int:
    """The number of sets of inputs to rotate: together they take more than twice the GPU's L2 cache."""
    if device == "cpu":
        return 1
    cache = torch.cuda.get_device_properties().L2_cache_size
    return min(MAX_SETS, max(2, 2 * cache // set_bytes + 1))


def copy_bandwidth(device: str) -> float:
    """Bytes per second, read and written, of a copy that is much larger than any cache."""
    count = (2**28 if device == "cpu" else 2**29) // 4
    source = torch.rand(count, device=device)
    target = torch.empty_like(source)
    copy = Repeated(lambda _: target.copy_(source), 1, device)
    return 2 * 4 * count / summary([copy.seconds(queued=True) for _ in range(9)]).median


@contextlib.contextmanager
def fresh_compilers(torch_compile: bool, keep_triton: bool = False) -> Iterator[None]:
    """Within this context compilers have empty caches, so that a first call compiles, whatever ran before.

    Args:
        torch_compile: let `torch.compile` make a graph for every size.
        keep_triton: leave Triton's own cache as it is.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sci-bench-", ignore_cleanup_errors=True))
        names = ["TORCHINDUCTOR_CACHE_DIR"] if keep_triton else ["TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"]
        caches = {name: os.path.join(folder, name) for name in names}
        stack.enter_context(unittest.mock.patch.dict(os.environ, caches))
        if torch_compile:
            from torch._dynamo import config as dynamo
            from torch._functorch import config as functorch

            stack.enter_context(dynamo.patch(recompile_limit=64))
            # A backward pass that is timed alone runs more than once on the same graph.
            stack.enter_context(functorch.patch(donated_buffer=False))
        yield
