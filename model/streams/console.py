"""What is said to a reader that has gone is dropped, and the work goes on: `python -m model.enhance ... | head -1`."""

import contextlib
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

from .quiet import own_stderr

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


def own_streams() -> None:
    """From here on no line on stdout or stderr ends the program, whoever reads them; to be called first in a `main`.

    Lines of C libraries that read pictures are apart from stderr and dropped, see `quiet`.
    Where the reader of a pipe has ended, or the stream was closed, what is written is dropped. What the encoding lacks,
    as some names of files do, is written as `\\udce4`. Streams that stand in the place of the program's own, as in
    tests, are left alone; a stderr that is put there afterwards is as it was made.
    """
    own_stderr()
    sys.stdout = _tolerant(_open(sys.stdout), number=1)
    # Of stderr the number may be another: libraries write to number 2 themselves, and it may have been given to them.
    sys.stderr = _tolerant(_open(sys.stderr))


def one_line_of(text: str) -> str:
    """The text in one line, and without what would steer a terminal: names of files may hold both."""
    return text.translate(_CONTROLS)


def _open(stream: TextIO | None) -> TextIO:
    """The stream; the null device for one closed by `>&-`, which is None and has no `flush` or `isatty`."""
    return open(os.devnull, "w", encoding="utf-8") if stream is None else stream


def _tolerant(stream: TextIO, number: int | None = None) -> TextIO:
    """The stream without the errors that `own_streams` names.

    One that is not Python's own comes back as it is: of a derived class, without a descriptor, or with another one than
    `number`.
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
        raw if isinstance(buffer, io.RawIOBase) else io.BufferedWriter(raw),  # raw by `python -u`
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Dropping(io.FileIO):
    """The descriptor of a stream, without the error that nobody reads it, which would come even as Python exits."""

    def __init__(self, stream: io.TextIOWrapper):
        super().__init__(stream.fileno(), "wb", closefd=False)
        self.stream = stream  # once forgotten, it would close the descriptor

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except ConnectionError:  # of a pipe, or of a socket
            return memoryview(data).nbytes
