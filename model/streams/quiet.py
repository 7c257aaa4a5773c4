"""Silence while pictures are decoded: Python's warnings, and lines that C libraries write to file descriptor 2."""

import contextlib
import logging
import os
import sys
import threading
import warnings

_STDERR = 2
# Without a handler of their own, what they log would go to `sys.stderr`.
for _name in ("PIL", "imagecodecs", "pillow_heif"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _Quiet:
    """No warnings, and no lines of C libraries, while any thread is within.

    Of two threads, `warnings.catch_warnings` mixes up the filters, and so would two that redirect a descriptor. Pillow
    warns at half the size at which it refuses, where photographs lie, and before most of its errors; libtiff and LibRaw
    print what they find wrong. Their lines are dropped only where `sys.stderr` goes elsewhere, see `own_stderr`.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._saved: int | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
                self._saved = None if _written_by_python() else _redirect()
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._within = max(0, self._within - 1)
            if not self._within:
                self._filters.__exit__(None, None, None)
                self._restore()

    def _restore(self) -> None:
        if self._saved is not None:
            os.dup2(self._saved, _STDERR)
            os.close(self._saved)
            self._saved = None

    def _after_fork(self) -> None:
        """The threads that were within are not in the child, which must not stay silent for them."""
        if self._within:
            self._filters.__exit__(None, None, None)
        self._lock, self._within = threading.Lock(), 0
        self._restore()


quiet = _Quiet()


def own_stderr() -> None:
    """Let `sys.stderr` write through a descriptor of its own, so that `quiet` may drop what others write to 2."""
    if not _written_by_python():
        return
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding=encoding, errors="backslashreplace")


def _written_by_python() -> bool:
    """Whether `sys.stderr` writes to descriptor 2 itself."""
    try:
        return sys.stderr.fileno() == _STDERR
    except (AttributeError, OSError, ValueError):  # none at all, closed, or in memory, as in notebooks
        return False


def _redirect() -> int | None:
    """Points descriptor 2 to nowhere; returns what it was, or None where it was closed."""
    try:
        saved = os.dup(_STDERR)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    return saved
