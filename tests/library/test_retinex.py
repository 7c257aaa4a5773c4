"""Illumination, divide, clamp: golden vectors, the closed interval, NaN."""

import itertools

import pytest
import torch
from torch.nn.functional import hardtanh

import sci_kernels
from sci_kernels import reference
from tests.conftest import load_golden


def evaluate(impl, tensors, cotangents, sigmoid=False):
    tensors = [t.detach().requires_grad_() for t in tensors]
    outputs = sci_kernels.retinex(*tensors, impl=impl, sigmoid=sigmoid)
    grads = torch.autograd.grad(outputs, tensors, cotangents)
    return [t.detach() for t in outputs] + list(grads)


@pytest.mark.ptx
@pytest.mark.parametrize("name", ["retinex_a", "retinex_b"])
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=["float64", "float32"])
def test_golden(fused, name, dtype, bound, poisoned):
    impl, device = fused
    arrays = {key: value.to(device, dtype) for key, value in load_golden(name).items()}
    exact = load_golden(name)
    residual, image = arrays["residual"].requires_grad_(), arrays["input"].requires_grad_()
    # The image is also the stage's input: its gradient is the sum of both roles.
    outputs = sci_kernels.retinex(residual, image, image, impl=impl)
    cotangents = (arrays["cotangent_illumination"], arrays["cotangent_reflectance"])
    grads = torch.autograd.grad(outputs, (residual, image), cotangents)
    keys = ("illumination", "reflectance", "grad_residual", "grad_input")
    for key, actual in zip(keys, (*outputs, *grads), strict=True):
        torch.testing.assert_close(actual.detach().double().cpu(), exact[key], rtol=bound, atol=bound, msg=key)


@pytest.mark.ptx
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_three_different_inputs(fused, dtype, poisoned):
    impl, device = fused
    generator = torch.Generator().manual_seed(3)
    tensors = [(1.6 * torch.rand(2, 3, 5, 31, generator=generator) - 0.3).to(dtype) for _ in range(3)]
    cotangents = [torch.randn(2, 3, 5, 31, generator=generator).to(dtype) for _ in range(2)]
    eager = evaluate("reference", tensors, cotangents)
    actual = evaluate(impl, [t.to(device) for t in tensors], [t.to(device) for t in cotangents])
    # Near the lower clamp the division amplifies by 1e4: compare relative to each element.
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    for a, b in zip(actual, eager, strict=True):
        assert a.dtype == dtype
        finite = b.isfinite()  # float16 overflows where the division amplifies most
        torch.testing.assert_close(a.cpu()[finite], b[finite], rtol=tolerance, atol=tolerance)


@pytest.mark.ptx
def test_quotients_are_rounded_to_nearest(fused):
    impl, device = fused
    light = torch.rand(3000, generator=torch.Generator().manual_seed(3)).clamp(min=1e-4)
    image = light * torch.rand(3000, generator=torch.Generator().manual_seed(4))
    tensors = [t.to(device) for t in (light, torch.zeros(3000), image)]
    _, quotient = sci_kernels.retinex(*tensors, impl=impl)
    assert (quotient.cpu() != (image.double() / light.double()).float()).sum() <= 1


@pytest.mark.ptx
def test_clamps_pass_gradient_on_the_closed_interval(fused):
    impl, device = fused
    residual = torch.tensor([1e-4, 1.0, 0.5, 0.5, 0.5, 1.5, -1.0], dtype=torch.float64, device=device)
    image = torch.tensor([5e-5, 0.5, 0.0, 0.5, 0.75, 0.5, 5e-5], dtype=torch.float64, device=device)
    tensors = [residual, torch.zeros_like(residual), image]
    cotangents = [torch.ones_like(residual), torch.ones_like(residual)]
    actual = evaluate(impl, tensors, cotangents)
    for a, b in zip(actual, evaluate("reference", tensors, cotangents), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0.0)
    # Sums at both bounds pass gradient, those beyond them none; so do quotients 0 and 1, but not 1.5.
    assert [bool(g) for g in actual[2]] == [True, True, True, True, True, False, False]
    assert [bool(g) for g in actual[4]] == [True, True, True, True, False, True, True]


