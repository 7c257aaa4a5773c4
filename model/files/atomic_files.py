"""Write files whole or not at all: under a temporary name first, then renamed into place."""

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
    """Write `data` to a temporary file in the folder of `path`, flush it to the disk, then rename it into place.

    An existing file is replaced in one step, or stays as it was if writing fails. With `exclusive` an existing file is
    never replaced: FileExistsError is raised. On any OSError no temporary file is left behind.
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
        with contextlib.suppress(OSError):  # on a disk that has become read-only this fails even if the file is missing
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is not None:  # the caller does not know the temporary name
            error.filename, error.filename2 = str(path), None
        raise


def move(source: Path, target: Path, exclusive: bool) -> None:
    """Give a complete file its final name in the same folder.

    With `exclusive` an existing file is never replaced: FileExistsError is raised.
    """
    if not exclusive:
        os.replace(source, target)
        return
    try:
        os.link(source, target)  # fails if the name is taken, by whichever process
    except FileExistsError:
        raise
    except OSError:  # FAT, exFAT and some network folders do not support links
        with _renaming:  # only among the threads of this process: another process could still interfere
            if os.path.lexists(target):
                raise FileExistsError(17, os.strerror(17), str(target)) from None
            os.rename(source, target)
    else:
        source.unlink()


def make_output_folder(folder: str | Path) -> Path:
    """Create the folder if it is missing. Raises OSError at once if no file can be written to it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    probe = _temporary(folder)
    try:
        probe.write_bytes(b"sci")
    except OSError as error:
        error.filename = str(folder)  # the caller does not know the name of the probe
        raise
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return folder


def ignores_case(folder: Path) -> bool:
    """Whether names that differ only by case are one file in this folder, which has to be writable."""
    probe = _temporary(folder)
    try:
        probe.touch(exist_ok=False)
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files from a folder whose processes, on this machine, no longer run."""
    for path in folder.glob(f".sci-{_machine()}-*.tmp"):
        process = path.name.split("-")[2]
        if process.isdecimal() and not _runs(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def _temporary(folder: Path) -> Path:
    """A new name. It is not derived from the final one, which may already be as long as the file system allows."""
    return folder / f".sci-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    """Whether a process with this number runs; True if that cannot be known."""
    if os.name != "posix":  # os.kill would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
