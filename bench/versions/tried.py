"""The releases that are tried: of Triton alone, and of everything in whole environments.

Their ends are the bounds in `sci_kernels/versions.py`. PyTorch asks for one release of Triton exactly, so each
environment has that.
"""

import re
from typing import NamedTuple

from ..measure import ROOT

FOLDER = ROOT / ".tried"  # where they are put; git ignores it


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
# The pinned one first: the others' instructions are compared with its.
TRITONS = (PINNED_TRITON, "3.4.0", "3.6.0", "3.9.0")

ENVIRONMENTS = (
    Environment("3.10", "2.8.0", "3.4.0", "2.2.6"),
    Environment("3.12", "2.11.0", "3.6.0", "2.3.5"),
    Environment("3.11", _pinned("torch"), PINNED_TRITON, _pinned("numpy")),
    Environment("3.13", "2.15.0", "3.9.0", "2.5.5"),
)