def gradient(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def exported(function, x):
    class Module(torch.nn.Module):
        def forward(self, x):
            return function(x)

    return torch.export.export(Module(), (x.clone().requires_grad_(),)).module()


WAYS = {
    "eager": gradient,
    "compiled": lambda f, x: gradient(torch.compile(f, fullgraph=True, backend="aot_eager"), x),
    "exported": lambda f, x: gradient(exported(f, x), x),
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "vmap(grad)": lambda f, x: torch.func.vmap(torch.func.grad(f))(x),
    "grad(vmap)": lambda f, x: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum())(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
}


def clamp_to_unit(x):
    return reference.clamp(x, 0.0, 1.0)


@pytest.mark.parametrize("way", WAYS)
def test_the_clamp_of_the_reference(way):
    x = torch.tensor([-torch.inf, -1.0, -1e-45, -0.0, 0.0, 0.3, 1.0, 1.0 + 2**-23, torch.inf, torch.nan])
    torch.testing.assert_close(clamp_to_unit(x), x.clamp(0, 1), rtol=0, atol=0, equal_nan=True)
    assert WAYS[way](clamp_to_unit, x).tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("compiling", [False, True])
def test_the_closed_interval_does_not_depend_on_pytorch(monkeypatch, compiling):
    """With a PyTorch whose clamp has no gradient at its bounds, as hardtanh has none in any."""
    monkeypatch.setattr(torch.Tensor, "clamp", hardtanh)
    monkeypatch.setattr(torch, "clamp", hardtanh)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    x = torch.tensor([0.0, 0.3, 1.0])
    assert gradient(lambda x: x.clamp(0.0, 1.0), x).tolist() == [0, 1, 0]
    assert gradient(clamp_to_unit, x).tolist() == [1, 1, 1]


def test_the_clamp_of_the_reference_by_finite_differences():
    x = torch.tensor([-1.0, 0.2, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clamp_to_unit, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: clamp_to_unit(x) ** 3, x)


@pytest.mark.parametrize("sigmoid", [False, True], ids=["plain", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_nan_infinities_and_overflow_are_those_of_the_reference(fused, dtype, sigmoid):
    """Every combination of them in all arguments and both incoming gradients."""
    impl, device = fused
    special = [torch.nan, torch.inf, -torch.inf]
    # Divided by 1e-4 once or twice, these overflow. Inside its clamp the image is 1e-8, and no product overflows:
    # beside an infinite gradient of the illumination, that is NaN or not as it is fused with the difference or not.
    large, larger = {torch.float32: (1e32, 1e37), torch.float64: (1e302, 1e306)}[dtype]
    values = (
        [*special, -1.0, 0.4, 2.0, *([] if sigmoid else [1e-4])],  # residual
        [*special, 0.0, 1e-4, 0.3],  # stage input
        [*special, 0.0, -0.0, 1e-8, 0.6, -0.6, large, -large, larger],  # image
        [*special, 1.5],  # gradient of the illumination
        [*special, -2.0, larger],  # of the reflectance
    )
    combinations = torch.tensor(list(itertools.product(*values)), dtype=torch.float64).to(dtype)
    *tensors, grad_illumination, grad_reflectance = combinations.T.contiguous()
    expected = evaluate("reference", tensors, (grad_illumination, grad_reflectance), sigmoid)
    on_device = [t.to(device) for t in (*tensors, grad_illumination, grad_reflectance)]
    actual = evaluate(impl, on_device[:3], on_device[3:], sigmoid)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=4e-6 if dtype == torch.float32 else 1e-14, atol=0, equal_nan=True)


def test_what_is_not_finite_in_the_image_is_nothing_to_the_illumination_alone(fused):
    impl, device = fused
    image = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.5], device=device, requires_grad=True)
    residual = torch.full_like(image, 0.4).requires_grad_()
    illumination, _ = sci_kernels.retinex(residual, torch.zeros_like(residual), image, impl=impl)
    of_residual, of_image = torch.autograd.grad(illumination.sum(), (residual, image), allow_unused=True)
    assert of_residual.tolist() == [1, 1, 1, 1] and of_image is None


@pytest.mark.ptx
@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_is_never_clamped_away(fused, which):
    impl, device = fused
    tensors = [torch.full((1, 3, 4, 4), 0.4, device=device) for _ in range(3)]
    tensors[which][0, 0, 1, 2] = float("nan")
    illumination, reflectance = sci_kernels.retinex(*tensors, impl=impl)
    assert reflectance.isnan().sum() == 1 and reflectance[0, 0, 1, 2].isnan()
    assert illumination.isnan().sum() == (0 if which == 2 else 1)


@pytest.mark.ptx
def test_mixed_dtypes_as_under_autocast(fused):
    impl, device = fused
    residual = torch.rand(1, 3, 4, 5, device=device).bfloat16().requires_grad_()
    image = torch.rand(1, 3, 4, 5, device=device, requires_grad=True)
    illumination, reflectance = sci_kernels.retinex(residual, image, image, impl=impl)
    assert illumination.dtype == reflectance.dtype == torch.float32
    (illumination.sum() + reflectance.sum()).backward()
    assert residual.grad.dtype == torch.bfloat16 and image.grad.dtype == torch.float32


def test_strides(fused):
    impl, device = fused
    tensors = [torch.rand(1, 3, 6, 8, device=device) for _ in range(3)]
    strided = [t.contiguous(memory_format=torch.channels_last) for t in tensors]
    dense, other = sci_kernels.retinex(*tensors, impl=impl), sci_kernels.retinex(*strided, impl=impl)
    assert all(torch.equal(a, b) for a, b in zip(dense, other, strict=True))


def test_wrong_arguments_are_named():
    x = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="image: expected the shape of residual"):
        sci_kernels.retinex(x, x, x[..., :3])
    with pytest.raises(TypeError, match="stage_input: expected a torch.Tensor; got int"):
        sci_kernels.retinex(x, 3, x)
    with pytest.raises(TypeError, match="residual: expected float16.*got torch.uint8"):
        sci_kernels.retinex(x.to(torch.uint8), x, x)
    with pytest.raises(ValueError, match="impl: expected one of"):
        sci_kernels.retinex(x, x, x, impl="cuda")


