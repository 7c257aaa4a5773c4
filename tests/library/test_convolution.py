"""Convolutions on tensor cores: forward and both gradients against float64, element by element."""

import pytest
import torch
from torch import Tensor

from sci_kernels import convolution

# (N, C, O, H, W): widths with a remainder of 0 to 3 by 4, one strip and several, tiny, thin, few channels and odd ones.
SHAPES = [
    (1, 16, 16, 9, 20),
    (2, 16, 16, 5, 17),
    (1, 3, 16, 6, 18),
    (1, 16, 3, 5, 19),
    (1, 16, 16, 3, 3),
    (1, 5, 7, 1, 7),
    (1, 7, 9, 7, 1),
]
EPS = torch.finfo(torch.float32).eps


@pytest.fixture
def device(fused) -> str:
    impl, device = fused
    if impl != "triton":
        pytest.skip("Triton alone has these kernels")
    return device


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def make(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    n, c_in, c_out, h, w = shape
    generator = torch.Generator().manual_seed(0)
    sizes = {"x": (n, c_in, h, w), "weight": (c_out, c_in, 3, 3), "bias": (c_out,), "grad": (n, c_out, h, w)}
    return {name: torch.randn(size, generator=generator).to(dtype) for name, size in sizes.items()}


def library(values: dict[str, Tensor]) -> list[Tensor]:
    """Output and gradients of input and weight, in the dtype of the values."""
    x, weight, bias, grad = values.values()
    out = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    of = torch.nn.grad
    input_gradient = of.conv2d_input(x.shape, weight, grad, padding=1)
    return [out, input_gradient, of.conv2d_weight(x, weight.shape, grad, padding=1)]


def guarded(tensor: Tensor, device: str) -> Tensor:
    """The tensor with NaN before and behind it."""
    around = torch.full((tensor.numel() + 128,), float("nan"), dtype=tensor.dtype, device=device)
    around[64:-64] = tensor.flatten().to(device)
    return around[64:-64].view(tensor.shape)


def ours(values: dict[str, Tensor], device: str) -> list[Tensor]:
    x, weight, bias, grad = (guarded(value, device) for value in values.values())
    results = convolution.forward(x, weight, bias), convolution.input_gradient(grad, weight)
    return [result.cpu() for result in (*results, convolution.weight_gradient(grad, x))]


def exact(values: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The results in float64, and the sums of the magnitudes that were added up for each."""
    double = {name: value.double() for name, value in values.items()}
    return library(double), library({name: value.abs() for name, value in double.items()})


@pytest.mark.ptx
@pytest.mark.quick("sm_90", shape=SHAPES[1:2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_keeps_its_digits(device, shape, poisoned):
    values = make(shape)
    for got, plain, expected, magnitude in zip(ours(values, device), library(values), *exact(values), strict=True):
        # Of the terms' magnitude: what TF32's remainders lose, and six sums of rows and channels that are rounded.
        assert ((got - expected).abs() <= 2 * (plain - expected).abs() + 4 * EPS * magnitude).all()


@pytest.mark.ptx
@pytest.mark.quick("sm_90", dtype=[])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_added_up_in_float32(device, dtype):
    values = make(SHAPES[0], dtype)
    rounding = torch.finfo(dtype).eps  # interpreted, bfloat16 is cut off, too
    for got, expected, magnitude in zip(ours(values, device), *exact(values), strict=True):
        # Sums are cut off after each of the 36 products of 4 terms.
        assert ((got - expected).abs() <= rounding * expected.abs() + (1 + 36) * EPS * magnitude).all()


@pytest.mark.ptx
@pytest.mark.quick("sm_90", every=0)
def test_tf32_where_pytorch_may_use_it(device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    values = make(SHAPES[0])
    before = []
    for got, expected, magnitude in zip(ours(values, device), *exact(values), strict=True):
        error = (got - expected).abs()
        assert (error <= (2**-10 + 36 * EPS) * magnitude).all()
        before.append((error / magnitude).max())
    # Interpreted, products are those of float32.
    assert all(error < 4 * EPS for error in before) or all(error > 100 * EPS for error in before)


@pytest.mark.ptx
@pytest.mark.quick("sm_90", every=0)
def test_nan_reaches_its_neighbors_alone(device):
    values = make((1, 3, 4, 6, 12))
    values["x"][0, 1, 2, 5] = float("nan")
    out, _, weight_gradient = ours(values, device)
    reached = torch.zeros(6, 12, dtype=torch.bool)
    reached[1:4, 4:7] = True
    assert torch.equal(out.isnan().any(1)[0], reached) and torch.equal(out.isnan().all(1)[0], reached)
    assert weight_gradient[:, 1].isnan().all() and not weight_gradient[:, [0, 2]].isnan().any()


@pytest.mark.ptx
@pytest.mark.quick("sm_90", every=0)
def test_the_same_bits_every_time(device):
    values = make(SHAPES[1])
    assert all(torch.equal(a, b) for a, b in zip(ours(values, device), ours(values, device), strict=True))


def test_opcheck(device):
    x, weight, bias, grad = (value.to(device) for value in make((1, 3, 2, 3, 5)).values())
    operators = torch.ops.sci
    for given in (bias, None):
        torch.library.opcheck(operators.convolution.default, (x, weight, given, "tf32x3"))
    torch.library.opcheck(operators.convolution_input_gradient.default, (grad, weight, "tf32x3"))
    torch.library.opcheck(operators.convolution_weight_gradient.default, (grad, x, "tf32x3"))


def test_what_is_refused():
    values = make((1, 3, 2, 4, 5))
    x, weight, bias, grad = values.values()
    with pytest.raises(ValueError, match="x: expected a contiguous tensor"):
        convolution.forward(x.transpose(2, 3), weight)
    with pytest.raises(ValueError, match=r"weight: expected torch.float32 \(O, C, 3, 3\), at most 16 channels, C = 3"):
        convolution.forward(x, weight[:, :2])
    with pytest.raises(ValueError, match="O = 2"):
        convolution.input_gradient(grad, weight[:1])
    with pytest.raises(ValueError, match=r"bias: expected shape \(2,\)"):
        convolution.forward(x, weight, bias[:1])
    with pytest.raises(ValueError, match="x: expected the images of grad"):
        convolution.weight_gradient(grad[:, :, :2].contiguous(), x)
    with pytest.raises(TypeError, match="x: expected float16, bfloat16 or float32"):
        convolution.forward(x.double(), weight.double())
    with pytest.raises(ValueError, match="1 to 16"):
        convolution.forward(torch.rand(1, 17, 4, 4), weight)
    assert not convolution.takes(x, weight)  # on a CPU


def test_parity_before_times(device):
    from bench.profile.convolutions import PARTS, errors

    x, weight, _, grad = make((1, 3, 2, 4, 5)).values()
    for part in PARTS:
        mine, theirs = errors(part, x.to(device), weight.to(device), grad.to(device))
        assert 0 < theirs < 4 * EPS and 0 < mine < 4 * EPS
