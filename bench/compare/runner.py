"""Runs one case by every provider: first calls and parity, then each part, timed in turns.

Whatever goes wrong becomes a row, too.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.machine import free_memory

from ..measure import (
    Repeated,
    Row,
    Timing,
    extra_memory,
    milliseconds,
    peak_gpu_memory,
    profiled,
    sets_needed,
    take_turns,
)
from ..measure import count_calls as calls_of
from .cases import Case, Operation, function_of, part_call
from .host_overhead import median_beyond_kernels
from .mixed_sizes import stream_time
from .parity import expected_results, small_error, timed_results
from .printed_row import row_text

# Eager operators do not depend on the size; a static graph is compiled for each, as its first call shows already.
_SAME_AT_EVERY_SIZE = ("reference", "pairs", "compiled", "written-out")


@dataclass
class Subject:
    """A provider whose results agree with the reference's."""

    function: Operation
    first_seconds: float
    cached: bool = False  # the first call found its kernels compiled
    # Seconds of the first call at another size and of those after it; None where the size does not matter.
    new_size: tuple[float, float] | None = None

    def first_call_times(self) -> Row:
        """What a row tells of first calls."""
        first, steady = self.new_size or (None, None)
        ratio = first / steady if first is not None and steady is not None else None
        name = "first_call_cached_s" if self.cached else "first_call_s"
        return {name: self.first_seconds, "new_size_s": first, "new_size_ratio": ratio}


