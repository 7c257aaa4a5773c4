"""torch.jit and torch.fx on a model that holds the modules: it works, or says what to use."""

import io
import pickle
import warnings

import forks
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import sci_kernels

OPERATORS = ("smooth_loss", "illumination_loss", "retinex")


class Model(nn.Module):
    def __init__(self, impl="auto"):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.retinex = sci_kernels.Retinex(impl, sigmoid=True)
        self.loss, self.smooth = sci_kernels.LossFunction(impl=impl), sci_kernels.SmoothLoss(1.0, "ycbcr", impl)

    def forward(self, image):
        illumination, reflectance = self.retinex(self.conv(image), image, image)
        return self.loss(image, illumination) + self.smooth(image, illumination), reflectance


class Accelerated(forks.Network):
    def __init__(self):
        super().__init__(forks.LossFunction())
        sci_kernels.accelerate(self)

    def forward(self, image):
        illumination = super().forward(image)
        return self._criterion(image, illu=illumination), illumination


MODELS = {"auto": Model, "blocked": lambda: Model("blocked"), "accelerated": Accelerated}


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(6))


def same_results_and_gradients(made, model, image):
    """But for what the executor of a trace rounds otherwise."""
    results, grads = [], []
    for module in (made, model):
        loss, other = module(image)
        results.append((loss.detach(), other.detach()))
        grads.append(torch.autograd.grad(loss, list(model.parameters() if module is model else module.parameters())))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-7)


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("name", MODELS)
def test_trace_for_any_size_saved_and_loaded(name):
    model = MODELS[name]().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated
        traced = torch.jit.trace(model, images(1, 3, 12, 15))
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    for image in (images(1, 3, 12, 15), images(2, 3, 17, 9)):
        same_results_and_gradients(traced, model, image)
        same_results_and_gradients(loaded, model, image)


@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_a_graph_of_the_gradients(mode):
    def gradients(image, illumination):
        return torch.autograd.grad(sci_kernels.illumination_loss(image, illumination), (image, illumination))

    pair = [images(1, 3, 8, 9).requires_grad_(), (0.5 * images(1, 3, 8, 9)).requires_grad_()]
    traced = make_fx(gradients, tracing_mode=mode)(*pair)
    for actual, expected in zip(traced(*pair), gradients(*pair), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", MODELS)
def test_fx_records_the_operators_as_calls(name):
    model = MODELS[name]().eval()
    traced = torch.fx.symbolic_trace(model)
    called = [node.target.__name__ for node in traced.graph.nodes if node.op == "call_function"]
    expected = ["illumination_loss"] if name == "accelerated" else ["retinex", "illumination_loss", "smooth_loss"]
    assert [function for function in called if function in OPERATORS] == expected
    for made in (traced, pickle.loads(pickle.dumps(traced))):
        same_results_and_gradients(made, model, images(2, 3, 17, 9))


@pytest.mark.parametrize("name", MODELS)
def test_script_says_what_to_use(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=r"cannot compile sci_kernels\.\w+; use torch.export or torch.compile"):
            torch.jit.script(MODELS[name]())


def test_arguments_that_are_no_tensors_are_still_refused():
    with pytest.raises(TypeError, match="input: expected a torch.Tensor; got float"):
        sci_kernels.smooth_loss(1.0, 2.0)
    with pytest.raises(TypeError, match="residual: expected a torch.Tensor; got list"):
        sci_kernels.retinex([1.0], images(1), images(1))


def test_a_scripted_network_is_told_to_be_accelerated_before():
    class Plain(nn.Module):
        def forward(self, input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
            return (input - output).mean()

    Plain.__name__ = "SmoothLoss"
    net = nn.Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.loss = torch.jit.script(Plain())
    with pytest.warns(UserWarning, match="loss: SmoothLoss kept: it is scripted; accelerate the network before"):
        assert not sci_kernels.accelerate(net).replaced
