"""What PyTorch's tools do with the operators: opcheck, compile, autocast, double backward, wrong arguments."""

import pytest
import torch
import torch._dynamo.testing
from torch import nn

import sci_kernels
from sci_kernels import ops


def pair(device="cpu", dtype=torch.float32, h=8, w=9):
    torch.manual_seed(0)
    return tuple(torch.rand(1, 3, h, w, device=device, dtype=dtype, requires_grad=True) for _ in range(2))


@pytest.mark.parametrize("needs", [(True, True), (False, True), (True, False), (False, False)], ids=str)
def test_opcheck_loss(fused, needs):
    impl, device = fused
    x, y = (t.detach().requires_grad_(need) for t, need in zip(pair(device), needs, strict=True))
    arguments = (x, y, 0.5, "reference", 1.5, 1.0, impl, *needs)
    torch.library.opcheck(ops._illumination_loss_fwd, arguments)


def test_opcheck_retinex(fused):
    impl, device = fused
    x, y = pair(device)
    torch.library.opcheck(ops._retinex_fwd, (x, y, y, impl))
    torch.library.opcheck(ops._retinex_bwd, tuple(t.detach() for t in (x, y, x, y, y)) + (impl,))


def test_opcheck_backward_operators(fused):
    impl, device = fused
    x, y = (t.detach() for t in pair(device))
    if impl == "triton":
        for needs in ((True, True), (False, True), (True, False)):
            arguments = (torch.ones((), device=device), x, y, 0.5, "ycbcr", 1.5, 1.0, *needs)
            torch.library.opcheck(ops._illumination_loss_bwd, arguments)
    else:
        torch.library.opcheck(ops._scale_gradients, (torch.ones((), device=device), x, y, torch.float16, torch.float32))


