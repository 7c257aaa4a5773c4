"""Releases of PyTorch and Triton that the kernels are not for, and what an environment's settings may not change."""

import os
import subprocess
import sys

import pytest

from sci_kernels import versions
from tests.conftest import ROOT, interpreter_fault

pytestmark = pytest.mark.xdist_group("versions")  # what takes seconds to be said is said once

OLDER = [
    ("triton", "3.3.1", "Triton 3.4 to 3.9"),
    ("torch", "2.7.1+cpu", "PyTorch 2.8 to 2.15"),
    ("triton", "", "Triton"),
]
NEWER = [("triton", "3.10.0", "Triton 3.4 to 3.9"), ("torch", "3.0.0", "PyTorch 2.8 to 2.15")]
# A process for each release, which comes from one that has imported everything but the library: that takes seconds.
KERNELS = """
import os, sys, warnings, torch, triton

def use():
    import sci_kernels
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
        print(*[warning.message for warning in seen], sep="|", flush=True)

for module, version in zip(sys.argv[1::2], sys.argv[2::2]):
    process = os.fork()
    if not process:
        sys.modules[module].__version__ = version
        use()
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, (module, version)
"""


@pytest.fixture(scope="module")
def said() -> dict[tuple[str, str], list[str]]:
    """What two uses of the kernels say where a module claims to be another release: errors, then warnings, of each."""
    pytest.importorskip("triton")
    if not hasattr(os, "fork"):
        pytest.skip("pretends in processes that are forked")
    pretended = [(module, version) for module, version, _ in OLDER + NEWER]
    command = [sys.executable, "-c", KERNELS, *(text for pair in pretended for text in pair)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    return {pair: lines[4 * k : 4 * k + 4] for k, pair in enumerate(pretended)}


@pytest.mark.parametrize(("module", "version", "known"), OLDER)
def test_an_older_release_is_named_when_the_kernels_are_first_used(said, module, version, known):
    first, _, again, _ = said[module, version]
    assert first == again and first.startswith("impl='triton' cannot run here: ")
    assert (version or "no version") in first and known in first and "impl='blocked'" in first


@pytest.mark.parametrize(("module", "version", "known"), NEWER)
def test_a_newer_release_is_named_once_and_tried(said, module, version, known):
    if reason := interpreter_fault():
        pytest.skip(reason)
    first, warning, again, silence = said[module, version]
    assert first == again
    assert version in warning and known in warning and warning.count("|") == 0 and silence == ""


@pytest.mark.parametrize("version", ["3.4.0", "3.9.1+gitabc", "3.6.0rc1"])
def test_releases_within_the_bounds_pass(version, recwarn):
    versions.check(versions.TRITON, version)
    assert not recwarn.list
