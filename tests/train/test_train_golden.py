"""Whole training runs in float64 against those of the official implementation."""

import numpy as np
import pytest
import torch

from model.network.architecture import FinetuneNetwork, Network
from model.network.inference import enhance_image
from sci_kernels import LossFunction
from train.step.update import make_optimizer, training_step

RUNS = ("train_3stage", "finetune")
LR = {"train_3stage": 3e-4, "finetune": 5e-4}
IMPLS = ("reference", "blocked")

# A convolution that feeds a BatchNorm has no true gradient for its bias: what Adam makes of rounding noise there
# is no property of the method.
DRIFTING = ("enhance.conv.0.bias", "enhance.blocks.0.0.bias", "calibrate.in_conv.0.bias") + tuple(
    f"calibrate.{block}.{conv}.bias" for block in ("convs", "blocks.0", "blocks.1", "blocks.2") for conv in (0, 3)
)


pytestmark = pytest.mark.usefixtures("one_thread")


def build(name, arrays, impl):
    model = Network(stage=3, impl=impl) if name == "train_3stage" else FinetuneNetwork(impl=impl)
    model.double()
    model.load_state_dict(section(arrays, "init/"))
    return model, LossFunction(impl=impl), make_optimizer(model, LR[name])


def section(arrays, prefix):
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def check_run(name, arrays, impl):
    model, criterion, optimizer = build(name, arrays, impl)
    images = arrays["images"].double()
    losses = []
    for step in range(len(arrays["losses"])):
        losses.append(training_step(model, criterion, optimizer, images[step % len(images)][None]).loss)
    np.testing.assert_allclose(losses, arrays["losses"].numpy(), rtol=1e-9, atol=0)
    check_final_state(model.state_dict(), section(arrays, "final/"))
    # The running mean lags behind a bias that drifts, and evaluation sees the difference.
    illumination, reflectance = enhance_image(model, images[:1])
    torch.testing.assert_close(illumination, arrays["eval_illumination"], rtol=1e-6, atol=0)
    torch.testing.assert_close(reflectance, arrays["eval_reflectance"], rtol=1e-6, atol=0)


def check_final_state(state, expected):
    assert state.keys() == expected.keys()
    for key in sorted(state.keys() - set(DRIFTING)):
        # The mean of what a drifting bias was added to moves with it.
        tolerance = 1e-5 if key.endswith("running_mean") else 1e-10
        error = (state[key] - expected[key]).abs().max().item() / max(expected[key].abs().max().item(), 1e-300)
        assert error <= tolerance, f"{key}: relative error {error}"


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", RUNS)
def test_run(golden, name, impl):
    check_run(name, golden(name), impl)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", RUNS)
def test_run_on_official_photographs(official, name, impl):
    with np.load(official / "golden" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key].copy()) for key in file.files}
    check_run(name, arrays, impl)


@pytest.mark.parametrize("name", RUNS)
def test_first_gradients(golden, name):
    arrays = golden(name)
    model, criterion, optimizer = build(name, arrays, "blocked")
    result = training_step(model, criterion, optimizer, arrays["images"][:1].double())
    expected = section(arrays, "grad0/")
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm().item()
    assert result.gradient_norm == pytest.approx(norm, rel=1e-10)
    scale = min(1.0, 5.0 / (norm + 1e-6))
    largest = max(gradient.abs().max() for gradient in expected.values()).item()
    for key, parameter in model.named_parameters():
        error = (parameter.grad - scale * expected[key]).abs().max().item()
        # Biases without a true gradient are rounding noise of sums as large as the largest gradient.
        bound = 1e-12 * scale * (largest if key in DRIFTING else expected[key].abs().max().item())
        assert error <= bound, f"{key}: {error} > {bound}"


def test_a_step_trains_a_model_left_in_eval_mode(golden):
    """The official scripts call eval() after the first epoch and never go back: BatchNorm is then frozen."""
    arrays = golden("finetune")
    model, criterion, optimizer = build("finetune", arrays, "blocked")
    model.eval()
    loss = training_step(model, criterion, optimizer, arrays["images"].double()).loss
    assert model.training and loss == pytest.approx(arrays["losses"][0].item(), rel=1e-12)