@pytest.mark.ptx
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_with_the_sigmoid(fused, dtype, poisoned):
    """Beyond both its tails, in both clamps and between; each element against float64."""
    impl, device = fused
    generator = torch.Generator().manual_seed(5)
    tensors = [scale * torch.randn(2, 3, 5, 31, generator=generator, dtype=torch.float64) for scale in (6, 0.5, 0.5)]
    cotangents = [torch.randn(2, 3, 5, 31, generator=generator, dtype=torch.float64) for _ in range(2)]
    # Where rounding decides on which side of a clamp an element lies, no gradient is right.
    total = tensors[0].sigmoid() + tensors[1]
    edge = ((total - 1e-4).abs() < 0.02) | ((total - 1).abs() < 0.02)
    tensors[1] = torch.where(edge, tensors[1] + 0.05, tensors[1]).to(dtype).double()
    tensors = [t.to(dtype) for t in tensors]
    cotangents = [t.to(dtype) for t in cotangents]
    exact = evaluate("reference", [t.double() for t in tensors], [t.double() for t in cotangents], sigmoid=True)
    actual = evaluate(impl, [t.to(device) for t in tensors], [t.to(device) for t in cotangents], sigmoid=True)
    tolerance = {torch.float64: 1e-13, torch.float32: 4e-6, torch.bfloat16: 2e-2}[dtype]
    for a, b in zip(actual, exact, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double().cpu(), b, rtol=tolerance, atol=tolerance)


def test_the_sigmoid_apart_is_the_same(fused):
    impl, device = fused
    x = torch.randn(1, 3, 4, 5, device=device, dtype=torch.float64)
    image = torch.rand(1, 3, 4, 5, device=device, dtype=torch.float64)
    apart = sci_kernels.retinex(x.sigmoid(), image, image, impl=impl)
    for a, b in zip(sci_kernels.Retinex(impl, sigmoid=True)(x, image, image), apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_the_sigmoid_is_an_operator_like_the_others(fused):
    impl, device = fused
    residual, image = (torch.rand(1, 3, 4, 5, device=device) for _ in range(2))
    forward = torch.ops.sci.retinex_fwd.default
    torch.library.opcheck(forward, (residual.clone().requires_grad_(), image, image, impl, True))
    torch.library.opcheck(forward, (residual.bfloat16(), image, image, impl, True))
    torch.library.opcheck(torch.ops.sci.retinex_bwd.default, (image, image, residual, image, image, impl, True))
