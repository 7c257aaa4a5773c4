"""Silence while pictures are decoded: no Python warnings, and no messages of C libraries on file descriptor 2."""

import contextlib
import logging
import os
import sys
import threading
import warnings

_STDERR = 2
# Without a handler of their own, their log messages would go to `sys.stderr`.
for _name in ("PIL", "imagecodecs", "pillow_heif"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _Quiet:
    """A context without warnings and without messages of C libraries, as long as any thread is in it.

    One instance counts the threads: `warnings.catch_warnings` in two threads mixes up the filters, and two redirections
    of one descriptor would do the same. Pillow warns above half the size that it refuses, which photographs reach, and
    before most of its errors; libtiff and LibRaw print what they find wrong. These messages are discarded only if
    `sys.stderr` has a descriptor of its own, see `own_stderr`.
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
        """A child process has none of the threads that were in the context, and must not stay silent for them."""
        if self._within:
            self._filters.__exit__(None, None, None)
        self._lock, self._within = threading.Lock(), 0
        self._restore()


quiet = _Quiet()


def own_stderr() -> None:
    """Give `sys.stderr` a descriptor of its own, so that `quiet` may discard what C libraries write to 2."""
    if not _written_by_python():
        return
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding=encoding, errors="backslashreplace")


def _written_by_python() -> bool:
    """Whether `sys.stderr` writes to descriptor 2."""
    try:
        return sys.stderr.fileno() == _STDERR
    except (AttributeError, OSError, ValueError):  # there is none, it is closed, or in memory as in notebooks
        return False


def _redirect() -> int | None:
    """Point descriptor 2 to the null device; returns a copy of the old one, or None if it was closed."""
    try:
        saved = os.dup(_STDERR)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    return saved
