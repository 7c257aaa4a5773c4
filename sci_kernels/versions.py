"""The versions of PyTorch and Triton that the Triton kernels are tested with. Older ones are refused.

`python -m bench tritons --all` and `python -m bench environments` run these tests. The lower bounds are also those of
the package's requirements. A newer release may be installed: it is used, with a warning.
"""

import re
import warnings
from typing import NamedTuple


class Supported(NamedTuple):
    """The oldest and the newest release that was tested."""

    name: str
    oldest: str
    newest: str


TORCH = Supported("PyTorch", "2.8", "2.15")
TRITON = Supported("Triton", "3.4", "3.9")


class UnsupportedVersionError(ImportError):
    """The kernels cannot run with an installed release; the message names it and those that they can run with."""


def check(supported: Supported, version: str) -> None:
    """Raises UnsupportedVersionError for a release that is too old; warns of one newer than those tested."""
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
