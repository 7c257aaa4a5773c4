"""Modules that only some formats need, imported when a picture asks for them."""

import importlib
from types import ModuleType

from ..files import ImageError


def optional(module: str) -> ModuleType | None:
    """A module, or None where it is not installed or does not load."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None


def need(path: object, kind: str, module: str, package: str) -> ModuleType:
    """A module without which a picture cannot be read.

    Args:
        path: of the picture.
        kind: what it is, with its article.
        package: what to install.

    Raises:
        ImageError: it is not installed.
    """
    found = optional(module)
    if found is None:
        raise ImageError(f"{path}: {kind}, which needs {package}; {install(package)}")
    return found


def install(package: str) -> str:
    """What to do for a module that is missing."""
    return f"pip install '.[formats]', or {package} by itself"
