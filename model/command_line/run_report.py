"""`--report FILE`: what became of each file of a run, as lines of JSON."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_BEGINNING = b'{"file": '


def is_report(path: Path) -> bool:
    """Whether a file was written by `RunReport`, or is empty: a photograph must be neither replaced nor appended to.

    Raises OSError if it cannot be read.
    """
    if not path.is_file():  # a pipe would wait for ever
        return False
    with open(path, "rb") as file:
        head = file.read(len(_BEGINNING))
    return not head or head == _BEGINNING


class RunReport:
    """Appends a line for each file, only whole lines, so that several processes can share one report.

    A line has `file`, `result`, `done` ("enhanced", "left", "skipped" or "failed"), `brightness_before` and
    `brightness_after` (mean luma in [0, 1]), `exposure`, `frames` (of videos), `seconds`, `notes` and `error`; unknown
    values are null. A video that is cut off or damaged counts as "enhanced" if some of it could be read, and `error`
    says what is missing.

    A line that cannot be written, as on a full disk, does not end the run: `lost` counts it, and `reason` says why.

    Args:
        path: the file; None writes nothing.

    Raises OSError if it cannot be opened.
    """

    def __init__(self, path: Path | None):
        self.path, self.lost, self.reason = path, 0, ""
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __enter__(self) -> "RunReport":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def add(
        self,
        source: Path,
        result: Path,
        done: str,
        *,
        before: float | None = None,
        after: float | None = None,
        exposure: float | None = None,
        frames: int | None = None,
        seconds: float | None = None,
        notes: Sequence[str] = (),
        error: str | None = None,
    ) -> None:
        """Append the line of one file."""
        if self._file is None:
            return
        line = {
            "file": str(source),
            "result": str(result),
            "done": done,
            "brightness_before": _rounded(before, 4),
            "brightness_after": _rounded(after, 4),
            "exposure": _rounded(exposure, 4),
            "frames": frames,
            "seconds": _rounded(seconds, 3),
            "notes": list(notes),
            "error": error,
        }
        data = (json.dumps(line) + "\n").encode()  # begins with _BEGINNING
        with _locked(self._file):
            end = os.fstat(self._file).st_size
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError as error:
                self.lost, self.reason = self.lost + 1, error.strerror or str(error)
                with suppress(OSError):
                    os.ftruncate(self._file, end)  # removes a part of the line


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """A lock among processes, if the system has one: appending in a network folder needs it."""
    with suppress(OSError):
        if sys.platform != "win32":
            fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            if sys.platform != "win32":
                fcntl.lockf(file, fcntl.LOCK_UN)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
