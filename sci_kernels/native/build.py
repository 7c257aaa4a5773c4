"""Compiles the C sources when they are first needed, for the processor they run on, by the installed compiler.

Triton does the same for its launchers. The libraries are kept in `$XDG_CACHE_HOME/sci_kernels` (by default in
`~/.cache/sci_kernels`), one for each source, set of flags, compiler and processor: see `cache.py`. `CC` names another
compiler, and `SCI_KERNELS_CFLAGS` adds flags. `CFLAGS` is ignored: it is often set for other programs, and may make
these kernels slower or less accurate. Windows is not supported; plain PyTorch runs there.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import cache

_SOURCES = Path(__file__).parent / "csrc"
_HEADERS = sorted(_SOURCES.glob("*.h"))
_ARM = platform.machine().lower() in ("arm64", "aarch64")
_FLAGS = ["-std=gnu11", "-O3", "-mcpu=native" if _ARM else "-march=native", "-fPIC", "-shared"]


@functools.cache
def compiler_error() -> str | None:
    """None if C can be compiled here, else the reason why not; the first call on a machine takes about a second."""
    try:
        library("smooth_loss.c", DOUBLE=0, CHANNELS=3, LIGHTS=3)
    except RuntimeError as error:
        return str(error)
    return None


@functools.cache
def library(source: str, **macros: int) -> ctypes.CDLL:
    """The shared library of a source file in csrc; RuntimeError if it cannot be compiled and loaded."""
    try:
        command = [*_compiler(), *(f"-D{name}={value}" for name, value in macros.items())]
        files = [path.read_bytes() for path in (*_HEADERS, _SOURCES / source)]
        texts = [" ".join(command).encode(), _target(), *files]
        key = hashlib.sha256(b"\0".join(texts)).hexdigest()[:24]
        name = f"{Path(source).stem}-{key}"
        return cache.find(name) or _compile([*command, str(_SOURCES / source)], name)
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{source} cannot be compiled and loaded: {error}") from error


def _compile(command: list[str], name: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="sci_kernels-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / f"{name}.so"
        _run([*command, "-o", str(made), "-lm"])
        return cache.keep(made, name)


def _compiler() -> list[str]:
    """The compiler, and the flags that are the same for all sources."""
    if os.name == "nt":
        raise RuntimeError("the C kernels do not support Windows")
    names = shlex.split(os.environ.get("CC", "")) or next(
        ([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), []
    )
    if not names or not shutil.which(names[0]):
        raise RuntimeError(f"no C compiler: {names[0] + ' (CC)' if names else 'cc, gcc or clang'} cannot be found")
    return [*names, *_FLAGS, *shlex.split(os.environ.get("SCI_KERNELS_CFLAGS", ""))]


@functools.cache
def _target() -> bytes:
    """The compiler's predefined macros, which identify it and, through -march=native, this processor."""
    return _run([*_compiler(), "-dM", "-E", "-x", "c", os.devnull])


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"the C compiler cannot be run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if "error" in line]
        raise RuntimeError(f"the C compiler failed: {lines[0] if lines else shlex.join(command)}")
    return done.stdout
