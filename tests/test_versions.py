"""Releases of PyTorch and Triton that the kernels are not for, and what an environment's settings may not change."""

import os
import subprocess
import sys

import pytest

from sci_kernels import versions
from tests.conftest import ROOT, interpreter_fault

PRETEND = "import torch, {module}\n{module}.__version__ = {version!r}\nimport warnings, sci_kernels\n"
KERNELS = """
x = torch.rand(1, 3, 6, 6, requires_grad=True)
for impl in ("native", "blocked", "auto"):
    sci_kernels.illumination_loss(x, x.detach() ** 2, impl=impl).backward()
    sci_kernels.retinex(x, x, x, impl=impl)
for attempt in range(2):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            sci_kernels.smooth_loss(x, x, impl="triton")
            print("ran")
        except RuntimeError as error:
            print(error)
    print(*[warning.message for warning in seen], sep="|")
"""


def lines(module: str, version: str) -> list[str]:
    """What two uses of the kernels say where a module claims to be another release: errors, then warnings, of each."""
    code = PRETEND.format(module=module, version=version) + KERNELS
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("module", "version", "known"),
    [("triton", "3.3.1", "Triton 3.4 to 3.9"), ("torch", "2.7.1+cpu", "PyTorch 2.8 to 2.15"), ("triton", "", "Triton")],
)
def test_an_older_release_is_named_when_the_kernels_are_first_used(module, version, known):
    pytest.importorskip("triton")
    first, _, again, _ = lines(module, version)
    assert first == again and first.startswith("impl='triton' cannot run here: ")
    assert (version or "no version") in first and known in first and "impl='blocked'" in first


@pytest.mark.parametrize(
    ("module", "version", "known"),
    [("triton", "3.10.0", "Triton 3.4 to 3.9"), ("torch", "3.0.0", "PyTorch 2.8 to 2.15")],
)
def test_a_newer_release_is_named_once_and_tried(module, version, known):
    if reason := interpreter_fault():
        pytest.skip(reason)
    first, warning, again, silence = lines(module, version)
    assert first == again
    assert version in warning and known in warning and warning.count("|") == 0 and silence == ""


@pytest.mark.parametrize("version", ["3.4.0", "3.9.1+gitabc", "3.6.0rc1"])
def test_releases_within_the_bounds_pass(version, recwarn):
    versions.check(versions.TRITON, version)
    assert not recwarn.list
