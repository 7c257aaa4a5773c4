"""What PyTorch does with the operators: opcheck, compile, export, torch.func, autocast; layouts."""

import functools
import io

import pytest
import torch
import torch._dynamo.testing
import torch.utils.checkpoint
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.autograd import forward_ad
from torch.export import Dim

import sci_kernels
from sci_kernels import blocked

OPERATORS = sorted(name[5:] for name in torch._C._dispatch_get_all_op_names() if name.startswith("sci::"))
# Each public function as a scalar function of two images, and as a module of as many.
FUNCTIONS = {
    "smooth_loss": lambda x, y, impl: sci_kernels.smooth_loss(x, y, sigma=0.5, impl=impl),
    "illumination_loss": lambda x, y, impl: sci_kernels.illumination_loss(x, y, sigma=0.5, impl=impl),
    "retinex": lambda x, y, impl: total(sci_kernels.retinex(0.4 * x, 0.4 * y, y, impl=impl)),
}
MODULES = {
    "SmoothLoss": lambda impl: sci_kernels.SmoothLoss(sigma=0.5, impl=impl),
    "LossFunction": lambda impl: sci_kernels.LossFunction(sigma=0.5, impl=impl),
    "Retinex": sci_kernels.Retinex,
}


def pair(device="cpu", dtype=torch.float32, h=8, w=9, n=1, count=2):
    torch.manual_seed(0)
    return tuple(torch.rand(n, 3, h, w, device=device, dtype=dtype, requires_grad=True) for _ in range(count))


def total(outputs):
    """One number of a loss or of both images of a retinex; squared, so that their gradients differ by element."""
    return outputs if isinstance(outputs, torch.Tensor) else sum(output.square().sum() for output in outputs)


def assert_all_close(actual, expected, **tolerances):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerances)


class Step(nn.Module):
    """A stage of SCI with parameters of its own: convolution, retinex, both losses."""

    def __init__(self, impl):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.retinex = sci_kernels.Retinex(impl)
        self.loss = sci_kernels.LossFunction(sigma=0.5, impl=impl)
        self.smooth = sci_kernels.SmoothLoss(sigma=0.5, impl=impl)

    def forward(self, residual, image):
        illumination, reflectance = self.retinex(torch.sigmoid(self.conv(residual)), image, image)
        return self.loss(image, illumination) + self.smooth(image, reflectance)


# Those of networks that drive their own backward have an opcheck beside their other tests.
@pytest.mark.quick("triton-cpu", name=[name for name in OPERATORS if name not in ("enhance", "exposure")])
@pytest.mark.parametrize("name", [name for name in OPERATORS if not name.startswith(("batch_norm", "conv", "channel"))])
def test_opcheck(fused, name):
    impl, device = fused
    x, y = pair(device)
    a, b, one = x.detach(), y.detach(), torch.ones((), device=device)
    options = (0.5, "reference", 1.5, 1.0, impl)
    weights = torch.linspace(-0.3, 0.3, 252, dtype=torch.float64).view(3, 3, 28)
    arguments = {
        "denoise": [((a * 255).byte(), 1 + a[:, :1], 1.5, impl)],
        "illumination_loss_fwd": [
            (x, y, *options, True, True),
            (a, y, *options, False, True),
            (x, b, *options, True, False),
            (a, b, *options, False, False),
            (x, y, *options, False, False),  # gradients that the flags did not foresee
        ],
        "illumination_loss_bwd": [
            (one, a, b, *options, *needs) for needs in ((True, True), (False, True), (True, False))
        ],
        "scale_gradients": [(one, a, b, torch.float16, torch.float32)],
        "retinex_fwd": [(x, y, y, impl)],
        "retinex_bwd": [(a, b, a, b, b, impl)],
        "enhance": [
            (a, weights, True, impl),
            ((a * 255).byte(), weights, False, impl),
            (a, weights, True, impl, one[None], True),
            ((a * 255).byte(), weights, False, impl, one[None], False),
        ],
        "exposure": [(0.5 * a, weights, 0.4, impl)],
    }
    cases = arguments[name]
    if (impl, device) == ("triton", "cpu"):  # each takes seconds; the first and the last have all that differs
        cases = [cases[0], *cases[1:][-1:]]
    for case in cases:
        torch.library.opcheck(getattr(torch.ops.sci, name).default, case)


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


