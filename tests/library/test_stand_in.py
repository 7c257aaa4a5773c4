"""What `accelerate` puts into a network: all that scripts do with the original still works, and there is a way back."""

import copy
import io
import pickle
import warnings

import forks
import numpy as np
import pytest
import torch
from torch import nn

import sci_kernels
from sci_kernels.drop_in.stand_in import StandIn


def pair(dtype=torch.float32, n=1):
    generator = torch.Generator().manual_seed(4)
    return [torch.rand(n, 3, 12, 13, generator=generator).to(dtype) for _ in range(2)]


def agrees(loss, original, dtype=torch.float32, rtol=1e-6):
    with forks.cuda_or_not():
        torch.testing.assert_close(loss(*pair(dtype)), original(*pair()), rtol=rtol, atol=0.0, check_dtype=False)


def places(net, loss):
    """A loss nested in many ways, under the names of the places."""
    net.alone = loss
    net.listed = nn.ModuleList([nn.ModuleList([forks.SmoothLoss()]), forks.LossFunction()])
    net.named = nn.ModuleDict({"a": nn.Sequential(nn.ModuleDict({"b": forks.SmoothLoss()}))})
    net.second_parent = nn.Module()
    net.second_parent.shared = loss
    return ["alone", "listed.0.0", "listed.1", "named.a.0.b", "second_parent.shared"]


def test_nested_to_any_depth_and_shared_by_two_parents():
    net = nn.Module()
    names = places(net, forks.LossFunction())
    assert [replacement.name for replacement in sci_kernels.accelerate(net).replaced] == names
    assert net.alone is net.second_parent.shared
    for name in names:
        assert isinstance(net.get_submodule(name), (sci_kernels.SmoothLoss, sci_kernels.LossFunction))


def test_restore_puts_the_very_modules_back():
    net = nn.Module()
    names = places(net, forks.LossFunction())
    before = [net.get_submodule(name) for name in names]
    assert sci_kernels.restore(net) == []
    sci_kernels.accelerate(net)
    net.eval()
    assert sci_kernels.restore(net) == names
    assert [net.get_submodule(name) for name in names] == before
    assert not any(module.training for module in net.modules())
    assert not any(isinstance(module, StandIn) for module in net.modules())
    assert len(sci_kernels.accelerate(net).replaced) == len(names)


def test_restore_refuses_what_is_no_network():
    net = forks.Network(forks.LossFunction())
    sci_kernels.accelerate(net)
    with pytest.raises(ValueError, match="module: is itself a replaced loss; expected the network"):
        sci_kernels.restore(net._criterion)
    with pytest.raises(TypeError, match="module: expected a torch.nn.Module; got list"):
        sci_kernels.restore([net])
    with pytest.raises(ValueError, match="module: is itself a LossFunction"):
        sci_kernels.accelerate(net._criterion)


def test_attributes_and_methods_of_the_original_stay():
    original = forks.LossFunction()
    original.note = "mine"
    net = forks.Network(original)
    sci_kernels.accelerate(net)
    loss = net._criterion
    assert isinstance(loss, sci_kernels.LossFunction) and isinstance(loss, nn.Module)
    assert loss.l2_loss is original.l2_loss and loss.smooth_loss is original.smooth_loss
    assert loss.note == "mine" and loss.fidelity == 1.5 and {"note", "smooth_loss", "fidelity"} <= set(dir(loss))
    with forks.cuda_or_not():
        assert loss.smooth_loss.rgb2yCbCr(pair()[0]).shape == (1, 3, 12, 13)
    with pytest.raises(AttributeError, match="nothing"):
        _ = loss.nothing
    assert repr(loss).startswith("LossFunction(")


