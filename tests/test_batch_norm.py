"""BatchNorm, ReLU and residual: both kernels against PyTorch's modules in float64."""

import pytest
import torch
from torch import Tensor

from sci_kernels import batch_norm

EPS = 1e-5
# Odd planes, one pixel short of a block and beyond one, channels that no vector is a multiple of.
SHAPES = [(1, 16, 5, 7), (2, 3, 23, 29), (1, 5, 1, 3), (2, 16, 16, 16), (1, 7, 33, 65)]
FORMATS = {"native": torch.channels_last, "triton": torch.contiguous_format}


def make(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """z far from 0, which costs a careless variance its digits; float64."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    channels = shape[1]
    return {
        "z": 2 + 0.3 * draw(*shape),
        "gamma": 0.5 + draw(channels).abs(),
        "beta": 0.3 * draw(channels),
        "residual": draw(*shape),
        "grad": draw(*shape),
    }


def modules(values: dict[str, Tensor], residual: bool) -> list[Tensor]:
    """y and the gradients of z, gamma and beta by autograd, in the dtype of the values."""
    z, gamma, beta = (values[name].clone().requires_grad_() for name in ("z", "gamma", "beta"))
    y = torch.relu(torch.nn.functional.batch_norm(z, None, None, gamma, beta, True, 0.0, EPS))
    y = y + values["residual"] if residual else y
    return [y.detach(), *torch.autograd.grad(y, (z, gamma, beta), values["grad"])]


def ours(values: dict[str, Tensor], residual: bool, kernels: str, device: str) -> list[Tensor]:
    def features(name: str) -> Tensor:
        return values[name].to(device).clone(memory_format=FORMATS[kernels])

    z, gamma, beta = features("z"), values["gamma"].to(device), values["beta"].to(device)
    assert batch_norm.kernels_for(z) in (kernels, None if device == "cpu" else kernels)
    known = batch_norm.statistics(z, kernels)
    y = batch_norm.forward(z, known, gamma, beta, EPS, kernels, features("residual") if residual else None)
    grad = features("grad")
    apart = batch_norm.gradient(grad, z, known, gamma, beta, EPS, kernels)
    gradients = batch_norm.gradient(grad, z, known, gamma, beta, EPS, kernels, overwrite=True)
    assert gradients[0] is grad and y.stride() == z.stride() == apart[0].stride()
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(gradients, apart, strict=True))
    return [tensor.cpu() for tensor in (y, *gradients)]


@pytest.fixture
def kernels(fused) -> tuple[str, str]:
    impl, device = fused
    if impl == "blocked":
        pytest.skip("plain PyTorch has no such kernels")
    return impl, device


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_against_modules(kernels, shape, residual, poisoned):
    values = make(shape)
    exact = modules(values, residual)
    for got, expected in zip(ours(values, residual, *kernels), exact, strict=True):
        assert (got - expected).norm() <= 1e-12 * expected.norm()
    single = {name: value.float() for name, value in values.items()}
    # The rounded values are others than the exact ones: so much is nobody's error.
    exact = modules({name: value.double() for name, value in single.items()}, residual)
    eager = modules(single, residual)
    for got, plain, expected in zip(ours(single, residual, *kernels), eager, exact, strict=True):
        assert (got - expected).norm() <= 2 * (plain - expected).norm() + 3e-7 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(fused, dtype):
    impl, device = fused
    if impl != "triton":
        pytest.skip("features in half precision are left to PyTorch on a CPU")
    values = {name: value.to(dtype) if value.dim() == 4 else value.float() for name, value in make(SHAPES[1]).items()}
    exact = modules({name: value.double() for name, value in values.items()}, True)
    rounding = torch.finfo(dtype).eps
    for got, expected in zip(ours(values, True, impl, device), exact, strict=True):
        assert (got - expected).norm() <= rounding * expected.norm()


def test_nan_stays_in_its_channel(kernels):
    values = make((1, 3, 6, 7))
    values["z"][0, 1, 2, 3] = float("nan")
    y, grad_z, grad_gamma, _ = ours(values, False, *kernels)
    for result in (y[0], grad_z[0], grad_gamma):
        assert result[1].isnan().all() and not result[0].isnan().any() and not result[2].isnan().any()


def test_threads_change_no_bit():
    from sci_kernels import native

    if reason := native.compiler_error():
        pytest.skip(reason)
    values = {name: value.float() for name, value in make((1, 16, 90, 91)).items()}
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ours(values, True, "native", "cpu"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_other_strides_are_copied(kernels):
    impl, device = kernels
    values = make((2, 5, 6, 7))
    values["grad"] = torch.ones((), dtype=torch.float64).expand(2, 5, 6, 7)
    z = values["z"].to(device).clone(memory_format=FORMATS[impl])
    gamma, beta = values["gamma"].to(device), values["beta"].to(device)
    known = batch_norm.statistics(z, impl)
    y = batch_norm.forward(z, known, gamma, beta, EPS, impl, values["residual"].to(device).transpose(2, 3).mT)
    found = batch_norm.gradient(values["grad"].to(device), z, known, gamma, beta, EPS, impl, overwrite=True)
    for got, expected in zip((y, *found), modules(values, True), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"gamma, beta: expected shape \(5,\)"):
        batch_norm.forward(z, known, gamma, beta[:1], EPS, impl)
    with pytest.raises(ValueError, match="residual, grad: expected the shape of z"):
        batch_norm.gradient(z[:1], z, known, gamma, beta, EPS, impl)


def test_opcheck(kernels):
    impl, device = kernels
    z, grad, out = (torch.rand(1, 3, 4, 5, device=device).contiguous(memory_format=FORMATS[impl]) for _ in range(3))
    channel = torch.rand(3, device=device)
    operators = torch.ops.sci
    torch.library.opcheck(operators.batch_norm_statistics.default, (z, impl))
    for residual in (grad, None):
        torch.library.opcheck(operators.batch_norm_relu.default, (z, channel, channel, channel, residual, impl))
    torch.library.opcheck(operators.batch_norm_relu_sums.default, (grad, z, *[channel] * 3, impl))
    torch.library.opcheck(operators.batch_norm_relu_bwd.default, (out, grad, z, *[channel] * 5, impl))


def test_what_no_kernel_takes():
    z = torch.rand(1, 16, 4, 4)
    assert batch_norm.kernels_for(z) is None
    assert batch_norm.kernels_for(z.contiguous(memory_format=torch.channels_last).half()) is None
    assert batch_norm.kernels_for(z.to("meta")) is None
