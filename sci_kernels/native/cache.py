"""Where compiled libraries are kept: a folder that is this user's, in which nobody else may write.

What is loaded runs with all that the user may do. So the folder has to belong to the user, and so has a library in it,
and neither may be open to writing by the group or by others. Everything goes by the open folder: what is put in its
place after it was looked at is not used. A symbolic link may lead to the folder, but none to a library.

Each library has its own SHA-256 in its name, and is loaded only while it fits that: a damaged one would end the
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
    """The library kept by this name, loaded; None where there is none that can be."""
    with contextlib.suppress(OSError, RuntimeError), _opened() as folder:  # no home: RuntimeError
        for path in folder.glob(f"{name}-*.so"):
            with contextlib.suppress(OSError):  # gone by now, or of another system with the same compiler
                if path.name == f"{name}-{_digest(_read(path))}.so":
                    return ctypes.CDLL(str(path))
    return None


def keep(made: Path, name: str) -> ctypes.CDLL:
    """The new library, loaded; it is kept by this name if the folder takes it, in place of all that do not fit it."""
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
    except (OSError, RuntimeError):  # it may be full, or allow no execution
        return ctypes.CDLL(str(made))


@contextlib.contextmanager
def _opened() -> Iterator[Path]:
    """The folder, by a name that stays its own where the system has one; OSError where it cannot be used."""
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
    """The bytes of a private regular file; OSError for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # of a pipe, opening would wait
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) and _is_private(status)):
            raise PermissionError(path)
        return file.read()


def _write(path: Path, code: bytes) -> None:
    """In one step: another process may be writing the same, or this one end."""
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