def test_gradcheck(fused):
    impl, device = fused
    x, y = pair(device, torch.float64, 5, 6)
    fast = impl == "triton"
    assert torch.autograd.gradcheck(
        lambda x, y: sci_kernels.illumination_loss(x, y, sigma=0.5, impl=impl), (x, y), fast_mode=fast
    )
    # Scaled away from the clamps, where there is no derivative.
    arguments = tuple((0.2 + 0.2 * t).detach().requires_grad_() for t in (x, y, x))
    assert torch.autograd.gradcheck(
        lambda r, s, i: sci_kernels.retinex(r, s, 0.5 * i, impl=impl), arguments, fast_mode=fast
    )


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_graph_break(fused, backend):
    impl, device = fused
    if (impl, backend) == ("triton", "inductor") and device == "cpu":
        pytest.skip("aot_eager covers the interpreted kernels; Inductor adds nothing to an opaque operator")

    def step(residual, image):
        illumination, _ = sci_kernels.Retinex(impl)(residual, image, image)
        return sci_kernels.LossFunction(sigma=0.5, impl=impl)(image, illumination)

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=backend)
    for size in ((8, 9), (10, 7)):
        residual, image = pair(device, h=size[0], w=size[1])
        expected = torch.autograd.grad(step(residual, image), (residual, image))
        actual = torch.autograd.grad(compiled(residual, image), (residual, image))
        for a, b in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_another_size_does_not_recompile(fused):
    impl, device = fused
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(sci_kernels.SmoothLoss(impl=impl), fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for size in ((8, 9), (10, 7), (12, 15)):
        compiled(*pair(device, h=size[0], w=size[1]))
        counts.append(counter.frame_count)
    assert counts[0] > 0 and counts[1:] == counts[:1] * 2


def test_autocast_keeps_the_loss_in_float32(fused):
    impl, device = fused
    x, _ = pair(device)
    conv = nn.Conv2d(3, 3, 3, padding=1, device=device)
    with torch.autocast(device, torch.bfloat16):
        residual = torch.sigmoid(conv(x))
        illumination, _ = sci_kernels.retinex(residual, x, x, impl=impl)
        loss = sci_kernels.illumination_loss(x, illumination, impl=impl)
    assert residual.dtype == torch.bfloat16 and loss.dtype == torch.float32
    loss.backward()
    assert x.grad.isfinite().all() and conv.weight.grad.any()


def test_double_backward_is_refused(fused):
    impl, device = fused
    x, y = pair(device)
    (grad,) = torch.autograd.grad(sci_kernels.smooth_loss(x, y, impl=impl), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        grad.sum().backward()


def test_forward_mode_is_refused(fused):
    impl, device = fused
    x, y = (t.detach() for t in pair(device))
    for function in (sci_kernels.smooth_loss, lambda x, y, impl: sci_kernels.retinex(x, y, y, impl)):
        with pytest.raises(RuntimeError, match="forward-mode"):
            torch.func.jvp(lambda x, f=function: f(x, y, impl=impl), (x,), (torch.ones_like(x),))


def test_backward_twice_gives_the_same(fused):
    impl, device = fused
    x, y = pair(device)
    loss = sci_kernels.illumination_loss(x, y, impl=impl)
    first = torch.autograd.grad(loss, (x, y), retain_graph=True)
    for a, b in zip(torch.autograd.grad(loss, (x, y)), first, strict=True):
        assert torch.equal(a, b)


def test_without_gradient_nothing_is_kept(fused):
    impl, device = fused
    x, y = pair(device)
    with torch.no_grad():
        assert not sci_kernels.smooth_loss(x, y, impl=impl).requires_grad
    assert not sci_kernels.smooth_loss(x.detach(), y.detach(), impl=impl).requires_grad


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled on this machine, not interpreted")
def test_triton_without_gpu_or_interpreter_is_refused(monkeypatch):
    from sci_kernels import triton as launchers

    monkeypatch.setattr(launchers, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="impl='triton' needs a tensor on a CUDA or ROCm device; got one on cpu"):
        sci_kernels.smooth_loss(*pair(), impl="triton")


def test_auto_is_triton_on_a_gpu_and_blocked_elsewhere(monkeypatch):
    from sci_kernels import functional

    class OnGpu:
        device = torch.device("cuda")

    monkeypatch.setattr(functional, "_HAS_TRITON", True)
    assert functional._resolve_impl("auto", OnGpu()) == "triton"
    assert functional._resolve_impl("auto", torch.empty(1)) == "blocked"
    monkeypatch.setattr(functional, "_HAS_TRITON", False)
    assert functional._resolve_impl("auto", OnGpu()) == "blocked"
    assert functional._resolve_impl("triton", OnGpu()) == "triton"


X = torch.rand(1, 3, 5, 6)


@pytest.mark.parametrize(
    "error, message, arguments, options",
    [
        (TypeError, "input: expected a torch.Tensor; got list", ([1], X), {}),
        (TypeError, "illumination: expected float16.*got torch.int64", (X, X.long()), {}),
        (TypeError, "input: expected a dense tensor", (X.to_sparse(), X), {}),
        (ValueError, "input: expected 4 dimensions.*got shape \\(3, 5, 6\\)", (X[0], X), {}),
        (ValueError, "input: expected 1 or 3 channels; got 2", (X[:, :2], X), {}),
        (ValueError, "illumination: expected height and width of at least 3.*got 2x6", (X, X[:, :, :2]), {}),
        (ValueError, "input: expected height and width of at least 3.*got 5x2", (X[..., :2], X[..., :2]), {}),
        (ValueError, "input: expected at least one image", (X[:0], X[:0]), {}),
        (ValueError, "illumination: expected the batch, height and width", (X, X[..., :5]), {}),
        (ValueError, "illumination: expected the device of input, cpu; got meta", (X, X.to("meta")), {}),
        (ValueError, "sigma: expected a positive number, at least 1e-18; got 0", (X, X), {"sigma": 0}),
        (ValueError, "sigma: expected a finite number; got nan", (X, X), {"sigma": float("nan")}),
        (TypeError, "sigma: expected a number; got str", (X, X), {"sigma": "10"}),
        (TypeError, "sigma: expected a number; got bool", (X, X), {"sigma": True}),
        (ValueError, "color: expected one of reference, ycbcr, rgb; got 'hsv'", (X, X), {"color": "hsv"}),
        (ValueError, "color: 'ycbcr' needs 3 input channels", (X[:, :1], X), {"color": "ycbcr"}),
        (ValueError, "numel\\(\\) % 3 == 0; got 25", (X[:, :1, :, :5], X[..., :5]), {}),
        (ValueError, "impl: expected one of auto, triton, blocked, reference; got 'fast'", (X, X), {"impl": "fast"}),
    ],
)
def test_wrong_loss_arguments_are_named(error, message, arguments, options):
    with pytest.raises(error, match=message):
        sci_kernels.smooth_loss(*arguments, **options)


def test_wrong_arguments_of_the_total_loss():
    with pytest.raises(ValueError, match="illumination: expected the shape of input"):
        sci_kernels.illumination_loss(X, X[:, :1])
    with pytest.raises(ValueError, match="fidelity_weight: expected a finite number; got inf"):
        sci_kernels.illumination_loss(X, X, fidelity_weight=float("inf"))
    with pytest.raises(TypeError, match="smooth_weight: expected a number; got NoneType"):
        sci_kernels.illumination_loss(X, X, smooth_weight=None)
