"""The operations under pytest-benchmark, small enough to run at every commit: `make bench`.

Parity comes before time, on the same tensors. Each result's `extra_info` has the parity, the bytes that have to move,
and GB/s. Every run is saved below .benchmarks; this shows what became slower since the run before:

    python -m pytest_benchmark compare --group-by=name --columns=min,median,iqr

For ratios between providers trust `python -m bench loss` more, which times them in turns.
"""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model import EnhanceNetwork, enhance_image, load_weights
from sci_kernels import default_impl, denoise

from .compare import TOLERANCE, Case, evaluate, function_of, part_call, worst_error
from .measure import synchronize

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = (1080, 1920) if DEVICE == "cuda" else (200, 300)
OURS = default_impl(DEVICE)
# Read: the picture; written: illumination and reflectance. What lies between does not have to move through memory.
_ENHANCE_VALUES = 3 + 2 * 3


@pytest.fixture
def timed(benchmark) -> Callable:
    """A function that times a call if its results agree, and records the parity, the bytes and where it ran."""

    def run(call: Callable[[], object], parity: float, dtype: torch.dtype, moved_bytes: int) -> None:
        assert parity <= TOLERANCE[dtype], f"not timed: parity {parity:.1e}, must be at most {TOLERANCE[dtype]:.1e}"

        def finished() -> None:
            call()
            synchronize(DEVICE)

        benchmark.pedantic(finished, rounds=7, iterations=1, warmup_rounds=1)
        rate = moved_bytes / benchmark.stats.stats.median / 1e9
        benchmark.extra_info |= {"parity": parity, "bytes": moved_bytes, "gb_per_s": rate, "device": DEVICE}
        benchmark.extra_info |= {"torch": torch.__version__, "height": SIZE[0], "width": SIZE[1]}

    return run


@functools.cache
def expected(case: Case) -> list[Tensor]:
    """Outputs and gradients of the reference."""
    return evaluate(function_of(case.op, "reference", case.color), case.inputs(DEVICE), case.cotangents(DEVICE))


def run_case(timed: Callable, case: Case, provider: str, part: str) -> None:
    inputs, cotangents = case.inputs(DEVICE), case.cotangents(DEVICE)
    function = function_of(case.op, provider, case.color)
    parity = worst_error(evaluate(function, inputs, cotangents), expected(case))
    call = part_call(function, part, [inputs], cotangents)
    timed(lambda: call(0), parity, case.dtype, case.moved_bytes(part))


@pytest.mark.parametrize("part", ["forward", "forward+backward"])
@pytest.mark.parametrize("color", ["ycbcr", "reference"])
@pytest.mark.parametrize("provider", ["reference", "pairs", OURS])
def test_loss(timed, provider, color, part):
    run_case(timed, Case("loss", *SIZE, color=color), provider, part)


@pytest.mark.parametrize("part", ["forward", "forward+backward"])
@pytest.mark.parametrize("provider", ["reference", OURS])
def test_retinex(timed, provider, part):
    run_case(timed, Case("retinex", *SIZE), provider, part)


@pytest.mark.parametrize("provider", ["reference", OURS])
def test_enhance(timed, provider):
    """One picture with the default weights: the network and the division."""
    networks = {impl: EnhanceNetwork(impl=impl).to(DEVICE) for impl in ("reference", provider)}
    for network in networks.values():
        load_weights(network)
    (image,) = Case("loss", *SIZE, color="rgb").inputs(DEVICE)[:1]
    results = {impl: enhance_image(network, image) for impl, network in networks.items()}
    parity = worst_error(list(results[provider]), list(results["reference"]))
    call = functools.partial(enhance_image, networks[provider], image)
    timed(call, parity, torch.float32, _ENHANCE_VALUES * image[0, 0].numel() * image.element_size())


@pytest.mark.parametrize("provider", ["reference", OURS])
def test_denoise(timed, provider):
    """A picture that was brightened by a factor of up to 8."""
    image, light = (x.detach() for x in Case("loss", *SIZE, color="rgb").inputs(DEVICE)[:2])
    gain = 1 + 7 * light[:, :1]
    parity = worst_error([denoise(image, gain, impl=provider)], [denoise(image, gain, impl="reference")])
    call = functools.partial(denoise, image, gain, impl=provider)
    timed(call, parity, torch.float32, (3 + 1 + 3) * gain.numel() * gain.element_size())
