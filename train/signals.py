"""What Ctrl-C and SIGTERM do: the step is finished, the run is saved, and a message says how to resume it."""

import contextlib
import os
import signal
import sys


class Stopped(Exception):
    """A signal ended the run after it was saved; the message says how to resume."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


class StopSignal:
    """Within this context, the first SIGINT or SIGTERM is remembered in `number`; a second one interrupts at once."""

    number: int | None = None

    def __init__(self, quiet: bool = False):
        self._quiet = quiet  # one of several processes prints the message

    def __enter__(self) -> "StopSignal":
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        if self._quiet:
            return
        # Not print, since the signal may have come in the middle of one; and not to descriptor 2, which leads to the
        # null device while pictures are decoded or encoded, see `model.streams.own_streams`.
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it any more, or it was closed
            os.write(sys.stderr.fileno(), b"\ntrain: finishing this step, then saving; again to stop at once\n")
