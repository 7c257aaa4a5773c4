"""Runs commands one by one or side by side, each for a limited time, and reports how they ended."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from .provenance import ROOT

_GRACE_SECONDS = 15  # between the interrupt, at which a command writes what it has measured, and the kill


class Command(NamedTuple):
    """A command that runs for a limited time."""

    name: str
    command: list[str]
    seconds: float  # at most
    log: Path | None = None  # for its output; None: that of this process
    environment: dict[str, str] | None = None  # added to that of this process


class CommandResult(NamedTuple):
    """How a command ended."""

    name: str
    status: int | None  # None: its time was up
    seconds: float


def run_command(command: Command) -> CommandResult:
    """Runs one command; it is not started if no time is left."""
    return run_together([command])[0]


def run_together(commands: list[Command]) -> list[CommandResult]:
    """Runs commands side by side. None of them outlives this function, however it ends."""
    start = time.monotonic()
    processes = []
    try:
        processes += [_started(command) if command.seconds > 0 else None for command in commands]
        return [_finished(command, process, start) for command, process in zip(commands, processes, strict=True)]
    finally:
        for process in filter(None, processes):
            _stop(process)


def _started(command: Command) -> subprocess.Popen:
    environment = os.environ | (command.environment or {})
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(command.log, "wb")) if command.log else None
        errors = subprocess.STDOUT if command.log else None
        # In a session of its own, so that its children can be stopped with it. SIGINT has to interrupt it even where
        # this process ignores that signal, as a shell's background jobs do.
        return subprocess.Popen(
            command.command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=errors,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def _finished(command: Command, process: subprocess.Popen | None, start: float) -> CommandResult:
    if process is None:
        return CommandResult(command.name, None, 0.0)
    try:
        status = process.wait(max(0.0, start + command.seconds - time.monotonic()))
    except subprocess.TimeoutExpired:
        status = None
        _stop(process)
    return CommandResult(command.name, status, time.monotonic() - start)


def _stop(process: subprocess.Popen) -> None:
    """Interrupts a process, waits a little, then ends it and its children."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def status_text(result: CommandResult) -> str:
    """A result as a line of a table."""
    if result.status is None:
        outcome = "stopped: its time was up" if result.seconds else "not started: no time was left"
    else:
        outcome = "ok" if result.status == 0 else f"FAILED with status {result.status}"
    return f"  {result.name:16} {result.seconds:6.1f} s  {outcome}"
