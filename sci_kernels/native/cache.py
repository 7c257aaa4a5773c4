"""The folder of the compiled libraries, in which only this user may write.

A loaded library has all the rights of the user. So the folder and the libraries in it must belong to the user, and
neither may be writable by the group or by others. All files are reached through the opened folder, so that another
folder put in its place after the check is not used. The folder may be a symbolic link, but a library may not.

A library has its own SHA-256 in its name, and is loaded only if its content matches: a damaged one could crash the
process, or compute something else.
"""

import contextlib
import ctypes
import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path


def find(name: str) -> ctypes.CDLL | None:
    """Loads the library that is kept under this name; None if there is none that can be loaded."""
    with contextlib.suppress(OSError, RuntimeError), _opened() as folder:  # RuntimeError: there is no home directory
        for path in folder.glob(f"{name}-*.so"):
            with contextlib.suppress(OSError):  # deleted meanwhile, or made on another system by the same compiler
                if path.name == f"{name}-{_digest(_read(path))}.so":
                    return ctypes.CDLL(str(path))
    return None


def keep(made: Path, name: str) -> ctypes.CDLL:
    """Loads the new library, and keeps it under this name if possible, in place of all others of that name."""
    code = made.read_bytes()
    try:
        with _opened() as folder:
            path = folder / f"{name}-{_digest(code)}.so"
            _write(path, code)
            for other in folder.glob(f"{name}-*.so"):
                if other.name != path.name:
                    with contextlib.suppress(OSError):
                        other.unlink()
            return ctypes.CDLL(str(path))
    except (OSError, RuntimeError):  # the disk may be full, or allow no execution
        return ctypes.CDLL(str(made))


@contextlib.contextmanager
def _opened() -> Iterator[Path]:
    """The folder, as a path through its descriptor where the system has such; OSError if it cannot be used."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (given if given.is_absolute() else Path.home() / ".cache") / "sci_kernels"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _is_private(os.fstat(descriptor)):
            warnings.warn(
                f"{folder} is not this user's alone to write to: the C kernels are compiled anew in each process",
                RuntimeWarning,
                stacklevel=1,
            )
            raise PermissionError(folder)
        own = Path(f"/proc/self/fd/{descriptor}")
        yield own if own.is_dir() else folder
    finally:
        os.close(descriptor)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(path: Path) -> bytes:
    """The content of a private regular file; OSError for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # opening a pipe would wait
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) and _is_private(status)):
            raise PermissionError(path)
        return file.read()


def _write(path: Path, code: bytes) -> None:
    """Writes the file in one step: another process may write the same one, and this process may be killed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    beside = Path(name)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o700)
            file.write(code)
            file.flush()
            os.fsync(descriptor)
        if path.is_dir():
            path.rmdir()
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _digest(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()
