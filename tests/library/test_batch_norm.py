"""BatchNorm, ReLU and residual: both kernels against PyTorch's modules in float64."""

import pytest
import torch
from torch import Tensor

from sci_kernels import batch_norm

EPS, MOMENTUM = 1e-5, 0.1
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
        "bias": 0.1 * draw(channels),
        "residual": draw(*shape),
        "grad": draw(*shape),
    }


def modules(values: dict[str, Tensor], residual: bool) -> list[Tensor]:
    """y, the gradients of z, gamma and beta by autograd, and the averages, in the dtype of the values."""
    z, gamma, beta = (values[name].clone().requires_grad_() for name in ("z", "gamma", "beta"))
    mean, variance = (value.to(gamma.dtype) for value in averages(z))
    whole = z + values["bias"].view(-1, 1, 1).to(z.dtype)
    # BatchNorm takes the bias away: gradients of z without it, whose rounding is nobody's error.
    torch.nn.functional.batch_norm(whole.detach().to(gamma.dtype), mean, variance, None, None, True, MOMENTUM, EPS)
    y = torch.relu(torch.nn.functional.batch_norm(z, None, None, gamma, beta, True, 0.0, EPS))
    y = y + values["residual"] if residual else y
    return [y.detach(), *torch.autograd.grad(y, (z, gamma, beta), values["grad"]), mean, variance]


def averages(z: Tensor) -> tuple[Tensor, Tensor]:
    """Running averages before this batch, float64."""
    return torch.linspace(-1, 1, z.shape[1], dtype=torch.float64), torch.linspace(0.5, 2, z.shape[1]).double()


def ours(values: dict[str, Tensor], residual: bool, kernels: str, device: str) -> list[Tensor]:
    def features(name: str) -> Tensor:
        return values[name].to(device).clone(memory_format=FORMATS[kernels])

    z = features("z")
    gamma, beta, bias = (values[name].to(device) for name in ("gamma", "beta", "bias"))
    assert batch_norm.kernels_for(z) in (kernels, None if device == "cpu" else kernels)
    mean, variance = (value.to(gamma) for value in averages(z))
    running = batch_norm.Running(mean, variance, torch.tensor(7, device=device), MOMENTUM)
    table = batch_norm.statistics(z, gamma, beta, EPS, kernels, running, bias)
    assert running.batches == 8 and torch.equal(table[2], beta.to(table))
    assert torch.equal(table.nan_to_num(7), batch_norm.statistics(z, gamma, beta, EPS, kernels).nan_to_num(7))
    y = batch_norm.forward([z], [table], kernels, features("residual") if residual else None)
    results = []
    for overwrite in (False, True):
        grad, parameters = features("grad"), table.new_zeros(3, len(gamma))
        grad_z = batch_norm.gradient(grad, z, table, parameters, kernels, overwrite=overwrite)
        assert (grad_z is grad) == overwrite and grad_z.stride() == y.stride() == z.stride()
        results.append([grad_z, *parameters[:2]])
        assert not parameters[2].any()
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(*results, strict=True))
    return [tensor.cpu() for tensor in (y, *results[0], mean, variance)]


@pytest.fixture
def kernels(fused) -> tuple[str, str]:
    impl, device = fused
    if impl == "blocked":
        pytest.skip("plain PyTorch has no such kernels")
    return impl, device


@pytest.mark.ptx
@pytest.mark.quick("sm_90", shape=SHAPES[:2], every=2)
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
    # The mean is rounded to float32, an error beside the spread of a channel's pixels, which may be few.
    z = values["z"].transpose(0, 1).flatten(1)
    floor = 3e-7 + torch.finfo(torch.float32).eps / 2 * (z.mean(1).abs() / z.std(1)).max()
    for got, plain, expected in zip(ours(single, residual, *kernels), eager, exact, strict=True):
        assert (got - expected).norm() <= 2 * (plain - expected).norm() + floor * expected.norm()


@pytest.mark.ptx
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


@pytest.mark.ptx
def test_nan_stays_in_its_channel(kernels):
    values = make((1, 3, 6, 7))
    values["z"][0, 1, 2, 3] = float("nan")
    y, grad_z, grad_gamma, _, mean, variance = ours(values, False, *kernels)
    for result in (y[0], grad_z[0], grad_gamma, mean, variance):
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
    gamma, beta, residual = (values[name].to(device) for name in ("gamma", "beta", "residual"))
    table = batch_norm.statistics(z, gamma, beta, EPS, impl)
    parameters = torch.zeros_like(table)
    y = batch_norm.forward([z], [table], impl, residual.transpose(2, 3).contiguous().mT)
    grad_z = batch_norm.gradient(values["grad"].to(device), z, table, parameters, impl, overwrite=True)
    for got, expected in zip((y, grad_z, *parameters[:2]), modules(values, True)[:4], strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"gamma, beta, bias, averages: expected shape \(5,\)"):
        batch_norm.statistics(z, gamma, beta[:1], EPS, impl)
    with pytest.raises(ValueError, match="residual, grad: expected the shape of z"):
        batch_norm.gradient(z[:1], z, table, parameters, impl)


def layers(count: int, dtype: torch.dtype, impl: str, device: str) -> tuple[list[Tensor], list[Tensor | None]]:
    """z and tables of some layers, the first without BatchNorm."""
    generator = torch.Generator().manual_seed(count)
    z = [torch.randn(2, 3, 9, 8, generator=generator).to(device, dtype) for _ in range(count)]
    z = [layer.contiguous(memory_format=FORMATS[impl]) for layer in z]
    ones = torch.ones(3, device=device)
    return z, [None, *(batch_norm.statistics(layer, ones, ones / 3, EPS, impl) for layer in z[1:])]


