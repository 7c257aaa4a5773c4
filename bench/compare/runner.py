"""One case by every provider: first calls and parity, then every part in turns; whatever happens becomes a row."""

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
from .mixed_sizes import stream_figures
from .parity import expected_results, small_error, timed_results
from .printed_row import row_text

# To eager operators every size is the same; a static graph is compiled for each, which its first call shows.
_SAME_AT_EVERY_SIZE = ("reference", "pairs", "compiled", "written-out")


@dataclass
class Subject:
    """A provider that agrees with the oracle. New-size times are None where they say nothing new."""

    function: Operation
    first_seconds: float
    cached: bool = False  # the first call found its kernels compiled
    new_size: tuple[float, float] | None = None  # seconds of the first call at another size, and of those after it

    def figures(self) -> Row:
        first, steady = self.new_size or (None, None)
        ratio = first / steady if first is not None and steady is not None else None
        name = "first_call_cached_s" if self.cached else "first_call_s"
        return {name: self.first_seconds, "new_size_s": first, "new_size_ratio": ratio}


@dataclass
class Comparison:
    """What all cases of a run share, and the rows they leave."""

    device: str
    providers: list[str]
    parts: list[str]
    repeats: int
    check: bool  # parity alone
    deadline: float  # of time.perf_counter(): no provider is begun after it
    copy_rate: float  # bytes a second
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
        """The providers that ran and agree; none of them if one disagrees."""
        if self._too_large(case):
            return {}
        inputs, cotangents = case.inputs(self.device), case.cotangents(self.device)
        expected = expected_results(case, inputs, cotangents, lambda provider: self._shortage(case, provider) is None)
        subjects: dict[str, Subject] = {}
        wrong: list[str] = []
        for provider in self.providers:
            with self._guarded(case, provider, None):
                self._refuse(case, provider)
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
        """One function for all sizes: what it has compiled for one serves the next."""
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
                self._refuse(case, provider, len(inputs) if part.startswith("backward") else 1)
                call = part_call(subject.function, part, inputs, cotangents)
                memory[provider] = self._memory(case, provider, part, call)
                calls[provider] = Repeated(call, len(inputs), self.device)
        times = take_turns(calls, self.repeats, self.device)
        breakdowns = self._breakdowns(subjects, calls, inputs) if part == "step" else {}
        for provider, (called, queued) in times.items():
            row = self._figures(case, part, called, queued) | {"extra_bytes": memory[provider]}
            if self.device != "cpu":
                row["latency_ms"] = 1e3 * calls[provider].latency(self.repeats)
            elif provider == "native" or (provider == "ours" and part != "step"):
                row["beyond_kernel_ms"] = 1e3 * median_beyond_kernels(calls[provider].seconds, self.repeats)
            row["times_faster_than"] = {
                other: theirs.median / called.median for other, (theirs, _) in times.items() if other != provider
            }
            if part == case.main_part:
                row |= subjects[provider].figures() | self._stream(case, provider, subjects[provider], called)
            if part == "step":
                row |= self._step_figures(case, provider, row["extra_bytes"], breakdowns.get(provider))
            self._add(case, provider, part, "ok", **row)

    def _figures(self, case: Case, part: str, called: Timing, queued: Timing | None) -> Row:
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
        """A compiler's time for a new size is what the first call took, or for other providers the new size."""
        if case.op == "step":
            return {}
        compiling = subject.first_seconds if provider == "compiled" else 0.0
        left = self.deadline - time.perf_counter()
        return stream_figures(subject.function, case, self.device, called.median, compiling, left)

    def count_calls(self) -> None:
        """Adds to each row what one call launches: last, since a profiler may leave the calls after it slower."""
        for case, row in self.counted:
            if self.device == "cpu" and row["provider"].startswith("compiled"):
                continue  # its own code is no operator
            with contextlib.suppress(torch.OutOfMemoryError):
                function = self._function(case, row["provider"])
                call = part_call(function, row["part"], [case.inputs(self.device)], case.cotangents(self.device))
                call(0)
                count = calls_of(profiled(functools.partial(call, 0), self.device), self.device)
                row[self._calls_name] = count
                name = self._calls_name.replace("_", " ")
                print(f"{case}: {count} {name} a {row['part']} by {row['provider']}", flush=True)
                self.save()

    @property
    def _calls_name(self) -> str:
        return "operator_calls" if self.device == "cpu" else "launches"

    def _breakdowns(
        self, subjects: dict[str, Subject], calls: dict[str, Repeated], inputs: list[list[Tensor]]
    ) -> dict[str, dict[str, float]]:
        """Median milliseconds of the parts of a step, in turns; a compiled network and loss have no parts."""
        from ..networks import TrainingStep  # here, since networks need packages that the operators do without

        functions = {name: subjects[name].function for name in calls if not name.startswith("compiled")}
        steps = {name: step for name, step in functions.items() if isinstance(step, TrainingStep)}
        turns = [{name: step.breakdown(*inputs[0]) for name, step in steps.items()} for _ in range(self.repeats)]
        return {
            name: {part: 1e3 * statistics.median(turn[name][part] for turn in turns) for part in turns[0][name]}
            for name in steps
        }

    def _step_figures(self, case: Case, provider: str, extra: int | None, breakdown: dict[str, float] | None) -> Row:
        """Where the time goes, the bytes of a pixel, and the largest image that the planner finds for `memory`."""
        from ..networks import planned_largest  # here as well

        a_pixel = None if extra is None else (extra + case.input_bytes) / case.pixels
        largest = planned_largest(provider, self.memory)
        return {"breakdown_ms": breakdown, "bytes_a_pixel": a_pixel, "largest_planned": largest}

    def _memory(self, case: Case, provider: str, part: str, call: Callable[[int], object]) -> int | None:
        if self.device != "cpu":
            return peak_gpu_memory(lambda: call(0))
        if part != case.main_part or provider.startswith("compiled"):
            return None  # it takes a process of its own
        dtype = str(case.dtype).removeprefix("torch.")
        return extra_memory(
            "bench.compare.cases:memory_call", case.op, provider, case.color, case.height, case.width, dtype
        )

    def _too_large(self, case: Case) -> bool:
        """Whether not even the inputs fit, made from as many random numbers; then every provider is a row."""
        inputs, free = (
            2 * case.input_bytes * max(4, case.dtype.itemsize) // case.dtype.itemsize,
            free_memory(self.device),
        )
        if free is None or inputs <= 0.9 * free:
            return False
        for provider in self.providers:
            self._add(case, provider, None, _shortage_text(inputs + case.needed_bytes(provider), free))
        return True

    def _shortage(self, case: Case, provider: str, sets: int = 1) -> str | None:
        needed, free = case.needed_bytes(provider, sets), free_memory(self.device)
        if free is None or needed <= 0.9 * free:
            return None
        return _shortage_text(needed, free)

    def _refuse(self, case: Case, provider: str, sets: int = 1) -> None:
        if time.perf_counter() > self.deadline:
            raise _Refused("not measured: the time given by --seconds was spent")
        if shortage := self._shortage(case, provider, sets):
            raise _Refused(shortage)

    @contextlib.contextmanager
    def _guarded(self, case: Case, provider: str, part: str | None) -> Iterator[None]:
        """Turns what goes wrong with one provider into a row; the rest goes on."""
        try:
            yield
        except _Refused as error:
            self._add(case, provider, part, str(error))
        except Exception as error:
            # On a CPU, PyTorch has only a RuntimeError for it.
            if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
                self._add(case, provider, part, "out of memory")
            else:
                self.failed = True
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                self._add(case, provider, part, f"failed: {type(error).__name__}: {reason}")

    def _add(self, case: Case, provider: str | None, part: str | None, status: str, **figures: object) -> None:
        """A row; provider and part are None where it speaks of all of them."""
        dtype = str(case.dtype).removeprefix("torch.")
        row: Row = {"op": case.op, "width": case.width, "height": case.height, "dtype": dtype, "color": case.color}
        row |= {"provider": provider, "part": part, "status": status} | figures
        if status == "ok":
            row[self._calls_name] = None
            self.counted.append((case, row))
        self.rows.append(row)
        print("  " + row_text(row), flush=True)


def _shortage_text(needed: int, free: int) -> str:
    return f"refused: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"


class _Refused(Exception):
    """Not tried; the message is the row's status."""
