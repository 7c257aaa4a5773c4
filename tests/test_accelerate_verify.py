"""`accelerate(network, verify=...)`: the user's own loss, before and after, and nothing changed where it must not."""

import forks
import pytest
import torch
from torch import nn

import sci_kernels


def images(n=1):
    return torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(5))


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize(
    "batch",
    [
        (images(), images() * 0.5),
        {"input": images(), "illu": images() * 0.5},
        [images(2), images(2).half()],
    ],
    ids=["tuple", "dict", "half"],
)
def test_each_loss_on_the_users_tensors(batch):
    net = forks.Network(forks.LossFunction())
    report = sci_kernels.accelerate(net, verify=batch)
    (result,) = report.verified
    assert result.passed and result.name == "_criterion" and len(report.replaced) == 1
    assert result.before == pytest.approx(result.after, rel=2e-3) and result.before > 0
    assert min(result.seconds_before, result.seconds_after) > 0
    assert "_criterion: on your tensors" in str(report) and "ms before" in str(report)
    assert all(tensor.grad is None for tensor in (batch.values() if isinstance(batch, dict) else batch))


@pytest.mark.parametrize("whole", [True, False], ids=["images", "function"])
def test_the_whole_network(whole):
    net = forks.Network(forks.LossFunction(forks.NoColors())).train()
    before, x = state(net), images()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    report = sci_kernels.accelerate(net, verify=x if whole else lambda: net._loss(x))
    assert torch.equal(torch.rand(1), expected)
    (result,) = report.verified
    assert result.passed and result.difference < 1e-5 and result.gradient_difference < 1e-3
    assert "the network: on your tensors" in str(report)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


class Outer(forks.Network):
    """Whose loss looks at the class of what it holds."""

    def _loss(self, image):
        return super()._loss(image) * (1.0 if type(self._criterion) is forks.LossFunction else 1.5)


def test_what_does_not_agree_on_the_users_tensors_is_not_replaced():
    net = Outer(forks.LossFunction(forks.NoColors()))
    kept = net._criterion
    with pytest.warns(UserWarning, match="your own loss is another with the fused ones: the network"):
        report = sci_kernels.accelerate(net, verify=images())
    assert net._criterion is kept and not report.replaced
    assert [refusal.name for refusal in report.refused] == ["_criterion"] and not report.verified[0].passed


class Brighter(forks.NoColors):
    """The same on the probes, whose sides are shorter."""

    def forward(self, input, output):
        return super().forward(input, output) * (1.0 if input.shape[-1] < 20 else 2.0)


Brighter.__name__ = "SmoothLoss"


def test_one_loss_that_does_not_agree_is_kept():
    net = nn.ModuleList([Brighter(), forks.NoColors()])
    with pytest.warns(UserWarning, match="0: .* kept: with the fused one it is not the same 0: on your tensors"):
        report = sci_kernels.accelerate(net, verify=(images(), images() * 0.5))
    assert [replacement.name for replacement in report.replaced] == ["1"] and type(net[0]) is Brighter


def test_nothing_changes_where_the_users_function_raises():
    net = forks.Network(forks.LossFunction(forks.NoColors()))
    kept, calls = net._criterion, []

    def third_time():
        calls.append(net._criterion)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return net._loss(images())

    with pytest.raises(KeyboardInterrupt):
        sci_kernels.accelerate(net, verify=third_time)
    assert calls[2] is not kept and net._criterion is kept


def test_wrong_tensors():
    net = forks.Network(forks.LossFunction())
    kept = net._criterion
    with pytest.raises(ValueError, match="verify: _criterion cannot be run on these tensors: RuntimeError"):
        sci_kernels.accelerate(net, verify=(images(), images()[..., :5]))
    with pytest.raises(TypeError, match="verify: expected a tensor, a tuple or dict of tensors"):
        sci_kernels.accelerate(net, verify=3)
    with pytest.raises(TypeError, match="verify: expected a tensor, a tuple or dict of tensors"):
        sci_kernels.accelerate(net, verify=(images(), 3))
    with pytest.raises(ValueError, match="verify: a tensor alone is given to ModuleList._loss, which does not exist"):
        sci_kernels.accelerate(nn.ModuleList([net]), verify=images())
    assert net._criterion is kept