@pytest.mark.quick("native-cpu", "blocked-cpu", backend=["aot_eager"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_graph_break(fused, backend):
    impl, device = fused
    if (impl, backend) == ("triton", "inductor") and device == "cpu":
        pytest.skip("aot_eager covers the interpreted kernels; Inductor adds nothing to an opaque operator")
    step = Step(impl).to(device)
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=backend)
    for size in ((8, 9), (10, 7)):
        arguments = pair(device, h=size[0], w=size[1])
        expected = torch.autograd.grad(step(*arguments), arguments)
        assert_all_close(torch.autograd.grad(compiled(*arguments), arguments), expected)


@pytest.mark.quick("native-cpu", every=2)
@pytest.mark.quick("blocked-cpu", "triton-cpu", every=3)
@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")  # which only counts
@pytest.mark.parametrize("dynamic, counts", [(True, [1, 1, 1]), (None, [1, 2, 2])], ids=["dynamic", "default"])
@pytest.mark.parametrize("name", MODULES)
def test_another_size_does_not_recompile(fused, name, dynamic, counts):
    impl, device = fused
    torch._dynamo.reset()  # it remembers from other tests which sizes vary
    forward, backward = torch._dynamo.testing.CompileCounter(), torch._dynamo.testing.CompileCounter()
    backend = aot_autograd(fw_compiler=forward, bw_compiler=backward)
    module = MODULES[name](impl)
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=backend)
    seen = []
    for size in ((8, 9), (10, 7), (12, 15)):
        arguments = pair(device, h=size[0], w=size[1], count=3 if name == "Retinex" else 2)
        expected = torch.autograd.grad(total(module(*arguments)), arguments)
        assert_all_close(torch.autograd.grad(total(compiled(*arguments)), arguments), expected)
        seen.append((forward.frame_count, backward.frame_count))
    assert seen == [(count, count) for count in counts]


@pytest.mark.quick("blocked-cpu", strict=[True])
@pytest.mark.quick("triton-cpu", strict=[])
@pytest.mark.parametrize("strict, with_gradient", [(False, False), (True, True)], ids=["frozen", "strict"])
def test_exported_program_runs_and_trains_at_other_sizes(fused, strict, with_gradient):
    impl, device = fused
    step = Step(impl).to(device).requires_grad_(with_gradient)
    example = tuple(t.detach().requires_grad_(with_gradient) for t in pair(device, n=2))
    sizes = {0: Dim("n", min=1, max=64), 2: Dim("h", min=3, max=8192), 3: Dim("w", min=3, max=8192)}
    program = torch.export.export(step, example, dynamic_shapes=(sizes, sizes), strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    loaded = torch.export.load(file).module()
    for n, h, w in ((3, 5, 7), (1, 4, 3)):
        arguments = pair(device, n=n, h=h, w=w)
        actual, expected = loaded(*arguments), step(*arguments)
        assert torch.equal(actual, expected)
        # Also of a program that was exported without: a gradient is never left out.
        assert_all_close(torch.autograd.grad(actual, arguments), torch.autograd.grad(expected, arguments))


def test_autocast_keeps_the_loss_in_float32(fused):
    impl, device = fused
    x, _ = pair(device)
    conv = nn.Conv2d(3, 3, 3, padding=1, device=device)
    with torch.autocast(device, torch.bfloat16):
        residual = torch.sigmoid(conv(x))
        illumination, _ = sci_kernels.Retinex(impl)(residual, x, x)
        loss = sci_kernels.LossFunction(impl=impl)(x, illumination)
    assert residual.dtype == torch.bfloat16 and loss.dtype == torch.float32
    loss.backward()
    assert x.grad.isfinite().all() and conv.weight.grad.any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_autocast_changes_no_arithmetic(fused, name):
    impl, device = fused
    x, y = (t.detach() for t in pair(device))
    outside = FUNCTIONS[name](x, y, impl)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(FUNCTIONS[name](x, y, impl), outside)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives_are_refused(fused, name):
    impl, device = fused
    x, y = pair(device)
    expected = torch.autograd.grad(FUNCTIONS[name](x, y, impl), (x, y))
    grads = torch.autograd.grad(FUNCTIONS[name](x, y, impl), (x, y), create_graph=True)
    for grad, plain in zip(grads, expected, strict=True):
        assert torch.equal(grad, plain)
        with pytest.raises(RuntimeError, match="second derivatives are not supported.*use impl='reference'"):
            (grad.square().sum() + x.sum()).backward(retain_graph=True)


# Each the derivative of f at x along a direction of ones.
DERIVATIVES = {
    "grad": lambda f, x: torch.func.grad(f)(x).sum(),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.ones_like(f(x)))[0].sum(),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x).sum(),
    "vmap(grad)": lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, x]))[0].sum(),
    "grad(vmap)": lambda f, x: torch.func.grad(lambda x: torch.func.vmap(f)(x[None]).sum())(x).sum(),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x).sum(),
    "jvp(vmap)": lambda f, x: torch.func.jvp(torch.func.vmap(f), (x[None],), (torch.ones_like(x)[None],))[1].sum(),
    "dual numbers": lambda f, x: along_ones(f, x),
    "compiled jvp": lambda f, x: compiled(lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1])(x),
    "jvp(compiled)": lambda f, x: torch.func.jvp(compiled(f), (x,), (torch.ones_like(x),))[1],
    "compiled dual numbers": lambda f, x: along_ones(compiled(f), x),
}


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, backend="eager")


