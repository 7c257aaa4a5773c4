"""Losses that look like the published one and differ somewhere, each refused with its reason; and some that may not."""

import threading

import pytest
import torch
from torch import nn

import sci_kernels
from sci_kernels import reference
from tests.foreign_losses import LossFunction, Net, SmoothLoss


def named(cls):
    """The class under the name of the one that it changes, as a fork has it."""
    return type(cls.__base__.__name__, (cls,), {})


class PerImage(SmoothLoss):
    def forward(self, input, output):
        pairs = zip(input, output, strict=True)
        return torch.stack([super(PerImage, self).forward(x[None], y[None]) for x, y in pairs]).squeeze()


class Unsqueezed(SmoothLoss):
    def forward(self, input, output):
        return super().forward(input, output).unsqueeze(0)


class Locked(SmoothLoss):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class AfterAFewChannels(SmoothLoss):
    """Sums over channels by the number of those of the input, whatever the illumination has."""

    def forward(self, input, output):
        return reference.smooth_loss(input, output.mean(1, keepdim=True), 10.0, "rgb") * input.shape[1]


class DarkHinge(SmoothLoss):
    def forward(self, input, output):
        return super().forward(input, output) + 5 * torch.relu(0.1 - output.mean())


class OnLargeImages(SmoothLoss):
    def forward(self, input, output):
        return super().forward(input, output) * (2.0 if min(input.shape[2:]) >= 32 else 1.0)


class PartlyDetached(LossFunction):
    def forward(self, input, illu):
        return 1.5 * self.l2_loss(illu, input) + self.smooth_loss(input.detach(), illu)


class Remembers(SmoothLoss):
    def __init__(self):
        super().__init__()
        self.history = []

    def get_extra_state(self):
        return self.history


REASONS = {
    PerImage: r"on a batch of two, 2x3x12x13 on cpu it returns a tensor of shape \(2,\), not a scalar",
    Unsqueezed: r"it returns a tensor of shape \(1,\), not a scalar",
    Locked: "it cannot be copied, and only a copy may be run: TypeError",
    AfterAFewChannels: "its value differs",
    DarkHinge: "its value differs by .* on a nearly black image",
    OnLargeImages: "its value differs by 50.0% on a larger image",
    PartlyDetached: "gradient of the first argument differs .* all else agrees, as if a part of it took its first",
    Remembers: "it has an extra state in state dicts",
}


@pytest.mark.parametrize("cls", REASONS, ids=lambda cls: cls.__qualname__)
def test_what_differs_somewhere_is_refused(cls):
    net = Net(named(cls)())
    with pytest.warns(UserWarning, match=f"_criterion: .* kept: .*{REASONS[cls]}"):
        assert "_criterion" not in [each.name for each in sci_kernels.accelerate(net).replaced]


class OneLightAlone(LossFunction):
    """Takes what the fused one does not: three channels beside one."""

    def forward(self, input, illu):
        assert (input.shape[1], illu.shape[1]) == (3, 1)
        return self.l2_loss(illu.expand_as(input), input) + self.smooth_loss(input, illu)


def test_a_loss_that_cannot_be_compared_is_told():
    net = Net(named(OneLightAlone)())
    with pytest.warns(UserWarning, match="_criterion: .* but cannot be compared: AssertionError.*; by hand"):
        assert [each.name for each in sci_kernels.accelerate(net).replaced] == ["_criterion.smooth_loss"]


def test_an_outer_loss_that_cannot_be_copied_proves_nothing():
    net = Net(LossFunction(extra=0.3))
    net._criterion.lock = threading.Lock()
    with pytest.warns(UserWarning, match="_criterion: .* it cannot be copied"):
        assert [each.name for each in sci_kernels.accelerate(net).replaced] == ["_criterion.smooth_loss"]


class InsideUnit(SmoothLoss):
    def forward(self, input, output):
        assert input.min() >= 0 and input.max() <= 1
        return super().forward(input, output)


class OneLight(SmoothLoss):
    def forward(self, input, output):
        assert output.shape[1] == 1 and input.shape[1] == 3
        return super().forward(input, output)


class Frozen(SmoothLoss):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, input, output):
        return super().forward(input * self.kernel.mean(), output)


@pytest.mark.parametrize("cls", [InsideUnit, OneLight, Frozen], ids=lambda cls: cls.__qualname__)
def test_what_takes_only_some_tensors_is_tried_on_those(cls):
    net = Net(named(cls)())
    keys = list(net.state_dict())
    assert sci_kernels.accelerate(net).replaced and list(net.state_dict()) == keys
