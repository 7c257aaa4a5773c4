"""Commands run one by one or side by side, each for a limited time, and what became of them."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from .provenance import ROOT

_GRACE_SECONDS = 15  # from the interrupt, on which what was measured is written, to the kill


class Step(NamedTuple):
    """A command; `environment` is added to this process's own. With `log`, its output goes there."""

    name: str
    command: list[str]
    seconds: float
    log: Path | None = None
    environment: dict[str, str] | None = None


class Result(NamedTuple):
    """`status` is None where the time ran out."""

    name: str
    status: int | None
    seconds: float


def run_step(step: Step) -> Result:
    """Runs one step; no time left means that it is not begun."""
    return run_together([step])[0]


def run_together(steps: list[Step]) -> list[Result]:
    """Runs the steps side by side. Whatever ends this function, ends them."""
    start = time.monotonic()
    processes = []
    try:
        processes += [_started(step) if step.seconds > 0 else None for step in steps]
        return [_finished(step, process, start) for step, process in zip(steps, processes, strict=True)]
    finally:
        for process in filter(None, processes):
            _stop(process)


def _started(step: Step) -> subprocess.Popen:
    environment = os.environ | (step.environment or {})
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(step.log, "wb")) if step.log else None
        errors = subprocess.STDOUT if step.log else None
        # A session of its own, so that its children can be stopped with it; interruptible even where this process,
        # as a shell's background job, is not.
        return subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=errors,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def _finished(step: Step, process: subprocess.Popen | None, start: float) -> Result:
    if process is None:
        return Result(step.name, None, 0.0)
    try:
        status = process.wait(max(0.0, start + step.seconds - time.monotonic()))
    except subprocess.TimeoutExpired:
        status = None
        _stop(process)
    return Result(step.name, status, time.monotonic() - start)


def _stop(process: subprocess.Popen) -> None:
    """Interrupts a process, waits a little, then ends it and its children."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def status_text(result: Result) -> str:
    """A result as a line of a table."""
    if result.status is None:
        outcome = "stopped: its time was spent" if result.seconds else "not begun: no time was left"
    else:
        outcome = "ok" if result.status == 0 else f"FAILED with status {result.status}"
    return f"  {result.name:16} {result.seconds:6.1f} s  {outcome}"
