"""`accelerate(network, verify=...)`: the user's own loss, before and after, and nothing changed where it must not."""

import random

import forks
import numpy as np
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
        [images(2).half(), images(2).half() * 0.5],
    ],
    ids=["tuple", "dict", "half"],
)
def test_each_loss_on_the_users_tensors(batch):
    net = forks.Network(forks.LossFunction())
    report = sci_kernels.accelerate(net, verify=batch)
    (result,) = report.verified
    assert result.passed and result.name == "_criterion" and len(report.replaced) == 1
    assert result.before == pytest.approx(result.after, rel=5e-3) and result.before > 0
    assert result.difference == pytest.approx(abs(result.after / result.before - 1), rel=1e-3, abs=1e-9)
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
    with pytest.warns(UserWarning, match="your own loss differs with the fused ones: the network"):
        report = sci_kernels.accelerate(net, verify=images())
    assert net._criterion is kept and not report.replaced
    assert [refusal.name for refusal in report.refused] == ["_criterion"] and not report.verified[0].passed


class Brighter(forks.NoColors):
    """The same on the probes, none of which is as wide."""

    def forward(self, input, output):
        return super().forward(input, output) * (2.0 if input.shape[-1] == 24 else 1.0)


Brighter.__name__ = "SmoothLoss"


def test_one_loss_that_does_not_agree_is_kept():
    net = nn.ModuleList([Brighter(), forks.NoColors()])
    with pytest.warns(UserWarning, match="0: .* kept: the fused one does not agree: 0: on your tensors"):
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


def test_what_cannot_be_run_on_them_is_told_and_replaced_all_the_same():
    net = nn.ModuleList([forks.LossFunction(), forks.SmoothLoss()])
    report = sci_kernels.accelerate(net, verify={"input": images(), "illu": images() * 0.5})
    assert [result.name for result in report.verified] == ["0"] and len(report.replaced) == 2
    (line,) = report.unverified
    assert line.startswith("1: not verified, it cannot be run on these tensors: TypeError") and line in str(report)


@pytest.mark.parametrize(
    "verify, error, message",
    [
        (3, TypeError, "expected a tensor, a tuple or dict of tensors, or a function without arguments; got int"),
        ((images(), 3), TypeError, "got tuple of Tensor, int"),
        ((), TypeError, "got tuple of nothing"),
        (lambda: 1.5, ValueError, "expected your function to return the loss; it returns a float"),
        (lambda: images(), ValueError, "it returns a tensor of shape"),
        (lambda: images().mean(), ValueError, "your function called none of the losses that were replaced"),
        (lambda: torch.tensor(float("nan")), ValueError, "your loss is nan, which cannot be compared"),
    ],
    ids=["int", "tuple", "empty", "float", "tensor", "another loss", "nan"],
)
def test_what_verify_cannot_use_is_told_and_nothing_changed(verify, error, message):
    net = forks.Network(forks.LossFunction())
    kept = net._criterion
    with pytest.raises(error, match=f"verify: .*{message}" if error is TypeError else message):
        sci_kernels.accelerate(net, verify=verify)
    assert net._criterion is kept


def test_one_tensor_needs_the_official_loss_method():
    with pytest.raises(ValueError, match="verify: a tensor alone is given to ModuleList._loss, which does not exist"):
        sci_kernels.accelerate(nn.ModuleList([forks.LossFunction()]), verify=images())


def test_a_function_that_does_a_whole_step_leaves_no_trace():
    """Its gradient is gone by then: the value alone is compared, and the report says so."""
    net = forks.Network(forks.LossFunction(forks.NoColors())).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    before = state(net)

    def step():
        net.eval()
        loss = net._loss(images())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    report = sci_kernels.accelerate(net, verify=step)
    assert report.verified[0].gradient_difference is None and "no gradient compared" in str(report)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters()) and net.training


def test_a_loss_returned_after_its_backward_is_told():
    net = forks.Network(forks.LossFunction(forks.NoColors()))

    def step():
        loss = net._loss(images())
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=r"verify: expected your function to return the loss before its backward\(\)"):
        sci_kernels.accelerate(net, verify=step)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_random_numbers_of_every_kind_are_the_same_before_and_after():
    net = forks.Network(forks.LossFunction(forks.NoColors()))

    def loss():
        noise = random.random() + float(np.random.rand()) + torch.rand(())
        return net._loss(images()) + noise

    states = [random.getstate()[1][:3], torch.get_rng_state()]
    assert sci_kernels.accelerate(net, verify=loss).verified[0].passed
    assert random.getstate()[1][:3] == states[0] and torch.equal(torch.get_rng_state(), states[1])
