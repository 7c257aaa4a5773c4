"""The network as one function against the modules it replaces."""

import copy
from statistics import median

import pytest
import torch
from torch import nn

from model.network.architecture import CalibrateNetwork, EnhanceNetwork, Network
from model.network.batch_statistics import planned_for_gpu
from model.network.fused_training import fused_network
from sci_kernels import LossFunction
from tests.conftest import interpreter_fault

KINDS = {"enhance": EnhanceNetwork, "calibrate": CalibrateNetwork}


pytestmark = pytest.mark.usefixtures("one_thread")


def network(kind, impl="auto", checkpoint="off", dtype=torch.float64, **sizes):
    """Weights large enough for every branch to matter, and BatchNorms that differ from their start."""
    torch.manual_seed(7)
    module = KINDS[kind](impl=impl, checkpoint=checkpoint, **sizes)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(torch.randn_like(value) * 0.3 + (1.0 if value.dim() == 1 and "weight" in name else 0.0))
    return module.to(dtype)


def picture(n, h, w, dtype=torch.float64):
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(h * w), dtype=torch.float64).to(dtype)


def gradients(module, x, amp=False):
    """Output, gradients of x and of every parameter, and buffers, by name."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        out = module(x) if isinstance(module, CalibrateNetwork) else module.residual(x)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (out * cotangent.to(x.dtype)).sum().backward()
    found = {"out": out.detach(), "x": x.grad} | {n: p.grad for n, p in module.named_parameters()}
    return found | dict(module.named_buffers())


def error(ours, theirs):
    scale = theirs.double().abs().max().clamp_min(1e-300)
    return ((ours.double() - theirs.double()).abs().max() / scale).item()


NOISE = {"enhance": ("conv.0.bias",), "calibrate": ("in_conv.0.bias", "convs.0.bias", "convs.3.bias")}


def is_noise(kind, name):
    """The bias of a convolution that feeds a BatchNorm has no true gradient: what is found there is rounding."""
    return name.removeprefix("blocks.0.") in NOISE[kind]


@pytest.mark.parametrize("checkpoint", ["off", "stage", "block"])
@pytest.mark.parametrize("size", [(1, 9, 7), (2, 16, 5), (1, 3, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_statistics_in_float64(kind, size, checkpoint, host):
    x = picture(*size)
    expected = gradients(network(kind, "reference"), x)
    check(kind, gradients(network(kind, host, checkpoint), x), expected)


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("checkpoint", ["off", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_way_of_a_gpu(kind, checkpoint):
    """Contiguous features, and the Triton kernels, interpreted."""
    if reason := interpreter_fault():
        pytest.skip(reason)
    expected = gradients(network(kind, "reference"), picture(2, 6, 7))
    with planned_for_gpu():
        check(kind, gradients(network(kind, checkpoint=checkpoint), picture(2, 6, 7)), expected)


@pytest.mark.parametrize(
    "kind, checkpoint",
    [("enhance", "off"), pytest.param("calibrate", "off", marks=pytest.mark.slow), ("enhance", "block")],
)
def test_convolutions_on_tensor_cores(kind, checkpoint):
    """Interpreted; what their products are made of keeps the digits of float32."""
    if reason := interpreter_fault():
        pytest.skip(reason)
    x = picture(1, 6, 7, torch.float32)
    exact = gradients(network(kind, "reference", dtype=torch.float32).double(), x.double())
    eager = gradients(network(kind, "reference", dtype=torch.float32), x)
    with planned_for_gpu(), torch.backends.cudnn.flags(allow_tf32=False):
        module = network(kind, "auto", checkpoint, torch.float32, convolutions="triton")
        found = gradients(module, x)
    for name, value in exact.items():
        if is_noise(kind, name):
            assert not found[name].any()
        else:
            assert error(found[name], value) <= 2 * error(eager[name], value) + 2e-6, name


def test_convolutions_that_cannot_be_had_are_named():
    with pytest.raises(RuntimeError, match="convolutions: 'triton' needs an NVIDIA GPU from sm_80 on.*on cpu"):
        network("enhance", convolutions="triton").residual(picture(1, 8, 8))
    with pytest.raises(ValueError, match="convolutions: expected one of auto, library, triton; got 'all'"):
        Network(convolutions="all")
    with pytest.raises(ValueError, match="convolutions: expected 'auto' with impl='reference'"):
        Network(impl="reference", convolutions="triton")
    module = network("enhance", convolutions="triton")
    module.conv[1].eval()
    with pytest.raises(ValueError, match="convolutions: expected 'auto' with torch.compile, or with BatchNorm"):
        module.residual(picture(1, 8, 8))


def check(kind, found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if is_noise(kind, name):
            assert found[name].abs().max() < 1e-10
        else:
            assert error(found[name], value) <= 1e-9, name


def test_a_gray_picture(host):
    """Of one channel, in which a tensor has both memory formats at once."""
    head = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()).double()
    block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()).double()
    last = nn.Conv2d(16, 1, 3, padding=1).double()
    parameters = [*head.parameters(), *block.parameters(), *last.parameters()]
    x = picture(2, 9, 7)[:, :1].contiguous()
    features = head(x)
    expected = torch.autograd.grad(last(features + block(features)).square().sum(), parameters)
    found = torch.autograd.grad(fused_network(x, head, block, 1, last, impl=host).square().sum(), parameters)
    scale = max(value.abs().max() for value in expected)
    assert all((a - b).abs().max() <= 1e-10 * scale for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind, sizes", [("enhance", {"layers": 3, "channels": 5}), ("calibrate", {"layers": 1})])
def test_other_depths_and_widths(kind, sizes):
    expected = gradients(network(kind, "reference", **sizes), picture(1, 8, 9))
    for name, value in gradients(network(kind, **sizes), picture(1, 8, 9)).items():
        assert is_noise(kind, name) or error(value, expected[name]) <= 1e-9, name


def errors_of(kind, dtype, impl, amp=False):
    """Of each result, how far the function and the modules are from float64.

    The median of five pictures: in one of them rounding may decide what a ReLU lets through, for either.
    """
    errors = {}
    for width in (21, 22, 23, 24, 25):
        x = picture(1, 33, width, torch.float32)
        exact = gradients(network(kind, "reference"), x.double())
        eager = gradients(network(kind, "reference", dtype=dtype), x.to(dtype), amp)
        fused = gradients(network(kind, impl, dtype=dtype), x.to(dtype), amp)
        assert all(fused[name].dtype == eager[name].dtype for name in eager)
        for name in exact:
            if not is_noise(kind, name) and exact[name].is_floating_point():
                pair = (error(fused[name], exact[name]), error(eager[name], exact[name]))
                errors.setdefault(name, []).append(pair)
    return {name: [median(each) for each in zip(*pairs, strict=True)] for name, pairs in errors.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_as_exact_as_the_modules(kind, host):
    for name, (fused, eager) in errors_of(kind, torch.float32, host).items():
        assert fused <= 2 * eager + 5e-7, (name, fused, eager)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_autocast_is_as_exact_as_the_modules(kind, host):
    for name, (fused, eager) in errors_of(kind, torch.float32, host, amp=True).items():
        assert fused <= 2 * eager + 2e-3, (name, fused, eager)


@pytest.mark.parametrize("kind", KINDS)
def test_modules_in_half_precision_are_as_exact_as_their_own(kind, host):
    for name, (fused, eager) in errors_of(kind, torch.bfloat16, host).items():
        assert fused <= 2 * eager + 2e-2, (name, fused, eager)


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("checkpoint", ["stage", "block"])
def test_what_is_computed_again_is_the_same_to_the_bit(checkpoint, amp):
    """And the statistics are moved once."""
    x = picture(1, 17, 14, torch.float32)
    for kind in KINDS:
        expected = gradients(network(kind, dtype=torch.float32), x, amp)
        found = gradients(network(kind, checkpoint=checkpoint, dtype=torch.float32), x, amp)
        for name, value in expected.items():
            assert torch.equal(found[name], value), (kind, name)
        assert expected["in_conv.1.num_batches_tracked" if kind == "calibrate" else "conv.1.num_batches_tracked"] > 0


def saved_bytes(checkpoint, impl="auto"):
    """Of what the calibrate network keeps for backward, a pixel, each memory counted once, parameters not at all."""
    module, x = network("calibrate", impl, checkpoint, torch.float32), picture(1, 40, 50, torch.float32)
    x.requires_grad_()
    own = {p.untyped_storage().data_ptr() for p in (*module.parameters(), *module.buffers())}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return sum(size for size, _ in found.values()) / (40 * 50)


def test_what_is_kept():
    """x, and the sigmoid's output, 12 bytes a pixel each; 7 convolutions of 16 channels; some statistics."""
    assert 12 + 448 + 12 <= saved_bytes("off") <= 12 + 448 + 12 + 1
    assert 24 <= saved_bytes("stage") <= 25 and 24 <= saved_bytes("block") <= 25
    assert saved_bytes("off", "reference") > 2.2 * saved_bytes("off")


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_backward_finds_the_same(kind):
    """What the first one gave up is made again."""
    module, x = network(kind, dtype=torch.float32), picture(1, 9, 8, torch.float32).requires_grad_()
    out = module(x) if kind == "calibrate" else module.residual(x)
    found = [torch.autograd.grad(out.square().sum(), (x, *module.parameters()), retain_graph=True) for _ in range(3)]
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], again, strict=True))