def along_ones(function, x):
    """The derivative by forward mode; whatever is compiled sees numbers without tangents first."""
    function(x)
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


@pytest.mark.quick("blocked-cpu", "triton-cpu", every=2)
@pytest.mark.parametrize("transform", DERIVATIVES)
@pytest.mark.parametrize("name", ["smooth_loss", "retinex"])
def test_derivatives_of_torch_func_are_refused(fused, name, transform):
    impl, device = fused
    x, y = (t.detach() for t in pair(device))
    with pytest.raises(RuntimeError, match="not supported by the fused operators; use .*impl='reference'"):
        DERIVATIVES[transform](lambda x: FUNCTIONS[name](x, y, impl), x)


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("transform", DERIVATIVES)
@pytest.mark.parametrize("name", ["smooth_loss", "retinex"])
def test_the_reference_has_the_derivatives_of_torch_func(name, transform):
    x, y = pair(dtype=torch.float64, h=5, w=6)
    (grad,) = torch.autograd.grad(FUNCTIONS[name](x, y, "reference"), x)
    actual = DERIVATIVES[transform](lambda x: FUNCTIONS[name](x, y.detach(), "reference"), x.detach())
    torch.testing.assert_close(actual, grad.sum())


@pytest.mark.quick("triton-cpu", name=["illumination_loss", "retinex"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_gives_the_value_and_gradients_of_each(fused, name):
    impl, device = fused
    x, y = pair(device, n=3)
    values = torch.func.vmap(lambda x, y: FUNCTIONS[name](x[None], y[None], impl))(x, y)
    expected = torch.stack([FUNCTIONS[name](x[i : i + 1], y[i : i + 1], impl) for i in range(3)])
    assert torch.equal(values, expected)
    weights = torch.arange(1.0, 4.0, device=device)
    grads = torch.autograd.grad(values @ weights, (x, y))
    assert_all_close(grads, torch.autograd.grad(expected @ weights, (x, y)))


@pytest.mark.quick(name=["illumination_loss"])
@pytest.mark.interpreted(name=["illumination_loss"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_several_incoming_gradients_at_once(fused, name):
    impl, device = fused
    x, y = pair(device)
    factors = torch.tensor([1.0, -2.0], device=device)
    both = torch.autograd.grad(FUNCTIONS[name](x, y, impl), (x, y), factors, is_grads_batched=True)
    for index, factor in enumerate(factors):
        expected = torch.autograd.grad(FUNCTIONS[name](x, y, impl), (x, y), factor)
        assert_all_close([grad[index] for grad in both], expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_within_a_checkpoint(fused, reentrant):
    """Which, unless it is reentrant, gives what was saved out only once."""
    impl, device = fused
    x, y = pair(device)
    expected = torch.autograd.grad(FUNCTIONS["illumination_loss"](x, y, impl), (x, y))
    function = functools.partial(FUNCTIONS["illumination_loss"], impl=impl)
    torch.utils.checkpoint.checkpoint(function, x, y, use_reentrant=reentrant).backward()
    assert_all_close((x.grad, y.grad), expected)


def test_functional_call_uses_the_parameters_it_is_given(fused):
    impl, device = fused
    step, other = Step(impl).to(device), Step(impl).to(device)
    parameters = dict(other.named_parameters())
    arguments = pair(device)
    actual = torch.func.functional_call(step, parameters, arguments)
    expected = other(*arguments)
    assert torch.equal(actual, expected)
    wanted = (*arguments, *parameters.values())
    assert_all_close(torch.autograd.grad(actual, wanted), torch.autograd.grad(expected, wanted))


LAYOUTS = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.mT.contiguous().mT,
    "expanded": lambda t: t[:1].expand(2, -1, -1, -1),
    "sliced": lambda t: torch.cat([t, t], 3)[..., 1:9],
    "misaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "negated": torch._neg_view,
}


@pytest.mark.quick(every=3)
@pytest.mark.ptx(name=["retinex"])
@pytest.mark.interpreted(every=3)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_layout_is_read_and_left_as_it_is(fused, name, layout):
    impl, device = fused
    leaves = pair(device, h=8, w=8, n=2)
    views = [LAYOUTS[layout](leaf) for leaf in leaves]
    dense = [view.clone(memory_format=torch.contiguous_format) for view in views]
    before = [view.detach().clone() for view in views]
    actual, expected = FUNCTIONS[name](*views, impl), FUNCTIONS[name](*dense, impl)
    grads = torch.autograd.grad(actual, leaves)
    assert all(torch.equal(view, copy) for view, copy in zip(views, before, strict=True))
    tolerances = {"rtol": 2e-6, "atol": 1e-7}
    torch.testing.assert_close(actual, expected, **tolerances)
    assert_all_close(grads, torch.autograd.grad(expected, leaves), **tolerances)


@pytest.mark.interpreted(name=["retinex"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_zeros_without_memory_are_read(fused, name):
    impl, device = fused
    _, y = pair(device)
    lazy = torch._efficientzerotensor(y.shape, device=device)
    assert torch.equal(FUNCTIONS[name](lazy, y, impl), FUNCTIONS[name](torch.zeros_like(y), y, impl))


@pytest.mark.quick("triton-cpu", name=["retinex"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_run_gives_the_same_bits(fused, name):
    impl, device = fused
    x, y = pair(device, h=16, w=15, n=2)
    runs = []
    for _ in range(3):
        value = FUNCTIONS[name](x, y, impl)
        runs.append((value, *torch.autograd.grad(value, (x, y))))
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


def test_backward_twice_gives_the_same(fused):
    impl, device = fused
    x, y = pair(device)
    loss = sci_kernels.illumination_loss(x, y, impl=impl)
    first = torch.autograd.grad(loss, (x, y), retain_graph=True)
    for a, b in zip(torch.autograd.grad(loss, (x, y)), first, strict=True):
        assert torch.equal(a, b)


@pytest.mark.quick(every=2)
def test_gradients_belong_to_the_caller(fused):
    """They require no gradient, and what is done to them reaches no later backward pass through the same graph."""
    impl, device = fused
    x, y = pair(device)
    first, second = torch.autograd.grad(sci_kernels.illumination_loss(x, y, sigma=0.5, impl=impl), (x, y))
    assert not first.requires_grad and first.is_leaf and not second.requires_grad
    loss = sci_kernels.illumination_loss(x, y, sigma=0.5, impl=impl)
    for count in (1, 2, 3):
        loss.backward(retain_graph=True)
        assert_all_close((x.grad, y.grad), (count * first, count * second))
    x.grad.zero_()
    loss.backward()
    assert_all_close((x.grad, y.grad), (first, 4 * second))


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


def test_auto_is_triton_on_a_gpu_and_native_or_blocked_elsewhere(monkeypatch):
    from sci_kernels import arguments, native

    class OnGpu:
        device = torch.device("cuda")

    monkeypatch.setattr(arguments, "_HAS_TRITON", True)
    assert arguments.resolve_impl("auto", OnGpu()) == "triton" == sci_kernels.default_impl("cuda")
    monkeypatch.setattr(arguments, "_HAS_TRITON", False)
    assert sci_kernels.default_impl("cuda") == "blocked"
    assert arguments.resolve_impl("triton", OnGpu()) == "triton"
    ran = []
    for name, code in (("native", native), ("blocked", blocked)):
        loss = code.loss
        monkeypatch.setattr(code, "loss", lambda *args, name=name, loss=loss: ran.append(name) or loss(*args))
    for error, name in ((None, "native"), ("no C compiler", "blocked")):
        monkeypatch.setattr(native, "compiler_error", lambda error=error: error)
        assert sci_kernels.default_impl("cpu") == name
        sci_kernels.smooth_loss(*pair())
        assert ran.pop() == name
    assert not ran
