"""The executor of compiled kernels (tests/ptx): that it computes what a GPU would, and finds the faults it looks for.

What the project's kernels compute is tested where they are: by the tests marked `ptx`.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.ptx import arithmetic
from tests.ptx.memory import Fault

pytest.importorskip("triton")
from tests.ptx import specimens  # noqa: E402


def distance(value: np.floating, exact: Fraction) -> Fraction:
    return abs(Fraction(float(value)) - exact)


@pytest.mark.parametrize("kind, spread", [("f4", 3), ("f4", 60), ("f8", 3), ("f8", 900)])
def test_fma_rounds_once(kind, spread):
    """Against exact fractions, on sums that are hard to round: of terms that nearly cancel, of very different ones."""
    random = np.random.default_rng(0)
    a, b = ((random.random(400) + 0.5) * 2.0 ** random.integers(-spread // 2, spread // 2 + 1, 400) for _ in range(2))
    a, b = a.astype(kind), (b * random.choice([-1, 1], 400)).astype(kind)
    c = (-a * b * (1 + random.integers(-3, 4, 400) * np.finfo(kind).eps)).astype(kind)
    c[200:] *= (2.0 ** random.integers(-60, 60, 200)).astype(kind)
    for x, y, z, result in zip(a, b, c, arithmetic.fma(a, b, c), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        for other in (np.nextafter(result, -np.inf, dtype=kind), np.nextafter(result, np.inf, dtype=kind)):
            assert distance(result, exact) <= distance(other, exact)


def test_conversions_are_those_of_pytorch():
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-44, 38, 4000)
    expected = x.bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(arithmetic.f32_to_bf16(x.numpy()), expected)


def test_approximate_instructions_are_as_far_off_as_they_may_be():
    x = np.linspace(0.5, 1.5, 2000, dtype=np.float32)
    for function, exact, ulps in (
        (arithmetic.exp2, np.exp2(x.astype(np.float64)), 2),
        (arithmetic.reciprocal, 1 / x.astype(np.float64), 1),
    ):
        error = np.abs(function(x) - exact) / np.spacing(exact.astype(np.float32))
        assert ulps - 0.1 < error.max() <= ulps + 0.5
        assert np.array_equal(function(x), function(x))


def test_kernels(executor):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1000, generator=generator) for _ in range(2))
    assert torch.equal(executor.call(specimens.add, a, b, 1000, 1000).flatten(), a + b)
    for count, warps in ((256, 1), (1024, 4), (512, 8)):
        x = torch.rand(3, count, generator=generator)
        torch.testing.assert_close(executor.call(specimens.sums, x, warps), x.sum(1), rtol=1e-6, atol=0)
    x = 8 * torch.rand(4, 256, generator=generator) - 4
    expected = x.clone()
    for step in range(3):
        rows = expected[step + 1 :]
        rows.copy_(torch.where(rows > step, torch.exp2(-rows), rows * 2 + 1))
    torch.testing.assert_close(executor.call(specimens.branch, x), expected, rtol=2e-6, atol=2e-6)
    x = torch.rand(32, 32, generator=generator)
    expected = x.T - x.sum(1, keepdim=True)
    torch.testing.assert_close(executor.call(specimens.transpose, x), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "message, function, arguments",
    [
        ("writes outside every tensor", specimens.add, lambda a: (a, a, 999, 1000)),
        ("reads outside every tensor", specimens.add, lambda a: (a, a[:980].clone(), 1000, 1000)),
        ("reads what nobody has written", specimens.add_unwritten, lambda a: (a,)),
        ("leaves 4 of 4000 bytes of out_ptr unwritten", specimens.add, lambda a: (a, a, 1000, 999)),
        (r"writes what another thread reads \(a race\)", specimens.shift, lambda a: (a[:256].clone(),)),
        ("not aligned to its 16 bytes", specimens.altered_sum, lambda a: ("", "", 4)),
        ("unknown opcode add.rz.f32", specimens.altered_sum, lambda a: ("add.f32", "add.rz.f32", 0)),
        ("another thread|nobody has written", specimens.altered_sum, lambda a: ("bar.sync", "//", 0)),
        ("unknown shuffle", specimens.altered_sum, lambda a: ("bfly", "down", 0)),
    ],
    ids=["write", "read", "unwritten", "left out", "race", "misaligned", "opcode", "barrier", "shuffle"],
)
def test_faults_are_found(executor, message, function, arguments):
    with pytest.raises(Fault, match=message):
        executor.call(function, *arguments(torch.rand(1000)))


def test_other_errors_come_with_where_they_were_raised(executor):
    with pytest.raises(RuntimeError, match="in the executor's process:(.|\n)*in add(.|\n)*TypeError"):
        executor.call(specimens.add, torch.rand(4), torch.rand(4), "many", 4)


LAUNCHES = {
    "loss_forward": lambda on, x, y: on.launch_loss_forward(x, y, 0.2, "reference", 0.0, 1.0),
    "loss_backward": lambda on, x, y: on.launch_loss_backward(
        torch.ones(()), x, y, 0.2, "reference", 0.0, 1.0, True, True
    ),
    "retinex_forward": lambda on, x, y: on.launch_retinex_forward(x, y, x, torch.float32),
    "retinex_backward": lambda on, x, y: on.launch_retinex_backward(x, y, x, y, y, torch.float32),
    "batch_norm": lambda on, x, y: on.launch_batch_norm_relu(x, *torch.rand(3, x.shape[1]), y),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_addresses_of_more_than_2_to_the_31_elements(executor, name):
    """The last of as many images as that takes has the bits that it has alone."""
    generator = torch.Generator().manual_seed(3)
    channels = 1 if name.startswith("loss") else 3
    # Programs of elementwise kernels take 2048 elements or 1024 triples: none of them has a part of two images.
    shape = (1, channels, 48, 128)
    x, y = (torch.rand(shape, generator=generator) for _ in range(2))
    images = 2**32 // x.numel()
    torch.manual_seed(4)
    alone = LAUNCHES[name](executor.launchers("sm_90"), x, y)
    torch.manual_seed(4)
    last = LAUNCHES[name](executor.launchers("sm_90", images), x, y)
    for a, b in zip(*((r,) if isinstance(r, torch.Tensor) else r for r in (alone, last)), strict=True):
        assert torch.equal(a, b)


def test_offsets_of_32_bits_are_found_not_to_reach_so_far(executor):
    x = torch.rand(1, 1, 1, 1024)
    assert torch.equal(executor.call(specimens.add, x, x, 1024, 1024, images=2**20), 2 * x)
    with pytest.raises(Fault, match="far outside every tensor"):
        executor.call(specimens.add, x, x, 1024, 1024, images=2**22)