@dataclass
class Comparison:
    """What all cases of a run share, and the rows that they result in."""

    device: str
    providers: list[str]
    parts: list[str]
    repeats: int
    check: bool  # parity alone
    deadline: float  # of time.perf_counter(): no provider is started after it
    copy_rate: float  # bytes per second
    rows: list[Row]
    save: Callable[[], None]
    memory: int = 24 << 30  # bytes for which the largest image is planned
    cached: bool = False  # Triton's kernels may have been compiled before
    failed: bool = False
    functions: dict[tuple[str, str | None], Operation] = field(default_factory=dict)
    counted: list[tuple[Case, Row]] = field(default_factory=list)  # rows whose calls are still to be counted

    def run(self, case: Case) -> None:
        """Compare, then time, one case."""
        print(f"\n{case}", flush=True)
        subjects = self._first_calls(case)
        if self.check or not subjects:
            return
        sets = sets_needed(case.input_bytes, self.device)
        inputs = [case.inputs(self.device, seed) for seed in range(sets)]
        for part in self.parts:
            self._time(case, part, subjects, inputs)
            self.save()

    def _first_calls(self, case: Case) -> dict[str, Subject]:
        """The providers that ran and agree with the reference; none at all if one of them does not agree."""
        if self._too_large(case):
            return {}
        inputs, cotangents = case.inputs(self.device), case.cotangents(self.device)
        expected = expected_results(case, inputs, cotangents, lambda provider: self._shortage(case, provider) is None)
        subjects: dict[str, Subject] = {}
        wrong: list[str] = []
        for provider in self.providers:
            with self._guarded(case, provider, None):
                self._refuse_if_hopeless(case, provider)
                if expected is None and provider.startswith("compiled"):
                    raise _Refused("not measured: nothing that it could be compared with fits into memory")
                function = self._function(case, provider)
                first, got = timed_results(function, inputs, cotangents, self.device)
                error = small_error(case, provider, function, self.device)
                if expected is not None:
                    error = max(error, case.error(got, expected))
                print(f"  {provider:17} parity {error:.1e}, first call {first:.3f} s", flush=True)
                if error > case.tolerance:
                    wrong.append(f"{provider} {error:.1e}")
                    continue
                subjects[provider] = Subject(function, first, self.cached and provider in ("triton", "ours"))
                if not self.check and provider not in _SAME_AT_EVERY_SIZE:
                    self._new_size(case, subjects[provider])
        if wrong:
            self.failed = True
            self._add(case, None, None, f"not timed: parity above {case.tolerance:.1e} of {', '.join(wrong)}")
            return {}
        return subjects

    def _function(self, case: Case, provider: str) -> Operation:
        """One function for all sizes: what it has compiled for one size serves the next."""
        key = (provider, case.color)
        if key not in self.functions:
            self.functions[key] = function_of(case.op, *key)
        return self.functions[key]

    def _new_size(self, case: Case, subject: Subject) -> None:
        other = case.another_size()
        inputs, cotangents = other.inputs(self.device), other.cotangents(self.device)
        first, *later = (timed_results(subject.function, inputs, cotangents, self.device)[0] for _ in range(4))
        subject.new_size = first, sorted(later)[1]

    def _time(self, case: Case, part: str, subjects: dict[str, Subject], inputs: list[list[Tensor]]) -> None:
        cotangents = case.cotangents(self.device)
        calls: dict[str, Repeated] = {}
        memory: dict[str, int | None] = {}
        for provider, subject in subjects.items():
            with self._guarded(case, provider, part):
                self._refuse_if_hopeless(case, provider, len(inputs) if part.startswith("backward") else 1)
                call = part_call(subject.function, part, inputs, cotangents)
                memory[provider] = self._memory(case, provider, part, call)
                calls[provider] = Repeated(call, len(inputs), self.device)
        times = take_turns(calls, self.repeats, self.device)
        breakdowns = self._breakdowns(subjects, calls, inputs) if part == "step" else {}
        for provider, (called, queued) in times.items():
            row = self._times(case, part, called, queued) | {"extra_bytes": memory[provider]}
            if self.device != "cpu":
                row["latency_ms"] = 1e3 * calls[provider].latency(self.repeats)
            elif provider == "native" or (provider == "ours" and part != "step"):
                row["beyond_kernel_ms"] = 1e3 * median_beyond_kernels(calls[provider].seconds, self.repeats)
            row["times_faster_than"] = {
                other: theirs.median / called.median for other, (theirs, _) in times.items() if other != provider
            }
            if part == case.main_part:
                row |= subjects[provider].first_call_times() | self._stream(case, provider, subjects[provider], called)
            if part == "step":
                row |= self._step_numbers(case, provider, row["extra_bytes"], breakdowns.get(provider))
            self._add(case, provider, part, "ok", **row)

    def _times(self, case: Case, part: str, called: Timing, queued: Timing | None) -> Row:
        moved = case.moved_bytes(part)
        rate = moved and moved / (queued or called).median
        return {
            "ms": milliseconds(called),
            "device_ms": queued and milliseconds(queued),
            "repeats": called.repeats,
            "gb_per_s": rate and rate / 1e9,
            "copy_share": rate and rate / self.copy_rate,
        }

    def _stream(self, case: Case, provider: str, subject: Subject, called: Timing) -> Row:
        """The time for images of 20 sizes. A static graph is compiled for each, which takes as long as a first call."""
        if case.op == "step":
            return {}
        compiling = subject.first_seconds if provider == "compiled" else 0.0
        left = self.deadline - time.perf_counter()
        return stream_time(subject.function, case, self.device, called.median, compiling, left)

    def count_calls(self) -> None:
        """Adds to each row the number of kernels or operators of a call.

        This comes last, since calls may be slower after a profiler has run.
        """
        for case, row in self.counted:
            if self.device == "cpu" and row["provider"].startswith("compiled"):
                continue  # its compiled code does not call operators
            with contextlib.suppress(torch.OutOfMemoryError):
                function = self._function(case, row["provider"])
                call = part_call(function, row["part"], [case.inputs(self.device)], case.cotangents(self.device))
                call(0)
                count = calls_of(profiled(functools.partial(call, 0), self.device), self.device)
                row[self._calls_name] = count
                name = self._calls_name.replace("_", " ")
                print(f"{case}: {count} {name} for {row['part']} by {row['provider']}", flush=True)
                self.save()

    @property
    def _calls_name(self) -> str:
        return "operator_calls" if self.device == "cpu" else "launches"

    def _breakdowns(
        self, subjects: dict[str, Subject], calls: dict[str, Repeated], inputs: list[list[Tensor]]
    ) -> dict[str, dict[str, float]]:
        """Median milliseconds of the parts of a step, measured in turns; what is compiled as one graph has no parts."""
        from ..networks import TrainingStep  # here, since networks need packages that the operators do without

        functions = {name: subjects[name].function for name in calls if not name.startswith("compiled")}
        steps = {name: step for name, step in functions.items() if isinstance(step, TrainingStep)}
        turns = [{name: step.breakdown(*inputs[0]) for name, step in steps.items()} for _ in range(self.repeats)]
        return {
            name: {part: 1e3 * statistics.median(turn[name][part] for turn in turns) for part in turns[0][name]}
            for name in steps
        }

    def _step_numbers(self, case: Case, provider: str, extra: int | None, breakdown: dict[str, float] | None) -> Row:
        """The times of a step's parts, its bytes per pixel, and the largest image planned to fit in `memory`."""
        from ..networks import planned_largest  # here as well

        a_pixel = None if extra is None else (extra + case.input_bytes) / case.pixels
        largest = planned_largest(provider, self.memory)
        return {"breakdown_ms": breakdown, "bytes_a_pixel": a_pixel, "largest_planned": largest}

    def _memory(self, case: Case, provider: str, part: str, call: Callable[[int], object]) -> int | None:
        if self.device != "cpu":
            return peak_gpu_memory(lambda: call(0))
        if part != case.main_part or provider.startswith("compiled"):
            return None  # measuring it takes a separate process, which only the whole operation is worth
        dtype = str(case.dtype).removeprefix("torch.")
        return extra_memory(
            "bench.compare.cases:memory_call", case.op, provider, case.color, case.height, case.width, dtype
        )

    def _too_large(self, case: Case) -> bool:
        """Whether not even the inputs fit into memory; then every provider gets a row that says so."""
        # They are made from as many random numbers, in float32 at least.
        inputs = 2 * case.input_bytes * max(4, case.dtype.itemsize) // case.dtype.itemsize
        free = free_memory(self.device)
        if inputs <= 0.9 * free:
            return False
        for provider in self.providers:
            self._add(case, provider, None, _shortage_text(inputs + case.needed_bytes(provider), free))
        return True

    def _shortage(self, case: Case, provider: str, sets: int = 1) -> str | None:
        """Why a provider's memory does not suffice; None where it does."""
        needed, free = case.needed_bytes(provider, sets), free_memory(self.device)
        if needed <= 0.9 * free:
            return None
        return _shortage_text(needed, free)

    def _refuse_if_hopeless(self, case: Case, provider: str, sets: int = 1) -> None:
        """Raises _Refused where no time is left or too little memory."""
        if time.perf_counter() > self.deadline:
            raise _Refused("not measured: the time given by --seconds is up")
        if shortage := self._shortage(case, provider, sets):
            raise _Refused(shortage)

    @contextlib.contextmanager
    def _guarded(self, case: Case, provider: str, part: str | None) -> Iterator[None]:
        """Turns an error of one provider into a row, so that the others can go on."""
        try:
            yield
        except _Refused as error:
            self._add(case, provider, part, str(error))
        except Exception as error:
            # On a CPU, PyTorch raises a plain RuntimeError when memory runs out.
            if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
                self._add(case, provider, part, "out of memory")
            else:
                self.failed = True
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                self._add(case, provider, part, f"failed: {type(error).__name__}: {reason}")

    def _add(self, case: Case, provider: str | None, part: str | None, status: str, **numbers: object) -> None:
        """Adds a row; `provider` and `part` are None where it is about all of them."""
        dtype = str(case.dtype).removeprefix("torch.")
        row: Row = {"op": case.op, "width": case.width, "height": case.height, "dtype": dtype, "color": case.color}
        row |= {"provider": provider, "part": part, "status": status} | numbers
        if status == "ok":
            row[self._calls_name] = None
            self.counted.append((case, row))
        self.rows.append(row)
        print("  " + row_text(row), flush=True)


def _shortage_text(needed: int, free: int) -> str:
    return f"refused: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"


class _Refused(Exception):
    """A provider is not tried; the message becomes the status of its row."""
