"""Networks against the golden runs and the published pictures; sizes, shared blocks, modes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import CalibrateNetwork, EnhanceNetwork, Enhancer, FinetuneNetwork, Network, enhance_image, read_image
from sci_kernels import illumination_loss
from tests.conftest import OFFICIAL

GOLDEN_RUNS = [("train_3stage", Network), ("finetune", FinetuneNetwork)]


def state_of(vectors: dict, prefix: str) -> dict:
    return {key.removeprefix(prefix): value for key, value in vectors.items() if key.startswith(prefix)}


@pytest.mark.parametrize("network, parameters", [(EnhanceNetwork, 258), (CalibrateNetwork, 5619)])
def test_parameter_counts_are_the_published_ones(network, parameters):
    assert sum(parameter.numel() for parameter in network().parameters()) == parameters


@pytest.mark.parametrize("name, network", GOLDEN_RUNS)
def test_state_dict_has_the_official_keys_and_shapes(golden, name, network):
    expected = {key: value.shape for key, value in state_of(golden(name), "init/").items()}
    assert {key: value.shape for key, value in network().state_dict().items()} == expected


@pytest.mark.parametrize("name, network", GOLDEN_RUNS)
def test_eval_output_of_the_trained_golden_network(golden, name, network):
    vectors = golden(name)
    module = network().double()
    module.load_state_dict(state_of(vectors, "final/"))
    illumination, reflectance = enhance_image(module, vectors["images"][:1].double())
    torch.testing.assert_close(illumination, vectors["eval_illumination"], rtol=0, atol=1e-12)
    torch.testing.assert_close(reflectance, vectors["eval_reflectance"], rtol=0, atol=1e-12)


def test_stages_chain_as_specified(golden):
    vectors = golden("train_3stage")
    module = Network(stage=3).double()
    module.load_state_dict(state_of(vectors, "init/"))
    image = vectors["images"].double()
    module.eval()
    stages = module(image)
    assert [len(part) for part in stages] == [3, 3, 3, 3]
    assert torch.equal(stages.inputs[0], image)
    for k in range(3):
        illumination = (module.enhance.residual(stages.inputs[k]) + stages.inputs[k]).clamp(1e-4, 1)
        torch.testing.assert_close(stages.illuminations[k], illumination, rtol=0, atol=1e-12)
        reflectance = (image / illumination).clamp(0, 1)  # of the image, not of the stage input
        torch.testing.assert_close(stages.reflectances[k], reflectance, rtol=0, atol=1e-12)
        calibration = module.calibrate(reflectance)
        torch.testing.assert_close(stages.calibrations[k], calibration.abs(), rtol=0, atol=1e-12)
        if k < 2:
            torch.testing.assert_close(stages.inputs[k + 1], image + calibration, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name, network", GOLDEN_RUNS)
def test_first_loss_and_gradients_of_the_golden_run(golden, name, network):
    vectors = golden(name)
    module = network().double()
    module.load_state_dict(state_of(vectors, "init/"))
    image = vectors["images"][:1].double()
    if network is Network:
        stages = module(image)
        loss = sum(map(illumination_loss, stages.inputs, stages.illuminations))
    else:
        loss = illumination_loss(image, module(image)[0])
    torch.testing.assert_close(loss, vectors["losses"][0], rtol=1e-12, atol=0)
    loss.backward()
    expected = state_of(vectors, "grad0/")
    gradients = {key: parameter.grad for key, parameter in module.named_parameters() if parameter.grad is not None}
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        # Rounding noise alone is left of the gradient of a bias that a BatchNorm takes away again.
        torch.testing.assert_close(gradient, expected[key], rtol=1e-9, atol=1e-12, msg=lambda m, k=key: f"{k}: {m}")


def test_last_calibration_moves_the_batchnorm_statistics():
    module = Network(stage=3)
    module(torch.rand(1, 3, 8, 8))
    assert module.calibrate.in_conv[1].num_batches_tracked == 3
    assert module.calibrate.convs[1].num_batches_tracked == 9  # three shared blocks a stage


def test_shared_blocks_are_one_module():
    module = Network()
    assert module.enhance.blocks[0] is module.enhance.conv
    assert all(block is module.calibrate.convs for block in module.calibrate.blocks)
    assert len(EnhanceNetwork(layers=4).blocks) == 4


def test_initialization():
    torch.manual_seed(0)
    wide = CalibrateNetwork(channels=256)
    weight = wide.convs[0].weight
    assert abs(weight.mean()) < 1e-3 and abs(weight.std() - 0.02) < 1e-3
    scale = wide.convs[1].weight
    assert abs(scale.mean() - 1) < 0.01 and 0.01 < scale.std() < 0.03
    for part in (wide.in_conv, wide.convs, wide.out_conv):
        for layer in part:
            if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
                assert not layer.bias.any()


def test_enhancing_leaves_mode_statistics_and_gradients_alone():
    module = Network()
    module.enhance.conv[1].eval()  # one frozen BatchNorm in a training network
    before = {name: value.clone() for name, value in module.state_dict().items()}
    illumination, reflectance = enhance_image(module, torch.rand(2, 3, 9, 7))
    assert module.training and module.enhance.training and not module.enhance.conv[1].training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not illumination.requires_grad and not reflectance.requires_grad


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5)])
@pytest.mark.parametrize("network", [Network, FinetuneNetwork, EnhanceNetwork])
def test_tiny_images_can_be_enhanced(network, size):
    for output in enhance_image(network(), torch.rand(1, 3, *size)):
        assert output.shape == (1, 3, *size) and output.isfinite().all()


@pytest.mark.parametrize("network", [Network, FinetuneNetwork, EnhanceNetwork, CalibrateNetwork])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8)])
def test_wrong_shapes_are_named(network, shape):
    with pytest.raises(ValueError, match=r"expected shape \(N, 3, H, W\); got"):
        network()(torch.rand(*shape))


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="stage_input: expected a floating point tensor.*got torch.uint8"):
        EnhanceNetwork()(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match="network: expected Network, .*got CalibrateNetwork"):
        enhance_image(CalibrateNetwork(), torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("make", [lambda n: Network(stage=n), lambda n: EnhanceNetwork(layers=n)])
def test_wrong_counts_are_named(make):
    with pytest.raises(ValueError, match="(stage|layers): expected at least 1; got 0"):
        make(0)
    with pytest.raises(TypeError, match="(stage|layers): expected an integer; got float"):
        make(3.0)


def official_pictures() -> list[Path]:
    """Every published output, by its path from the folder of them; one stand-in where they are absent."""
    folder = OFFICIAL / "expected"
    return sorted(path.relative_to(folder) for path in folder.glob("*/*.png")) or [Path("easy/absent.png")]


@pytest.mark.parametrize("name", official_pictures(), ids=str)
def test_official_weights_give_the_published_pictures(official, name):
    """As `python -m model.enhance --published` makes them."""
    enhancer = Enhancer(official / "weights" / f"{name.parent}.pt", device="cpu", exposure=None)
    pixels = enhancer.picture(read_image(official / "images" / name)).pixels
    with Image.open(official / "expected" / name) as image:
        expected = np.array(image).astype(int)
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 2e-5 * difference.size


@pytest.mark.parametrize("x_grad", [True, False])
def test_opcheck_of_the_convolution_that_is_compiled(x_grad):
    x = torch.rand(2, 3, 5, 6, requires_grad=x_grad)
    weight, bias = torch.rand(4, 3, 3, 3, requires_grad=True), torch.rand(4, requires_grad=True)
    torch.library.opcheck(torch.ops.sci_model.conv3x3.default, (x, weight, bias))
    grad = torch.rand(2, 4, 5, 6)
    torch.library.opcheck(torch.ops.sci_model.conv3x3_bwd.default, (grad, x.detach(), weight.detach(), x_grad))
