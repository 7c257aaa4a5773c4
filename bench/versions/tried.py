"""The supported versions that are tried: releases of Triton by themselves, and whole environments.

The oldest and newest of them are the bounds in `sci_kernels/versions.py`. PyTorch requires one exact release of Triton,
so each environment has that one.
"""

import re
from typing import NamedTuple

from ..measure import ROOT

FOLDER = ROOT / ".tried"  # where they are installed; git ignores it


class Environment(NamedTuple):
    """A Python and what is installed into it."""

    python: str
    torch: str
    triton: str
    numpy: str

    def __str__(self) -> str:
        return f"Python {self.python}, PyTorch {self.torch}, Triton {self.triton}, NumPy {self.numpy}"


def _pinned(package: str) -> str:
    """The release that constraints.txt names."""
    found = re.search(rf"^{package}==([\w.]+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    if found is None:
        raise ValueError(f"constraints.txt: expected a line {package}==VERSION; found none; restore it")
    return found[1]


PINNED_TRITON = _pinned("triton")
# The pinned release comes first, since the instructions of the others are compared with its instructions.
TRITONS = (PINNED_TRITON, "3.4.0", "3.6.0", "3.9.0")

ENVIRONMENTS = (
    Environment("3.10", "2.8.0", "3.4.0", "2.2.6"),
    Environment("3.12", "2.11.0", "3.6.0", "2.3.5"),
    Environment("3.11", _pinned("torch"), PINNED_TRITON, _pinned("numpy")),
    Environment("3.13", "2.15.0", "3.9.0", "2.5.5"),
)