@pytest.mark.ptx
@pytest.mark.quick("sm_90", count=[2, 3, 6], every=2)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_several_layers_are_added_as_one_after_the_other(kernels, count, dtype, poisoned):
    """To the bit, with what half precision rounds in between."""
    impl, device = kernels
    if impl == "native" and dtype != torch.float32:
        pytest.skip("features in half precision are left to PyTorch on a CPU")
    z, tables = layers(count, dtype, impl, device)
    for residual in (None, z[0].flip(2).contiguous(memory_format=FORMATS[impl])):
        expected = batch_norm.forward(z[:1], tables[:1], impl, residual)
        plain = z[0].relu() if residual is None else z[0].relu() + residual
        assert torch.equal(expected, plain)
        for layer, table in zip(z[1:], tables[1:], strict=True):
            expected = batch_norm.forward([layer], [table], impl, expected)
        assert torch.equal(batch_norm.forward(z, tables, impl, residual), expected)


@pytest.mark.ptx
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_gradient_in_two_parts(kernels, dtype):
    """It is put together as an addition does it, to the bit; gradients of parameters are added to what there is."""
    impl, device = kernels
    if impl == "native" and dtype != torch.float32:
        pytest.skip("features in half precision are left to PyTorch on a CPU")
    (grad, other, z), (*_, table) = layers(3, dtype, impl, device)
    whole, parts, parameters = grad + other, grad.clone(), torch.ones(3, 3, device=device)
    expected = batch_norm.gradient(whole, z, table, parameters, impl)
    found, again = (torch.ones(3, 3, device=device) for _ in range(2))
    assert torch.equal(batch_norm.gradient(parts, z, table, found, impl, other=other), expected)
    assert torch.equal(parts, whole) and torch.equal(found, parameters) and bool((found[2] == 1).all())
    assert torch.equal(batch_norm.gradient(grad, z, table, again, impl, other=other, overwrite=True), expected)
    batch_norm.gradient(whole, z, table, again, impl)
    torch.testing.assert_close(again[:2], 2 * found[:2] - 1, rtol=1e-6, atol=1e-6)


def test_channel_sums(host):
    if host == "blocked":
        pytest.skip("plain PyTorch sums by itself")
    features = make((2, 7, 33, 65))["z"].contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch_norm.channel_sums(features, host), features.sum((0, 2, 3)), rtol=1e-13, atol=0)
    exact = features.float().double().sum((0, 2, 3))
    torch.testing.assert_close(batch_norm.channel_sums(features.float(), host).double(), exact, rtol=1e-7, atol=0)


def test_opcheck(kernels):
    impl, device = kernels
    z, grad = (torch.rand(1, 3, 4, 5, device=device).contiguous(memory_format=FORMATS[impl]) for _ in range(2))
    channel, table = torch.rand(3, device=device), torch.rand(4, 3, device=device)
    operators, check = torch.ops.sci, torch.library.opcheck
    batches = torch.tensor(3, device=device)
    for running, bias in (((channel.clone(), channel.clone(), batches), channel), ((None,) * 3, None)):
        check(operators.batch_norm_statistics.default, (z, channel, channel, bias, *running, 0.1, EPS, impl))
    check(operators.batch_norm_relu.default, ([z], [table], grad, False, impl))
    check(operators.batch_norm_relu.default, ([z, grad], [table], None, True, impl))
    for operator in (operators.batch_norm_relu_bwd.default, operators.batch_norm_relu_bwd_.default):
        for other in (None, z):
            check(operator, (grad, other, z, table, table.clone(), impl))
    if impl == "native":
        check(operators.channel_sums.default, (z,))


def test_channel_sums_of_other_strides(host):
    if host == "blocked":
        pytest.skip("plain PyTorch sums by itself")
    features = make((2, 7, 5, 9))["z"]
    torch.testing.assert_close(batch_norm.channel_sums(features, host), features.sum((0, 2, 3)), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["gamma", "bias", "mean", "variance", "table", "parameter_grads", "dtype", "sources"])
def test_what_kernels_would_write_beyond_is_refused(kernels, name):
    impl, device = kernels
    z = torch.rand(1, 5, 4, 5, device=device).contiguous(memory_format=FORMATS[impl])
    table, short = torch.ones(4, 5, device=device), torch.ones(4, 3, device=device)
    parts = ("gamma", "bias", "mean", "variance")
    given = {part: torch.ones(3 if part == name else 5, device=device) for part in parts}
    running = batch_norm.Running(given["mean"], given["variance"], torch.tensor(0, device=device), MOMENTUM)
    with pytest.raises(ValueError, match="expected"):
        if name in given:
            batch_norm.statistics(z, given["gamma"], given["gamma"], EPS, impl, running, given["bias"])
        elif name == "table":
            batch_norm.forward([z], [short], impl)
        elif name == "sources":
            batch_norm.forward([z, z[..., :2]], [table, table], impl)
        else:
            batch_norm.gradient(z, z, table, short if name == "parameter_grads" else table.double(), impl)


def test_what_no_kernel_takes():
    z = torch.rand(1, 16, 4, 4)
    assert batch_norm.kernels_for(z) is None
    assert batch_norm.kernels_for(z.contiguous(memory_format=torch.channels_last).half()) is None
    assert batch_norm.kernels_for(z.to("meta")) is None
