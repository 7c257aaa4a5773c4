"""The versions of PyTorch and Triton that the Triton kernels are tried with, and what is said of others.

`python -m bench tritons --all` and `python -m bench environments` do the trying. The lower bounds are those that the
package asks for when it is installed; nothing keeps a newer release out, so one is allowed and named.
"""

import re
import warnings
from typing import NamedTuple


class Supported(NamedTuple):
    """The oldest and the newest release that was tried."""

    name: str
    oldest: str
    newest: str


TORCH = Supported("PyTorch", "2.8", "2.15")
TRITON = Supported("Triton", "3.4", "3.9")


class UnsupportedVersionError(ImportError):
    """A release that the kernels cannot run with; one line that says which, and which they can."""


def check(supported: Supported, version: str) -> None:
    """Raises UnsupportedVersionError for a release older than what is supported; warns of one newer than was tried."""
    known = f"the kernels support {supported.name} {supported.oldest} to {supported.newest}"
    found = release(version)
    if found < release(supported.oldest):
        raise UnsupportedVersionError(f"{supported.name} {version or 'of no version'} is installed; {known}")
    if found > release(supported.newest):
        warnings.warn(f"{supported.name} {version} is newer than what was tried; {known}", stacklevel=2)


def release(version: str) -> tuple[int, ...]:
    """(3, 6) of "3.6.0+gitabc"; an empty tuple, which compares as older than all, for what does not begin so."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else ()