def test_frozen_and_synchronized_batch_norms_go_through_the_modules():
    x = picture(1, 8, 8)
    module = network("enhance")
    module.conv[1].eval()
    mean = module.conv[1].running_mean.clone()
    expected = copy.deepcopy(module)
    expected.impl = "reference"
    torch.testing.assert_close(module.residual(x), expected.residual(x), rtol=0, atol=0)
    assert torch.equal(module.conv[1].running_mean, mean)
    module = network("enhance", checkpoint="block")
    module.conv[1] = nn.BatchNorm2d(3, momentum=None).double()
    with pytest.raises(ValueError, match="checkpoint: expected 'off' with BatchNorm"):
        module.residual(x)


def test_a_wrong_checkpoint_is_named():
    with pytest.raises(ValueError, match="checkpoint: expected one of off, stage, block; got 'all'"):
        Network(checkpoint="all")
    with pytest.raises(ValueError, match="checkpoint: expected 'off' with impl='reference'"):
        Network(impl="reference", checkpoint="block")


def test_parameters_without_gradient_and_second_derivatives():
    module, x = network("calibrate"), picture(1, 6, 5).requires_grad_()
    module.in_conv[0].weight.requires_grad_(False)
    out = module(x)
    (grad,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        grad.sum().backward()
    module(x).sum().backward()
    assert module.in_conv[0].weight.grad is None and module.convs[0].weight.grad is not None


def test_nan_reaches_the_output_and_the_gradients():
    x = picture(1, 8, 8, torch.float32)
    x[0, 0, 4, 4] = float("nan")
    found, expected = (gradients(network("calibrate", impl, dtype=torch.float32), x) for impl in ("auto", "reference"))
    for name in ("out", "x", "convs.0.weight"):
        assert torch.equal(found[name].isnan(), expected[name].isnan()) and found[name].isnan().any()


@pytest.mark.parametrize("checkpoint", ["off", "block"])
def test_the_cascade(checkpoint):
    """All stages with their losses, float64, gradients and names."""
    torch.manual_seed(1)
    plain = Network(impl="reference").double()
    fused = Network(checkpoint=checkpoint).double()
    fused.load_state_dict(plain.state_dict())
    for module in (plain, fused):
        stages = module(picture(1, 20, 23) * 0.3)
        pairs = zip(stages.inputs, stages.illuminations, strict=True)
        sum(LossFunction(impl="reference")(*pair) for pair in pairs).backward()
    assert list(plain.state_dict()) == list(fused.state_dict())
    scale = max(p.grad.abs().max() for p in plain.parameters())
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        bound = 1e-9 * max(theirs.grad.abs().max(), 1e-3 * scale)
        assert (ours.grad - theirs.grad).abs().max() <= bound, name
    for name, value in plain.named_buffers():
        assert error(dict(fused.named_buffers())[name], value) <= 1e-9, name
