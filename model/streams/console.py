"""Let a command go on if nobody reads its output any more: `python -m model.enhance ... | head -1`."""

import contextlib
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

from .silence import own_stderr

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


def own_streams() -> None:
    """Make sure that writing to stdout or stderr never ends the program; to be called first in a `main`.

    If the reader of a pipe has ended, or the stream was closed, the output is discarded. Characters that the encoding
    lacks, as in some file names, are written as `\\udce4`. Messages of C libraries that read pictures are kept out of
    stderr and discarded, see `quiet`. Streams that replace the program's own, as in tests, are left alone.
    """
    own_stderr()
    sys.stdout = _tolerant(_open(sys.stdout), number=1)
    # stderr may have another number than 2: `own_stderr` leaves 2 to the C libraries, which write to it themselves.
    sys.stderr = _tolerant(_open(sys.stderr))


def terminal_line(text: str) -> str:
    """The text on one line, with control characters escaped: file names may hold line breaks and terminal commands."""
    return text.translate(_CONTROLS)


def _open(stream: TextIO | None) -> TextIO:
    """The stream, or the null device if it is None, which is what Python has for one closed by `>&-`."""
    return open(os.devnull, "w", encoding="utf-8") if stream is None else stream


def _tolerant(stream: TextIO, number: int | None = None) -> TextIO:
    """The stream without the errors that `own_streams` names.

    A stream that is not Python's own is returned unchanged: one of a derived class, without a descriptor, or with a
    descriptor other than `number`.
    """
    if type(stream) is not io.TextIOWrapper:
        return stream
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # in memory, or closed
        return stream
    if number not in (None, descriptor):
        return stream
    stream.reconfigure(errors="backslashreplace")
    mode = os.fstat(descriptor).st_mode
    buffer = stream.buffer
    done = isinstance(buffer.raw if isinstance(buffer, io.BufferedWriter) else buffer, _Dropping)
    if done or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    raw = _Dropping(stream)
    return io.TextIOWrapper(
        raw if isinstance(buffer, io.RawIOBase) else io.BufferedWriter(raw),  # unbuffered by `python -u`
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Dropping(io.FileIO):
    """The descriptor of a stream, without the error of a closed pipe, which would be raised even as Python exits."""

    def __init__(self, stream: io.TextIOWrapper):
        super().__init__(stream.fileno(), "wb", closefd=False)
        self.stream = stream  # kept, as it would close the descriptor when collected

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except ConnectionError:  # a closed pipe or socket
            return memoryview(data).nbytes
