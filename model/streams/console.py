"""What is said to a reader that has gone is dropped, and the work goes on: `python -m model.enhance ... | head -1`."""

import contextlib
import io
import os
import stat
import sys

from .silence import own_stderr

_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


def own_streams() -> None:
    """From here on no line on stdout or stderr ends the program, whoever reads them; to be called first in a `main`.

    Lines of C libraries that read pictures are apart from stderr and dropped, see `quiet`.
    Where the reader of a pipe has ended, or the stream was closed, what is written is dropped. What the encoding lacks,
    as some names of files do, is written as `\\udce4`. Streams that stand in the place of the program's own, as in
    tests, are left alone; a stderr that is put there afterwards is as it was made.
    """
    own_stderr()
    sys.stdout = _open(sys.stdout)
    if _number(sys.stdout) == 1:
        sys.stdout = _tolerant(sys.stdout)
    # Of stderr the number may be another: libraries write to number 2 themselves, and it may have been given to them.
    sys.stderr = _open(sys.stderr)
    if _number(sys.stderr) is not None:
        sys.stderr = _tolerant(sys.stderr)


def one_line_of(text: str) -> str:
    """The text in one line, and without what would steer a terminal: names of files may hold both."""
    return text.translate(_CONTROLS)


def _open(stream: io.TextIOBase | None) -> io.TextIOBase:
    """The stream; the null device for one closed by `>&-`, which is None and has no `flush` or `isatty`."""
    return open(os.devnull, "w", encoding="utf-8") if stream is None else stream


def _number(stream: io.TextIOBase) -> int | None:
    """The descriptor of a stream of Python's own; what else is put there is of a derived class, or has none."""
    if type(stream) is not io.TextIOWrapper:
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError):  # in memory, or closed
        return None


def _tolerant(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.reconfigure(errors="backslashreplace")
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # by `python -u`
    mode = os.fstat(stream.fileno()).st_mode
    done = isinstance(stream.buffer if unbuffered else stream.buffer.raw, _Dropping)
    if done or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    raw = _Dropping(stream)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
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

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except ConnectionError:  # of a pipe, or of a socket
            return len(data)
