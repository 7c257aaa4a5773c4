"""The C kernels: narrower vectors, extreme numbers, and what happens where C cannot be compiled."""

import contextlib
import platform

import pytest
import torch

import sci_kernels
from sci_kernels import blocked, native
from tests.native_runs import WHAT_RUNS, Forked

COMPARE = """
import torch
from sci_kernels import blocked, native
torch.manual_seed(0)
pictures = [torch.rand(2, 3, 7, 41, dtype=torch.float64) for _ in range(5)]
for dtype, bound in ((torch.float32, 5e-6), (torch.float64, 1e-13)):
    tensors = [picture.to(dtype) for picture in pictures]
    calls = [("loss", (*tensors[:2], 0.2, color, 1.5, 1.0, True, True)) for color in ("reference", "ycbcr", "rgb")]
    calls += [("retinex", tensors[:3]), ("retinex_gradient", tensors)]
    weights = torch.linspace(-0.4, 0.5, 252, dtype=torch.float64).view(3, 3, 28)
    calls += [("enhance", (tensors[0], weights, True, torch.tensor([0.0, 7.0], dtype=dtype), True))]
    calls += [("enhance", (tensors[0], weights, True))]
    for name, arguments in calls:
        for a, b in zip(getattr(native, name)(*arguments), getattr(blocked, name)(*arguments), strict=True):
            assert (a is None and b is None) or (a - b).abs().max() <= bound * b.abs().max(), (name, dtype)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with contextlib.closing(Forked(tmp_path_factory.mktemp("said"))) as forked:
        yield forked.run


@pytest.fixture(autouse=True)
def _compiler():
    if reason := native.compiler_error():
        pytest.skip(reason)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of processors are those of x86")
@pytest.mark.quick(processor=["x86-64"])
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])
def test_narrower_vectors(run, tmp_path, processor):
    if processor == "x86-64-v3" and "avx2" not in torch.backends.cpu.get_cpu_capability().lower().replace("512", "2"):
        pytest.skip("this processor has no AVX2")
    run(COMPARE, tmp_path, SCI_KERNELS_CFLAGS=f"-march={processor} -Wall -Wextra -Werror")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sigma", [1e-18, 1e-9, 1e9, 1e18, 1e25, 1e170])
def test_any_sigma(dtype, sigma):
    """Neighbors outside the image weigh nothing, even where all others weigh the same."""
    torch.manual_seed(0)
    x, light = (torch.rand(1, 3, 6, 7, dtype=dtype) for _ in range(2))
    for gradients in (True, False):
        arguments = (x, light, sigma, "ycbcr", 0.0, 1.0, gradients, gradients)
        for a, b in zip(native.loss(*arguments), blocked.loss(*arguments), strict=True):
            assert (a is None and b is None) or (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-30


def test_no_compiler_is_no_error(run, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    runs, refused = run(WHAT_RUNS, tmp_path, PATH=str(empty))
    assert runs == "blocked True"
    assert refused == (
        "impl='native' cannot run here: no C compiler: cc, gcc or clang cannot be found; use impl='blocked'"
    )


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"CC": "no-such-compiler"}, "no C compiler: no-such-compiler (CC) cannot be found"),
        ({"CC": 'gcc "unquoted'}, "cannot be compiled and loaded: No closing quotation"),
        ({"CC": "false"}, "the C compiler failed: false"),
        ({"SCI_KERNELS_CFLAGS": "-Dload=("}, "the C compiler failed: "),
    ],
)
def test_a_compiler_that_fails_is_named(run, tmp_path, environment, message):
    runs, refused = run(WHAT_RUNS, tmp_path, **environment)
    assert runs == "blocked True" and message in refused
    assert not [path for path in tmp_path.rglob("sci_kernels*/*")]


@pytest.mark.parametrize("pattern", [0x7FFFFFFF, 0x7FC00001, -1])
def test_nan_of_any_bits(pattern):
    x = torch.rand(1, 3, 9, 9)
    x.view(torch.int32)[0, 1, 4, 4] = pattern
    weights = torch.linspace(-0.4, 0.5, 252, dtype=torch.float64).view(3, 3, 28)
    assert native.enhance(x, weights, False)[0].isnan().sum() == 3 * 49
    assert native.loss(x, x, 0.3, "rgb", 0.0, 1.0, False, False)[0].isnan()
    assert native.loss(x, torch.ones_like(x), 0.3, "rgb", 0.0, 1.0, False, False)[0].isnan()


def test_public_name():
    assert sci_kernels.default_impl("cpu") == "native"
