"""Packages that only some formats need, imported when a picture needs them."""

import importlib
from types import ModuleType

from ..files import ImageError


def optional(module: str) -> ModuleType | None:
    """A module, or None if it is not installed or cannot be loaded."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None


def need(path: object, kind: str, module: str, package: str) -> ModuleType:
    """A module without which a picture cannot be read.

    Args:
        path: the picture.
        kind: what the picture is, with its article.
        package: the name to install the module by.

    Raises:
        ImageError: it is not installed.
    """
    found = optional(module)
    if found is None:
        raise ImageError(f"{path}: {kind}, which needs {package}; {install(package)}")
    return found


def install(package: str) -> str:
    """How to install a missing package."""
    return f"pip install '.[formats]', or {package} by itself"


def read_at_8_bits(bits: int) -> str:
    """The note on a picture that is read with fewer bits than it has, as imagecodecs is missing."""
    return f"{bits}-bit color, read at 8 bits; all {bits} need imagecodecs; {install('imagecodecs')}"
