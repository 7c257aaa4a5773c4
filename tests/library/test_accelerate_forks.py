"""Every kind of fork: what is this loss is replaced, with its numbers; what is not is refused, and told why."""

import re
import warnings

import forks
import pytest
import torch

import sci_kernels
from sci_kernels.drop_in.stand_in import original_of

# Name of what is replaced, channels, and the fused module's arguments.
REPLACED = {
    forks.LossFunction: ("", (3, 1), "LossFunction(fidelity_weight=1.5, smooth_weight=1.0, sigma={}"),
    forks.StepsLossFunction: ("", (1,), "LossFunction(fidelity_weight=0.5, smooth_weight=1.0, sigma={}"),
    forks.SmoothLoss: ("", (3, 1), "SmoothLoss(sigma={}, color='reference'"),
    forks.ZeroIgLossFunction: (".smooth_loss", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.StagesLoss: (".smooth", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.ThreeArguments: (".smooth_loss", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.ThirdOptional: ("", (3,), "LossFunction(fidelity_weight=1.5, smooth_weight=1.0, sigma={}"),
    forks.ReturnsTuple: (".smooth_loss", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.BatchOfOne: ("", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.PadsByTen: ("", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.PerPixelColors: ("", (3,), "SmoothLoss(sigma={}, color='ycbcr'"),
    forks.NoColors: ("", (1, 2, 3), "SmoothLoss(sigma={}, color='rgb'"),
    forks.TwoPlanes: ("", (2,), "SmoothLoss(sigma={}, color='rgb'"),
    forks.OtherNames: ("", (3,), "SmoothLoss(sigma={}, color='reference'"),
    forks.WithBuffers: ("", (3, 1), "SmoothLoss(sigma={}, color='reference'"),
}
REFUSED = {
    forks.Ruas: (r"value differs by .* on values in \[0, 2 sigma\]", "by 1, where", r"weigh 1; by exp\(-\|Y"),
    forks.EuclideanNorm: ("value differs", r"1\.414 times that in one \(a norm of order 2\)"),
    forks.OtherOffsets: ("value differs", r"without \+-\(2, -2\).*\+-\(3, 2\) besides"),
    forks.OtherWeight: ("value differs", r"neighbors at \+-\(0, 1\) count 2 times as much"),
    forks.NormOverBatch: ("value differs by 50.0% on a batch of two", "the same image twice gives 2 times its value"),
    forks.TwentyDirections: ("value differs", r"20 others: without \+-\(2, -2\), \+-\(2, 2\)"),
    forks.Noisy: ("it is random: its value differs by .* between two calls",),
    forks.Scaled: ("value differs", r"0\.5 times this loss where the input is constant"),
    forks.Squared: ("value differs", "ten times as large counts 100 times as much"),
    forks.OnlyInTraining: ("in eval mode",),
    forks.OtherTerms: ("value differs", r"nearest by hand: sci_kernels\.LossFunction\(fidelity_weight"),
}


def accelerated(loss):
    net = forks.Network(loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return net, sci_kernels.accelerate(net)


def numbers(loss, channels, dtype):
    """Value and both gradients on a dark image and its illumination."""
    generator = torch.Generator().manual_seed(3)
    pair = [torch.rand(1, channels, 36, 41, generator=generator, dtype=torch.float64) * high for high in (0.3, 1.0)]
    x, y = (tensor.to(dtype).requires_grad_() for tensor in pair)
    with forks.cuda_or_not():
        value = loss(x, y)
        return value.detach(), *torch.autograd.grad(value, (x, y))


def difference(ours, theirs):
    return [float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("sigma", [10, 0.3])
@pytest.mark.parametrize("cls", REPLACED, ids=lambda cls: cls.__qualname__)
def test_what_is_this_loss_is_replaced_with_its_numbers(cls, sigma):
    name, channels, arguments = REPLACED[cls]
    loss = cls()
    for module in loss.modules():
        if hasattr(module, "sigma"):
            module.sigma = sigma
    net, report = accelerated(loss)
    assert [replacement.name for replacement in report.replaced] == [f"_criterion{name}"]
    assert f"-> sci_kernels.{arguments.format(float(sigma))}" in str(report.replaced[0])
    ours = net.get_submodule(f"_criterion{name}")
    theirs = original_of(ours)
    for count in channels:
        for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 3e-7)):
            assert max(difference(numbers(ours, count, dtype), numbers(theirs, count, dtype))) <= bound


@pytest.mark.parametrize("cls", REFUSED, ids=lambda cls: cls.__qualname__)
def test_what_is_not_this_loss_is_refused_and_told_why(cls):
    net = forks.Network(cls())
    kept = net._criterion
    with pytest.warns(UserWarning, match="_criterion: forks"):
        report = sci_kernels.accelerate(net)
    assert net._criterion is kept and report.refused[0].name == "_criterion"
    for pattern in REFUSED[cls]:
        assert re.search(pattern, report.refused[0].reason)
    assert "by hand" in report.refused[0].reason and "\n" not in str(report.refused[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
@pytest.mark.parametrize("cls", REPLACED, ids=lambda cls: cls.__qualname__)
def test_on_a_gpu_whatever_its_products_are_set_to(cls):
    name, channels, _ = REPLACED[cls]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        net, report = accelerated(cls().cuda())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert [replacement.name for replacement in report.replaced] == [f"_criterion{name}"]
    ours = net.get_submodule(f"_criterion{name}")
    for count in channels:
        pair = [
            tensor.cuda().requires_grad_() for tensor in (torch.rand(1, count, 36, 41), torch.rand(1, count, 36, 41))
        ]
        results = []
        for loss in (ours, original_of(ours)):
            value = loss(*pair)
            results.append((value.detach(), *torch.autograd.grad(value, pair)))
        assert max(difference(*results)) <= 1e-6
