"""Folded weights and the fused operator against the plain network in eval mode."""

import pytest
import torch

import sci_kernels
from model import EnhanceNetwork, FinetuneNetwork, Network, enhance_image, fold


def trained(make=EnhanceNetwork, **options):
    """A network with weights and statistics far from their start."""
    torch.manual_seed(4)
    network = make(**options)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, 0.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.1, 2.0)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return network


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=str)
@pytest.mark.parametrize("make", [Network, FinetuneNetwork, EnhanceNetwork])
def test_fused_is_the_plain_network(make, dtype, bound):
    network = trained(make).to(dtype)
    image = torch.rand(2, 3, 70, 33, dtype=dtype)
    plain = enhance_image(network, image, impl="plain")
    for impl in ("auto", "blocked", "reference"):
        for actual, wanted in zip(enhance_image(network, image, impl=impl), plain, strict=True):
            assert actual.dtype == dtype and (actual - wanted).abs().max() <= bound
    assert not torch.equal(plain[1], network.train()(image)[1] if make is EnhanceNetwork else image)


def test_eight_bits_differ_by_a_level_at_most():
    network = trained()
    image = torch.randint(0, 256, (1, 3, 70, 33), dtype=torch.uint8)
    plain = enhance_image(network, image, impl="plain")
    for actual, wanted in zip(enhance_image(network, image), plain, strict=True):
        assert actual.dtype == wanted.dtype == torch.uint8
        assert (actual.int() - wanted.int()).abs().max() <= 1 and (actual == wanted).float().mean() > 0.999


def test_other_shapes_are_computed_by_the_network_and_refused_by_name():
    image = torch.rand(1, 3, 9, 9)
    for network in (EnhanceNetwork(layers=2), EnhanceNetwork(channels=8)):
        wanted = enhance_image(network, image, impl="plain")
        assert all(torch.equal(a, b) for a, b in zip(enhance_image(network, image), wanted, strict=True))
        with pytest.raises(ValueError, match="impl: 'blocked' cannot be used, .*published layers=1, channels=3; this"):
            enhance_image(network, image, impl="blocked")
        with pytest.raises(ValueError, match="network: the fused operator has the published layers=1.*has (2|1) and"):
            fold(network)


def test_the_implementation_of_the_network_is_used(monkeypatch):
    seen = []
    fused = sci_kernels.enhance
    monkeypatch.setattr(
        "model.network.inference.fused_enhance", lambda *a, impl, **k: seen.append(impl) or fused(*a, **k)
    )
    enhance_image(EnhanceNetwork(impl="blocked"), torch.rand(1, 3, 4, 4))
    enhance_image(EnhanceNetwork(impl="blocked"), torch.rand(1, 3, 4, 4), impl="reference")
    assert seen == ["blocked", "reference"]
