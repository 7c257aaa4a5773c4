"""Losses of other people's networks, recognised and replaced only where the numbers agree."""

import pytest
import torch
from torch import nn

import sci_kernels
from sci_kernels import reference


class SmoothLoss(nn.Module):
    """A foreign loss with the official class name, arguments and attribute."""

    def __init__(self, color="reference", sigma=10.0, detach=False, cuda=False):
        super().__init__()
        self.sigma, self.color, self.detach, self.cuda_call = sigma, color, detach, cuda

    def forward(self, input, output):
        if self.cuda_call:
            input = input * torch.ones(1).cuda()
        return reference.smooth_loss(input.detach() if self.detach else input, output, self.sigma, self.color)


class LossFunction(nn.Module):
    def __init__(self, fidelity=1.5, smooth=1.0, extra=0.0, **options):
        super().__init__()
        self.l2_loss = nn.MSELoss()
        self.smooth_loss = SmoothLoss(**options)
        self.fidelity, self.smooth, self.extra = fidelity, smooth, extra

    def forward(self, input, illu):
        total = self.fidelity * self.l2_loss(illu, input) + self.smooth * self.smooth_loss(input, illu)
        return total + self.extra * illu.mean().square()


class Net(nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self._criterion = loss


def same_numbers(ours, theirs):
    torch.manual_seed(1)
    x, y = torch.rand(1, 3, 8, 9), torch.rand(1, 3, 8, 9)
    torch.testing.assert_close(ours(x, y), theirs(x, y), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("color", ["reference", "ycbcr", "rgb"])
@pytest.mark.parametrize("sigma", [10.0, 0.1])
def test_smooth_loss_keeps_sigma_and_color(color, sigma):
    theirs = SmoothLoss(color, sigma)
    net = Net(theirs)
    report = sci_kernels.accelerate(net)
    ours = net._criterion
    assert type(ours) is sci_kernels.SmoothLoss
    assert (ours.color, ours.sigma, ours.impl) == (color, sigma, "auto")
    assert [r.name for r in report.replaced] == ["_criterion"] and not report.refused
    same_numbers(ours, theirs)


@pytest.mark.parametrize("fidelity, smooth", [(1.5, 1.0), (0.5, 1.0), (3.0, 0.25), (0.0, 1.0)])
def test_weights_are_found_by_probing(fidelity, smooth):
    theirs = LossFunction(fidelity, smooth, cuda=True)
    net = Net(theirs)
    report = sci_kernels.accelerate(net)
    ours = net._criterion
    assert (ours.fidelity_weight, ours.smooth_weight) == (fidelity, smooth)
    # The SmoothLoss inside went with it: one line, not two.
    assert len(report.replaced) == 1 and "fidelity_weight" in str(report)
    if not torch.cuda.is_available():
        theirs.smooth_loss.cuda_call = False
    same_numbers(ours, theirs)


def test_detached_input_is_noticed():
    net = Net(SmoothLoss(detach=True))
    sci_kernels.accelerate(net)
    assert net._criterion.detach_input
    x = torch.rand(1, 3, 8, 9, requires_grad=True)
    assert not net._criterion(x, torch.rand(1, 3, 8, 9)).requires_grad


def test_a_loss_with_an_extra_term_is_refused_and_the_smoothness_inside_it_is_not():
    net = Net(LossFunction(extra=0.3))
    with pytest.warns(UserWarning, match="_criterion.*differs"):
        report = sci_kernels.accelerate(net)
    assert [r.name for r in report.refused] == ["_criterion"]
    assert [r.name for r in report.replaced] == ["_criterion.smooth_loss"]
    assert type(net._criterion) is LossFunction
    assert type(net._criterion.smooth_loss) is sci_kernels.SmoothLoss


def test_a_loss_without_sigma_or_that_fails_is_refused():
    class Broken(SmoothLoss):
        def forward(self, input, output):
            raise RuntimeError("needs\na special tensor")

    Broken.__name__ = "SmoothLoss"
    nameless = SmoothLoss()
    del nameless.sigma
    net = nn.ModuleList([Broken(), nameless])
    with pytest.warns(UserWarning):
        report = sci_kernels.accelerate(net)
    assert [("special tensor" in r.reason, "sigma" in r.reason) for r in report.refused] == [
        (True, False),
        (False, True),
    ]
    assert not report.replaced


def test_one_loss_under_two_names_stays_one():
    net = Net(SmoothLoss())
    net.again = net._criterion
    report = sci_kernels.accelerate(net)
    assert len(report.replaced) == 2 and net.again is net._criterion


def test_nothing_to_do_and_wrong_arguments():
    net = Net(sci_kernels.SmoothLoss())
    kept = net._criterion
    assert "no SmoothLoss" in str(sci_kernels.accelerate(net)) and net._criterion is kept
    with pytest.raises(ValueError, match="itself a SmoothLoss"):
        sci_kernels.accelerate(SmoothLoss())
    with pytest.raises(TypeError, match="module"):
        sci_kernels.accelerate("net")


def test_probing_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    net = Net(SmoothLoss())
    torch.manual_seed(5)
    sci_kernels.accelerate(net)
    assert torch.equal(torch.rand(1), expected)


def test_what_only_shows_in_the_range_of_images_is_refused():
    class Clamped(SmoothLoss):
        def forward(self, input, output):
            return super().forward(input, output.clamp(max=0.25))

    Clamped.__name__ = "SmoothLoss"
    with pytest.warns(UserWarning, match="differs"):
        assert not sci_kernels.accelerate(Net(Clamped(sigma=0.1))).replaced


def test_parameters_and_hooks_are_not_lost():
    learned, hooked = LossFunction(), SmoothLoss()
    learned.weight = nn.Parameter(torch.tensor(1.0))
    hooked.register_forward_hook(lambda *_: None)
    net = nn.ModuleList([learned, hooked])
    with pytest.warns(UserWarning):
        report = sci_kernels.accelerate(net)
    assert ["parameters" in r.reason or "hooks" in r.reason for r in report.refused] == [True, True]
    assert net[0] is learned and net[1] is hooked and len(list(net.parameters())) == 1


def test_a_refused_loss_is_not_broken_from_inside():
    class Reaching(LossFunction):
        def forward(self, input, illu):
            return super().forward(input, illu) + self.smooth_loss.detach * illu.sum() + self.extra

    Reaching.__name__ = "LossFunction"
    net = Net(Reaching(extra=0.3))
    with pytest.warns(UserWarning):
        report = sci_kernels.accelerate(net)
    assert not report.replaced and len(report.refused) == 2
    net._criterion(torch.rand(1, 3, 5, 5), torch.rand(1, 3, 5, 5))


def test_weights_nobody_typed_are_kept_as_measured():
    net = Net(LossFunction(1 / 3, 1 / 7))
    sci_kernels.accelerate(net)
    assert net._criterion.fidelity_weight == pytest.approx(1 / 3, rel=1e-6)
    assert net._criterion.smooth_weight == pytest.approx(1 / 7, rel=1e-6)


def test_surroundings_do_not_matter():
    for around in (torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta")):
        net = Net(LossFunction())
        with around:
            assert sci_kernels.accelerate(net).replaced


def test_odd_sigma_and_wrong_impl():
    odd = SmoothLoss()
    odd.sigma = None
    with pytest.warns(UserWarning, match="sigma is no number"):
        sci_kernels.accelerate(Net(odd))
    with pytest.raises(ValueError, match="impl: expected one of"):
        sci_kernels.accelerate(Net(SmoothLoss()), impl="tritn")
