"""A training step: what it waits for, what it leaves alone, and what a compiler makes of it."""

import math

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from model.network.architecture import FinetuneNetwork, Network
from sci_kernels import LossFunction
from train.step.update import NotFinite, losses_function, make_optimizer, stage_losses, training_step

pytestmark = pytest.mark.usefixtures("one_thread")


def start(seed=3, **options):
    torch.manual_seed(seed)
    model = Network(**({"stage": 2, "exact": False} | options))
    return model, LossFunction(impl=options.get("impl", "auto")), make_optimizer(model, 3e-4)


def picture(h=12, w=10):
    return torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(h * w)) * 0.3


def everything(model, optimizer):
    """Copies of all that a step may change but BatchNorm statistics."""
    state = [value for group in optimizer.state_dict()["state"].values() for value in group.values()]
    return [tensor.detach().clone() for tensor in (*model.parameters(), *state)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_no_weight_and_says_so_when_read(bad):
    model, criterion, optimizer = start()
    training_step(model, criterion, optimizer, picture())
    before = everything(model, optimizer)
    spoilt = picture()
    spoilt[0, 1, 5, 5] = bad
    result = training_step(model, criterion, optimizer, spoilt)  # nothing is raised before a number is read
    for read in (result.read, lambda: result.loss, lambda: result.gradient_norm, lambda: result.stage_losses):
        with pytest.raises(NotFinite):
            read()
    assert all(torch.equal(a, b) for a, b in zip(everything(model, optimizer), before, strict=True))
    assert training_step(model, criterion, optimizer, picture()).loss > 0
    assert not all(torch.equal(a, b) for a, b in zip(everything(model, optimizer), before, strict=True))


@pytest.mark.parametrize("gradient", [1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("loss", [3e38, float("nan"), float("inf"), -float("inf")])
def test_only_a_finite_loss_and_gradient_move_the_weights(loss, gradient):
    """Each on its own. 3e38 is finite, though twice as much is not."""
    model, criterion, optimizer = start(stage=1)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def given(*pair):
        value = criterion(*pair)
        value.register_hook(lambda grad: grad * gradient)
        return value + (loss - value.detach())

    training_step(model, given, optimizer, picture())
    moved = math.isfinite(loss) and math.isfinite(gradient)
    assert any(not torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True)) == moved
    assert {state["step"].item() for state in optimizer.state.values()} == {float(moved)}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gradients_are_clipped_as_pytorch_clips_them(scale):
    model, criterion, optimizer = start()
    optimizer.step = lambda: None
    result = training_step(model, lambda *pair: criterion(*pair) * scale, optimizer, picture())
    clipped = [parameter.grad for parameter in model.parameters()]
    other, *_ = start()
    (stage_losses(other, lambda *pair: criterion(*pair) * scale, picture()).sum()).backward()
    assert torch.nn.utils.clip_grad_norm_(other.parameters(), 5.0).item() == result.gradient_norm
    assert (result.gradient_norm > 5) == (scale >= 1)
    assert all(torch.equal(grad, theirs.grad) for grad, theirs in zip(clipped, other.parameters(), strict=True))


def test_few_operators_follow_backward():
    """On a GPU each is at least one launch, for tensors of a few numbers."""
    model, criterion, optimizer = start(stage=3)
    training_step(model, criterion, optimizer, picture())
    with Called() as called:
        training_step(model, criterion, optimizer, picture())
    after = called.names[called.names.index("aten::_foreach_norm") :]
    launched = [name for name in after if not name.startswith("profiler::") and name != "aten::unbind"]
    assert len(launched) == 16, launched


def test_fused_adam_takes_the_step_of_the_plain_one():
    models = [start()[0].double() for _ in range(2)]
    optimizers = [make_optimizer(models[0], 3e-4), torch.optim.Adam(models[1].parameters(), 3e-4, weight_decay=3e-4)]
    assert optimizers[0].defaults["fused"] and not optimizers[1].defaults["fused"]
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            training_step(model, LossFunction(), optimizer, picture().double())
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_no_number_is_read_inside_a_step(monkeypatch):
    """On a GPU every one of these would wait for the device."""
    model, criterion, optimizer = start(impl="blocked")
    training_step(model, criterion, optimizer, picture())

    def refuse(*arguments):
        raise AssertionError("a number was read")

    for name in ("item", "tolist", "__bool__", "__float__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    monkeypatch.setattr("sci_kernels.ops.loss_op._may_be_given_away", lambda grad: False)  # looks on a CPU alone
    result = training_step(model, criterion, optimizer, picture())
    monkeypatch.undo()
    assert result.loss > 0


class Called(TorchDispatchMode):
    """The names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))


class Zeros(TorchDispatchMode):
    """The sizes of tensors that are made of zeros."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "zeros" in func.name():
            self.sizes.append(out.numel())
        return out


def test_backward_makes_no_zeros_as_large_as_the_image():
    """But for the last reflectance, whose gradient the Retinex step needs and nothing gives."""
    model, criterion, _ = start(impl="blocked")
    image = picture()
    loss = stage_losses(model, criterion, image).sum()
    with Zeros() as made:
        loss.backward()
    assert [size for size in made.sizes if size >= image.numel()] == [image.numel()]


def test_the_last_calibration_moves_statistics_alone():
    exact, lean = start(exact=True), start(exact=False)
    for _ in range(3):
        results = [training_step(*parts, picture()) for parts in (exact, lean)]
        assert results[0].read() == results[1].read()
    for (name, ours), theirs in zip(lean[0].state_dict().items(), exact[0].state_dict().values(), strict=True):
        moved = name.startswith("calibrate.") and ("running" in name or "tracked" in name)
        assert torch.equal(ours, theirs) != moved, name
    assert lean[0](picture()).calibrations == [] and len(exact[0](picture()).calibrations) == 2


@pytest.mark.parametrize("checkpoint", ["stage", "block"])
def test_checkpoints_change_no_bit_of_a_run(checkpoint):
    off, on = start(), start(checkpoint=checkpoint)
    for size in ((12, 10), (9, 14)):
        results = [training_step(*parts, picture(*size)).read() for parts in (off, on)]
        assert results[0] == results[1]
    assert all(
        torch.equal(a, b) for a, b in zip(off[0].state_dict().values(), on[0].state_dict().values(), strict=True)
    )


def test_finetuning_takes_the_same_step():
    torch.manual_seed(1)
    model = FinetuneNetwork(checkpoint="block")
    result = training_step(model, LossFunction(), make_optimizer(model, 5e-4), picture())
    assert len(result.stage_losses) == 1 and result.loss == result.stage_losses[0]


def test_compiled_once_for_all_sizes():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(stage_losses, fullgraph=True, dynamic=True, backend=counter)
    ours, theirs = start(stage=1), start(stage=1)
    for model in (ours[0], theirs[0]):
        model.double()
    found = []
    for size in ((20, 24), (33, 17), (18, 40)):
        result = training_step(*ours, picture(*size).double(), "off", compiled)
        assert result.read() == pytest.approx(training_step(*theirs, picture(*size).double()).read(), rel=1e-9)
        found.append(counter.frame_count)
    assert found[0] == found[-1]
    model = ours[0]
    assert losses_function(False, model, model) is stage_losses
    assert losses_function(True, model, model) is not stage_losses
