"""Files that appear whole or not at all."""

import contextlib
import functools
import hashlib
import os
import platform
import secrets
import threading
from pathlib import Path

_renaming = threading.Lock()


def write_atomically(path: str | Path, data: bytes | memoryview, exclusive: bool = False) -> None:
    """Write `data` beside `path`, flush it to the disk, then rename it into place.

    An existing file is replaced in one step, or left as it was; with `exclusive` it is always left, and FileExistsError
    raised. Raises OSError; nothing is left behind then.
    """
    path = Path(path)
    temporary = _temporary(path.parent)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path, exclusive)
    except BaseException as error:
        with contextlib.suppress(OSError):  # on a disk that is read-only by now this fails even for what is missing
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is not None:  # what the caller knows of
            error.filename, error.filename2 = str(path), None
        raise


def move(source: Path, target: Path, exclusive: bool) -> None:
    """Give a whole file its final name in the same folder; with `exclusive` FileExistsError where that is taken."""
    if not exclusive:
        os.replace(source, target)
        return
    try:
        os.link(source, target)  # fails where there is one, whoever made it
    except FileExistsError:
        raise
    except OSError:  # FAT, exFAT and some network folders have no links
        with _renaming:  # of this process; another one can still come between
            if os.path.lexists(target):
                raise FileExistsError(17, os.strerror(17), str(target)) from None
            os.rename(source, target)
    else:
        source.unlink()


def make_output_folder(folder: str | Path) -> Path:
    """The folder, made where it is missing. Raises OSError at once if it takes no file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    probe = _temporary(folder)
    try:
        probe.write_bytes(b"sci")
    except OSError as error:
        error.filename = str(folder)  # the caller knows of no other
        raise
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return folder


def ignores_case(folder: Path) -> bool:
    """Whether names that differ only by case are one file in this folder, which takes files."""
    probe = _temporary(folder)
    try:
        probe.touch(exist_ok=False)
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed have left unfinished in a folder."""
    for path in folder.glob(f".sci-{_machine()}-*.tmp"):
        process = path.name.split("-")[2]
        if process.isdecimal() and not _runs(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def _temporary(folder: Path) -> Path:
    """A new name, not derived from a file's own, which may already be as long as the file system allows."""
    return folder / f".sci-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    """Whether there is a process of this number; true where that cannot be known."""
    if os.name != "posix":  # os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