def test_scripts_may_change_sigma():
    original = forks.LossFunction()
    net = forks.Network(original)
    sci_kernels.accelerate(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net._criterion.smooth_loss.sigma = 0.5
        assert net._criterion.sigma == 0.5
        agrees(net._criterion, original)
        net._criterion.sigma = 0.2
        assert original.smooth_loss.sigma == 0.2
    agrees(net._criterion, original)


def test_changing_what_was_measured_is_not_silent():
    net = forks.Network(forks.LossFunction())
    sci_kernels.accelerate(net)
    for name, value in (("fidelity", 3.0), ("l2_loss", nn.L1Loss())):
        with pytest.warns(UserWarning, match=rf"{name}: set on a loss .* sci_kernels.restore\(network\)"):
            setattr(net._criterion, name, value)
        assert getattr(net._criterion, name) is value
    net._criterion.something_new = 1


@pytest.mark.parametrize(
    "cls, names", [(forks.SmoothLoss, ("input", "output")), (forks.OtherNames, ("image", "light"))]
)
def test_calls_by_keyword(cls, names):
    net = forks.Network(cls())
    sci_kernels.accelerate(net)
    x, y = pair()
    torch.testing.assert_close(net._criterion(**dict(zip(names, (x, y), strict=True))), net._criterion(x, y))
    torch.testing.assert_close(net._criterion(x, **{names[1]: y}), net._criterion(x, y))
    assert net._criterion(input=x, output=y) == net._criterion(x, y)


def test_calls_of_the_whole_by_keyword():
    net = forks.Network(forks.LossFunction())
    sci_kernels.accelerate(net)
    x, y = pair()
    assert net._criterion(input=x, illu=y) == net._criterion(x, y)


def test_state_dict_and_buffers_are_the_original_ones():
    net = forks.Network(forks.LossFunction(forks.WithBuffers()))
    keys = list(net.state_dict())
    sci_kernels.accelerate(net)
    assert list(net.state_dict()) == keys and "_criterion.smooth_loss.matrix" in keys
    net.load_state_dict(forks.Network(forks.LossFunction(forks.WithBuffers())).state_dict())
    net.half()
    assert net._criterion.smooth_loss.bias.dtype == torch.float16
    sci_kernels.restore(net)
    assert net._criterion.smooth_loss.matrix.dtype == torch.float16


@pytest.mark.parametrize("dtype, rtol", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float64, 1e-6)], ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["accelerated first", "converted first"])
def test_before_and_after_a_change_of_dtype(dtype, rtol, first):
    original = forks.LossFunction(forks.WithBuffers())
    net = forks.Network(original)
    if first:
        sci_kernels.accelerate(net)
    net.to(dtype)
    if not first:
        assert sci_kernels.accelerate(net).replaced
    assert original.smooth_loss.matrix.dtype == dtype
    agrees(net._criterion, forks.LossFunction(), dtype, rtol)


def test_on_meta_and_back():
    """A network without numbers holds a loss without tensors: it can be proven. One with a tensor on meta cannot."""
    net = forks.Network(forks.LossFunction()).to("meta")
    assert sci_kernels.accelerate(net).replaced
    net.to_empty(device="cpu")
    agrees(net._criterion, forks.LossFunction())
    held = forks.Network(forks.WithBuffers()).to("meta")
    with pytest.warns(UserWarning, match="what it holds cannot be moved to cpu: NotImplementedError"):
        assert not sci_kernels.accelerate(held).replaced


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
        lambda net: torch.load(_saved(net), weights_only=False),
    ],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_are_whole_and_independent(duplicate):
    net = forks.Network(forks.LossFunction(forks.WithBuffers()))
    sci_kernels.accelerate(net)
    twin = duplicate(net)
    agrees(twin._criterion, forks.LossFunction())
    twin._criterion.smooth_loss.sigma = 1.0
    assert twin._criterion.sigma == 1.0 and net._criterion.sigma == 10.0
    twin.double()
    assert net._criterion.smooth_loss.matrix is not twin._criterion.smooth_loss.matrix
    assert sci_kernels.restore(twin) == ["_criterion"]
    assert type(twin._criterion) is forks.LossFunction and isinstance(net._criterion, StandIn)


def _saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return file


def test_inside_data_parallel():
    net = nn.DataParallel(forks.Network(forks.LossFunction()))
    assert [replacement.name for replacement in sci_kernels.accelerate(net).replaced] == ["module._criterion"]
    loss = nn.DataParallel(forks.LossFunction())
    holder = nn.ModuleList([loss])
    assert [replacement.name for replacement in sci_kernels.accelerate(holder).replaced] == ["0.module"]
    agrees(loss, forks.LossFunction())


def test_inside_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = nn.parallel.DistributedDataParallel(forks.Network(forks.LossFunction(forks.WithBuffers())))
        assert [replacement.name for replacement in sci_kernels.accelerate(net).replaced] == ["module._criterion"]
        x, _ = pair()
        net.module._criterion(x, net(x)).backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        agrees(net.module._criterion, forks.LossFunction())
    finally:
        torch.distributed.destroy_process_group()


class Called:
    """A backend for torch.compile that counts the loss operators in the graphs that it is given."""

    def __init__(self):
        self.operators = 0

    def __call__(self, graph, inputs):
        self.operators += sum("illumination_loss_fwd" in str(node.target) for node in graph.graph.nodes)
        return graph


class WithLoss(forks.Network):
    def forward(self, image):
        return self._criterion(image, super().forward(image))


