"""Losses of other people's networks, recognized and replaced only where the numbers agree."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import sci_kernels
from sci_kernels import reference
from tests.foreign_losses import LossFunction, Net, SmoothLoss, same_numbers


@pytest.mark.parametrize("color", ["reference", "ycbcr", "rgb"])
@pytest.mark.parametrize("sigma", [10.0, 0.1])
def test_smooth_loss_keeps_sigma_and_color(color, sigma):
    theirs = SmoothLoss(color, sigma)
    net = Net(theirs)
    report = sci_kernels.accelerate(net)
    ours = net._criterion
    assert isinstance(ours, sci_kernels.SmoothLoss)
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
    assert isinstance(net._criterion.smooth_loss, sci_kernels.SmoothLoss)


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
    broken, without = (refusal.reason for refusal in report.refused)
    assert "RuntimeError: needs a special tensor" in broken and "AttributeError" not in broken
    assert "AttributeError" in without and "'sigma'" in without
    assert not report.replaced


def test_one_loss_under_two_names_stays_one():
    net = Net(SmoothLoss())
    net.again = net._criterion
    report = sci_kernels.accelerate(net)
    assert len(report.replaced) == 2 and net.again is net._criterion


def test_nothing_to_do_and_wrong_arguments():
    net = Net(sci_kernels.SmoothLoss())
    kept = net._criterion
    assert str(sci_kernels.accelerate(net)) == "fused before, left as they are: _criterion"
    assert net._criterion is kept
    assert "no SmoothLoss or LossFunction found; only submodules" in str(sci_kernels.accelerate(nn.ReLU()))
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
            return super().forward(input, illu) + (type(self.smooth_loss) is SmoothLoss) * illu.sum()

    Reaching.__name__ = "LossFunction"
    net = Net(Reaching(extra=0.3))
    with pytest.warns(UserWarning):
        report = sci_kernels.accelerate(net)
    assert not report.replaced and [refusal.name for refusal in report.refused] == [
        "_criterion",
        "_criterion.smooth_loss",
    ]
    assert "with the fused one inside its results differ by" in report.refused[1].reason
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


def test_a_second_time_there_is_nothing_to_do():
    net = nn.ModuleList([Net(LossFunction()), Net(SmoothLoss())])
    sci_kernels.accelerate(net)
    kept = [net[0]._criterion, net[1]._criterion]
    assert str(sci_kernels.accelerate(net)) == "fused before, left as they are: 0._criterion, 1._criterion"
    assert [net[0]._criterion, net[1]._criterion] == kept


def test_losses_in_plain_containers_are_named():
    net = Net(SmoothLoss())
    net.more, net.by_name = [SmoothLoss(), nn.ReLU(), LossFunction()], {"a": SmoothLoss()}
    with pytest.warns(UserWarning, match="only submodules are searched"):
        report = sci_kernels.accelerate(net)
    assert [r.name for r in report.replaced] == ["_criterion"]
    assert [r.name for r in report.refused] == ["more[0]", "more[2]", "by_name['a']"]
    assert "plain list; use nn.ModuleList or nn.ModuleDict" in str(report)


class Gone(SmoothLoss):
    """With a tensor on a device that no longer answers."""

    def _apply(self, *args, **kwargs):
        raise RuntimeError("device-side error:\nthe device is gone")


Gone.__name__ = "SmoothLoss"


def test_a_device_that_is_gone():
    net = Net(Gone())
    kept = net._criterion
    with pytest.warns(UserWarning, match="to cpu: RuntimeError: device-side error: the device is gone;"):
        report = sci_kernels.accelerate(net)
    assert net._criterion is kept and len(str(report).splitlines()) == 1


@pytest.mark.parametrize("hook", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_of_every_kind_are_kept(hook):
    net = Net(LossFunction())
    getattr(net._criterion.smooth_loss, f"register_{hook}_hook")(lambda *_: None)
    with pytest.warns(UserWarning, match="it has hooks, which would be lost"):
        assert not sci_kernels.accelerate(net).replaced


class Guarded(nn.Module):
    """Refuses to be given another loss."""

    def __setattr__(self, name, value):
        if isinstance(value, sci_kernels.SmoothLoss):
            raise PermissionError("read only")
        super().__setattr__(name, value)


def test_all_of_them_or_none():
    net = nn.ModuleList([Net(SmoothLoss()), Guarded(), Net(SmoothLoss())])
    net[1].loss = SmoothLoss()
    before = [net[0]._criterion, net[1].loss, net[2]._criterion]
    with pytest.raises(PermissionError):
        sci_kernels.accelerate(net)
    assert [net[0]._criterion, net[1].loss, net[2]._criterion] == before


class Keeping(SmoothLoss):
    """Keeps its last arguments, as the official one does."""

    def forward(self, input, output):
        self.output = output * 1
        return super().forward(input, output)


Keeping.__name__ = "SmoothLoss"


def test_after_a_training_step_the_graph_is_let_go():
    loss = Keeping()
    net = Net(loss)
    x = torch.rand(1, 3, 8, 9, requires_grad=True)
    loss(x, x)
    assert loss.output.grad_fn is not None
    assert sci_kernels.accelerate(net).replaced
    assert loss.output.shape == x.shape and loss.output.grad_fn is None


@pytest.mark.parametrize("count", [1, 3])
def test_equal_losses_are_run_once(count, monkeypatch):
    calls = []
    monkeypatch.setattr(SmoothLoss, "forward", _counted(SmoothLoss.forward, calls))
    sci_kernels.accelerate(nn.ModuleList([Net(SmoothLoss()) for _ in range(count)]))
    assert 0 < len(calls) < 20


def _counted(function, calls):
    def count(*args):
        calls.append(args)
        return function(*args)

    return count


def test_no_attribute_sigma_is_the_published_one():
    class Constant(SmoothLoss):
        def __init__(self):
            super().__init__()
            del self.sigma

        def forward(self, input, output):
            return reference.smooth_loss(input, output, 10.0, "ycbcr")

    Constant.__name__ = "SmoothLoss"
    net = Net(Constant())
    sci_kernels.accelerate(net)
    assert (net._criterion.sigma, net._criterion.color) == (10.0, "ycbcr")


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch before 2.9")
@pytest.mark.parametrize("legacy", [True, False], ids=["legacy flag", "by backend"])
def test_the_precision_of_products_is_put_back(legacy):
    settings = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [setting.fp32_precision for setting in settings]
    try:
        if legacy:
            torch.backends.cuda.matmul.allow_tf32 = True
        else:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        chosen = [setting.fp32_precision for setting in settings]
        assert sci_kernels.accelerate(Net(SmoothLoss())).replaced
        assert [setting.fp32_precision for setting in settings] == chosen
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def test_threads_wait_for_each_other():
    before = torch.Tensor.cuda, torch.get_num_threads()
    nets = [nn.ModuleList([Net(SmoothLoss(sigma=sigma)) for sigma in (1.0, 2.0, 3.0)]) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(sci_kernels.accelerate, nets))
    assert all(len(report.replaced) == 3 for report in reports)
    assert (torch.Tensor.cuda, torch.get_num_threads()) == before


def test_a_warning_that_is_an_error_changes_nothing():
    net = Net(LossFunction(extra=0.3))
    inner = net._criterion.smooth_loss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            sci_kernels.accelerate(net)
    assert net._criterion.smooth_loss is inner


def test_a_default_dtype_of_float64_does_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        assert sci_kernels.accelerate(Net(LossFunction())).replaced
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
