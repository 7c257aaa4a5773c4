"""The executor of compiled kernels (tests/ptx): that it computes what a GPU would, and finds the faults it looks for.

What the project's kernels compute is tested where they are: by the tests marked `ptx`.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ptx import arithmetic
from tests.ptx.execute import run
from tests.ptx.memory import Fault, GlobalMemory
from tests.ptx.parse import parse

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

# Kernels, and functions that launch them: they are called in the executor's process.


@triton.jit
def _add_kernel(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    tl.store(out_ptr + index, tl.load(a_ptr + index, mask=mask) + tl.load(b_ptr + index, mask=mask), mask=mask)


@triton.jit
def _sum_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    tl.store(out_ptr + tl.program_id(0), tl.sum(x))


@triton.jit
def _branching_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    step = 0
    while step < tl.program_id(0):
        x = tl.where(x > step, tl.exp2(-x), x * 2 + 1)
        step += 1
    tl.store(out_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), x)


@triton.jit
def _shifting_kernel(x_ptr, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(x_ptr + (index + 1) % BLOCK, tl.load(x_ptr + index))


@triton.jit
def _transposing_kernel(x_ptr, out_ptr, N: tl.constexpr):
    rows, columns = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + rows * N + columns)
    tl.store(out_ptr + rows * N + columns, tl.trans(x) - tl.sum(x, 1)[:, None])


def add(a: Tensor, b: Tensor, elements: int, count: int) -> Tensor:
    """The first `count` sums, in a result of so many elements; with 32-bit offsets."""
    out = torch.empty(1, 1, 1, elements)
    _add_kernel[(4,)](a, b, out, count, 256)
    return out


def add_unwritten(a: Tensor) -> Tensor:
    return add(a, torch.empty(1000), 1000, 1000)


def sums(x: Tensor, warps: int) -> Tensor:
    """Of each row, across so many warps."""
    out = torch.empty(x.shape[0])
    _sum_kernel[(x.shape[0],)](x, out, x.shape[1], num_warps=warps)
    return out


def branch(x: Tensor) -> Tensor:
    """As many rounds as the number of the row says."""
    out = torch.empty_like(x)
    _branching_kernel[(x.shape[0],)](x, out, x.shape[1])
    return out


def shift(x: Tensor) -> None:
    """Each element to the next place, while another thread reads it."""
    _shifting_kernel[(1,)](x, x.numel(), num_warps=4)


def transpose(x: Tensor) -> Tensor:
    """x^T less the sum of each row, through shared memory."""
    out = torch.empty_like(x)
    _transposing_kernel[(1,)](x, out, x.shape[0], num_warps=4)
    return out


def altered_sum(old: str, new: str, offset: int) -> None:
    """The sum of 1024 elements with something replaced in its PTX, of a tensor that begins `offset` bytes later."""
    x, out = torch.rand(1024), torch.empty(1)
    text = _sum_kernel.run(x, out, 1024, grid=(1,), warmup=True, num_warps=4).asm["ptx"]
    assert old in text
    memory = GlobalMemory([8192])
    place = slice(memory.starts[0], memory.starts[0] + 8192)
    memory.allow(place, 0, True)
    addresses = (memory.BASE + place.start + offset, memory.BASE + place.start + 8000, 0, 0)
    params = [address.to_bytes(8, "little") for address in addresses]
    run(parse(text.replace(old, new, 1)), 1, params, memory, 4096, range(1))


# The tests.


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
        (arithmetic.root, np.sqrt(x.astype(np.float64)), 1),
        (lambda x: arithmetic.ratio(x, x[::-1]), x.astype(np.float64) / x[::-1], 2),
    ):
        error = np.abs(function(x) - exact) / np.spacing(exact.astype(np.float32))
        assert ulps - 0.1 < error.max() <= ulps + 0.5
        assert np.array_equal(function(x), function(x))


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_pairs_of_16_bits(kind):
    dtype = torch.float16 if kind == "f16" else torch.bfloat16
    x = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed = arithmetic.pack_halves(*x.float().numpy(), kind)
    assert np.array_equal(packed.view(np.uint16).reshape(-1, 2), x.T.contiguous().view(torch.int16).numpy().view("u2"))
    assert np.array_equal(arithmetic.halves(packed, kind), x.float())


def test_kernels(executor):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1000, generator=generator) for _ in range(2))
    assert torch.equal(executor.call(add, a, b, 1000, 1000).flatten(), a + b)
    for count, warps in ((256, 1), (1024, 4), (512, 8)):
        x = torch.rand(3, count, generator=generator)
        torch.testing.assert_close(executor.call(sums, x, warps), x.sum(1), rtol=1e-6, atol=0)
    x = 8 * torch.rand(4, 256, generator=generator) - 4
    expected = x.clone()
    for step in range(3):
        rows = expected[step + 1 :]
        rows.copy_(torch.where(rows > step, torch.exp2(-rows), rows * 2 + 1))
    torch.testing.assert_close(executor.call(branch, x), expected, rtol=2e-6, atol=2e-6)
    x = torch.rand(32, 32, generator=generator)
    expected = x.T - x.sum(1, keepdim=True)
    torch.testing.assert_close(executor.call(transpose, x), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "message, function, arguments",
    [
        ("writes outside every tensor", add, lambda a: (a, a, 999, 1000)),
        ("reads outside every tensor", add, lambda a: (a, a[:980].clone(), 1000, 1000)),
        ("reads what nobody has written", add_unwritten, lambda a: (a,)),
        ("leaves 4 of 4000 bytes of out_ptr unwritten", add, lambda a: (a, a, 1000, 999)),
        (r"writes what another thread reads \(a race\)", shift, lambda a: (a[:256].clone(),)),
        ("not aligned to its 16 bytes", altered_sum, lambda a: ("", "", 4)),
        ("unknown opcode add.rz.f32", altered_sum, lambda a: ("add.f32", "add.rz.f32", 0)),
        ("another thread|nobody has written", altered_sum, lambda a: ("bar.sync", "//", 0)),
        ("unknown shuffle", altered_sum, lambda a: ("bfly", "down", 0)),
    ],
    ids=["write", "read", "unwritten", "left out", "race", "misaligned", "opcode", "barrier", "shuffle"],
)
def test_faults_are_found(executor, message, function, arguments):
    with pytest.raises(Fault, match=message):
        executor.call(function, *arguments(torch.rand(1000)))


def test_other_errors_come_with_where_they_were_raised(executor):
    with pytest.raises(RuntimeError, match="in the executor's process:(.|\n)*in add(.|\n)*TypeError"):
        executor.call(add, torch.rand(4), torch.rand(4), "many", 4)


LAUNCHES = {
    "loss_forward": lambda on, x, y: on.launch_loss_forward(x, y, 0.2, "reference", 0.0, 1.0),
    "loss_backward": lambda on, x, y: on.launch_loss_backward(
        torch.ones(()), x, y, 0.2, "reference", 0.0, 1.0, True, True
    ),
    "retinex_forward": lambda on, x, y: on.launch_retinex_forward(x, y, x, torch.float32),
    "retinex_backward": lambda on, x, y: on.launch_retinex_backward(x, y, x, y, y, torch.float32),
    "batch_norm": lambda on, x, y: on.launch_batch_norm_relu([x, y], [torch.rand(4, x.shape[1])] * 2, y, False),
    "convolution": lambda on, x, y: on.launch_convolution(x, torch.rand(3, 3, 3, 3), None, "tf32x3"),
    "weight_gradient": lambda on, x, y: on.launch_convolution_weight_gradient(x, y, "tf32x3"),
}


@pytest.mark.quick(name=[name for name in LAUNCHES if name not in ("convolution", "weight_gradient")])
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
    assert torch.equal(executor.call(add, x, x, 1024, 1024, images=2**20), 2 * x)
    with pytest.raises(Fault, match="far outside every tensor"):
        executor.call(add, x, x, 1024, 1024, images=2**22)
