"""Training: from a folder of dark photographs to a weight file. `python -m train --help`."""

import importlib
from typing import TYPE_CHECKING

from .errors import TrainError

if TYPE_CHECKING:
    from .config import FINETUNE_LR, Settings
    from .data import Photos
    from .memory_plan import PlannedStep, plan

# Loaded when they are first used: `train.step` alone asks for no package that decodes pictures.
_MODULES = {
    "FINETUNE_LR": "config",
    "Settings": "config",
    "Photos": "data",
    "PlannedStep": "memory_plan",
    "plan": "memory_plan",
}

__all__ = ["FINETUNE_LR", "Photos", "PlannedStep", "Settings", "TrainError", "main", "plan"]


def main(argv: list[str] | None = None) -> int:
    """What `python -m train` runs; returns its exit status."""
    from .__main__ import main as command

    return command(argv)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