@pytest.mark.parametrize("before", [True, False], ids=["compiled after", "compiled and called before"])
def test_inside_a_compiled_network(before):
    backend = Called()
    net = WithLoss(forks.LossFunction(forks.NoColors()))
    x, _ = pair()
    expected = net(x)
    if before:
        sci_kernels.accelerate(net)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    if not before:
        compiled(x)
        assert backend.operators == 0
        assert [each.name for each in sci_kernels.accelerate(compiled).replaced] == ["_orig_mod._criterion"]
    torch.testing.assert_close(compiled(x), expected)
    assert backend.operators == 1
    net._criterion.smooth_loss.sigma = 0.2
    torch.testing.assert_close(compiled(x), net(x))


def test_a_compiled_loss_goes_with_its_wrapper_and_comes_back():
    loss = torch.compile(forks.LossFunction(forks.NoColors()), backend="eager")
    net = forks.Network(loss)
    keys = list(net.state_dict())
    assert [replacement.name for replacement in sci_kernels.accelerate(net).replaced] == ["_criterion"]
    assert net._criterion.smooth_loss is loss._orig_mod.smooth_loss and list(net.state_dict()) == keys
    agrees(net._criterion, forks.LossFunction(forks.NoColors()))
    assert sci_kernels.restore(net) == ["_criterion"] and net._criterion is loss
    with pytest.raises(ValueError, match="is itself a LossFunction"):
        sci_kernels.accelerate(loss)


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(2), torch.tensor(0.5)], ids=["float32", "int64", "tensor"])
def test_sigma_of_any_kind_of_number(value):
    original = forks.LossFunction()
    net = forks.Network(original)
    sci_kernels.accelerate(net)
    net._criterion.smooth_loss.sigma = value
    assert net._criterion.sigma == float(value)
    agrees(net._criterion, original)


class SigmaBuffer(forks.NoColors):
    """Whose sigma is part of the state dict."""

    def __init__(self):
        super().__init__()
        del self.sigma
        self.register_buffer("sigma", torch.tensor(10.0))


SigmaBuffer.__name__ = "SmoothLoss"


def test_sigma_in_a_buffer_follows_the_state_dict():
    original = SigmaBuffer()
    net = forks.Network(original)
    assert sci_kernels.accelerate(net).replaced
    other = forks.Network(SigmaBuffer())
    other._criterion.sigma.fill_(0.25)
    net.load_state_dict(other.state_dict())
    assert net._criterion.sigma == 0.25
    agrees(net._criterion, original)
    net._criterion.sigma = 0.5
    assert float(original.sigma) == 0.5 and net._criterion.sigma == 0.5


def test_accelerated_in_two_goes():
    """First the inner loss alone, since the outer one has a hook; then the outer one, whose inner one is fused."""
    original = forks.LossFunction()
    net = forks.Network(original)
    hook = original.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="_criterion: .* it has hooks"):
        assert [each.name for each in sci_kernels.accelerate(net).replaced] == ["_criterion.smooth_loss"]
    hook.remove()
    assert [each.name for each in sci_kernels.accelerate(net).replaced] == ["_criterion"]
    net._criterion.smooth_loss.sigma = 0.2
    assert net._criterion.sigma == 0.2
    assert sci_kernels.restore(net) == ["_criterion", "_criterion.smooth_loss"]
    assert net._criterion is original and type(original.smooth_loss) is forks.SmoothLoss
    assert original.smooth_loss.sigma == 0.2


def test_what_is_added_to_the_new_one_is_there_after_restore():
    net = forks.Network(forks.LossFunction())
    sci_kernels.accelerate(net)
    calls = []
    net._criterion.register_forward_hook(lambda *_: calls.append(1))
    net._criterion.epoch = 3
    net._criterion.register_buffer("kept", torch.ones(2))
    net._criterion(*pair())
    assert calls == [1] and net._criterion.epoch == 3
    sci_kernels.restore(net)
    with forks.cuda_or_not():
        net._criterion(*pair())
    assert calls == [1, 1] and net._criterion.epoch == 3 and torch.equal(net._criterion.kept, torch.ones(2))
    del net._criterion.epoch


def test_attributes_can_be_deleted():
    original = forks.LossFunction()
    original.note = 1
    net = forks.Network(original)
    sci_kernels.accelerate(net)
    del net._criterion.note
    assert not hasattr(net._criterion, "note") and not hasattr(original, "note")


def test_a_third_argument_goes_to_the_original():
    original = forks.ThirdOptional()
    net = forks.Network(original)
    sci_kernels.accelerate(net)
    x, y = pair()
    with forks.cuda_or_not():
        expected = original(x, y, x)
        assert torch.equal(net._criterion(x, y, pair=x), expected) and torch.equal(net._criterion(x, y, x), expected)
        assert torch.equal(net._criterion(input=x, illu=y, pair=x), expected)
