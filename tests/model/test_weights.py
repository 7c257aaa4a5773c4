"""Weights: both directions of the official format, our own, and every file that must be refused."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bench.low_light_photos import write_photographs
from model import (
    EnhanceNetwork,
    FinetuneNetwork,
    Network,
    WeightsError,
    enhance_image,
    load_weights,
    read_image,
    save_weights,
)
from model.network.architecture import CalibrateNetwork
from model.network.weights import DEFAULT_WEIGHTS
from tests.training_runs import load_as_official


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    module = Network()
    module(torch.rand(1, 3, 8, 8))  # statistics other than the initial ones
    return module


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


def refusal(module: torch.nn.Module, path) -> str:
    """The one line with which a file is refused; the module must be as it was."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(module, path)
    line = str(caught.value)
    assert "\n" not in line and str(path) in line
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    return line


@pytest.mark.parametrize("extension", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("kind", [Network, FinetuneNetwork, EnhanceNetwork, CalibrateNetwork])
def test_round_trip(tmp_path, kind, extension):
    saved, loaded = kind(), kind()
    assert not same_state(saved, loaded)
    save_weights(saved, tmp_path / f"w{extension}")
    load_weights(loaded, tmp_path / f"w{extension}")
    assert same_state(saved, loaded)
    assert os.listdir(tmp_path) == [f"w{extension}"]


def test_pt_is_the_official_format(tmp_path, golden, network):
    save_weights(network, tmp_path / "w.pt")
    state = torch.load(tmp_path / "w.pt", weights_only=True)
    official = {k.removeprefix("init/"): v for k, v in golden("train_3stage").items() if k.startswith("init/")}
    assert list(state) == list(official)  # the golden file keeps the order of the official state dict
    assert all(state[name].shape == value.shape for name, value in official.items())


@pytest.mark.parametrize("extension", [".pt", ".pth"])
def test_pt_is_read_by_every_pytorch(tmp_path, network, extension):
    """By its first two pickles it is in the format of before 1.6, no archive; its tensors are on the CPU."""
    path = tmp_path / f"w{extension}"
    save_weights(network, path)
    with open(path, "rb") as file:
        assert [pickle.load(file), pickle.load(file)] == [0x1950A86A20F9469CFC6C, 1001]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = torch.load(path, weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items()) and len(state) == 83
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}


@pytest.mark.parametrize("kind", [Network, FinetuneNetwork])
def test_the_official_loader_drops_no_entry(tmp_path, kind):
    saved, loaded = kind(), kind()
    save_weights(saved, tmp_path / "w.pt")
    assert load_as_official(loaded, tmp_path / "w.pt") == list(saved.state_dict()) and same_state(saved, loaded)


@pytest.mark.parametrize("name", ["easy", "difficult"])
def test_official_file_there_and_back(tmp_path, official, name):
    source = official / "weights" / f"{name}.pt"
    module = Network()
    load_weights(module, source)
    save_weights(module, tmp_path / "w.pt")
    wanted, got = (torch.load(p, map_location="cpu", weights_only=True) for p in (source, tmp_path / "w.pt"))
    assert list(wanted) == list(got)
    assert all(torch.equal(value, got[key]) and value.dtype == got[key].dtype for key, value in wanted.items())


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_enhance_part_of_a_full_checkpoint(tmp_path, network, extension):
    save_weights(network, tmp_path / f"w{extension}")
    finetune, enhance = FinetuneNetwork(), EnhanceNetwork()
    load_weights(finetune, tmp_path / f"w{extension}")
    load_weights(enhance, tmp_path / f"w{extension}")
    assert same_state(finetune.enhance, network.enhance) and same_state(enhance, network.enhance)


def test_a_double_network_takes_single_weights(tmp_path, network):
    save_weights(network, tmp_path / "w.safetensors")
    module = Network().double()
    load_weights(module, tmp_path / "w.safetensors")
    assert module.enhance.in_conv[0].weight.dtype == torch.float64
    assert same_state(module, network.double())


def test_the_same_weights_are_the_same_bytes(tmp_path, network):
    metadata = {letter: f"\u00e9\n{letter}" for letter in "hbdface"}
    for name in "ab":
        save_weights(network, tmp_path / f"{name}.safetensors", metadata)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == metadata
    loaded = Network()
    load_weights(loaded, tmp_path / "a.safetensors")
    assert same_state(loaded, network)


def test_metadata(tmp_path, network):
    path = tmp_path / "w.safetensors"
    save_weights(network, path, {"epochs": "3"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"epochs": "3"}
    with pytest.raises(TypeError, match="metadata"):
        save_weights(network, path, {"epochs": 3})
    with pytest.raises(ValueError, match="metadata"):
        save_weights(network, tmp_path / "w.pt", {"epochs": "3"})
    with pytest.raises(ValueError, match=r"expected \.safetensors"):
        save_weights(network, tmp_path / "w.bin")
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(network, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(Network(), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_truncated_files(tmp_path, network, extension):
    path = tmp_path / f"w{extension}"
    save_weights(network, path)
    data = path.read_bytes()
    for length in (0, 1, 9, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert ": truncated, or no weight file" in refusal(network, path)


def test_half_a_name_is_truncated_not_refused(tmp_path, network):
    """Cut there, the name of a harmless function is one that nobody knows."""
    path = tmp_path / "w.pt"
    save_weights(network, path)
    data = path.read_bytes()
    for name in (b"_rebuild_tensor_v2", b"LongStorage", b"OrderedDict"):
        path.write_bytes(data[: data.index(name) + 5])
        assert ": truncated, or no weight file" in refusal(network, path)


def test_missing_folder_text_and_default(tmp_path, network, monkeypatch):
    assert "no such file" in refusal(network, tmp_path / "none.pt")
    assert "cannot be read" in refusal(network, tmp_path)
    (tmp_path / "text.pt").write_text("no weights at all")
    assert "no weight file" in refusal(network, tmp_path / "text.pt")
    monkeypatch.setattr("model.network.weights.DEFAULT_WEIGHTS", tmp_path / "default.safetensors")
    assert "default weights are missing" in refusal(network, tmp_path / "default.safetensors")
    assert DEFAULT_WEIGHTS.parts[-3:] == ("model", "pretrained", "default.safetensors")


class Malicious:
    """Unpickling this makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("protocol", [2, 4, "torch", "torch before 1.6"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, network, protocol):
    path, made = tmp_path / "w.pt", tmp_path / "made"
    state = {**network.state_dict(), "extra": Malicious(made)}
    as_torch = isinstance(protocol, str)
    if as_torch:
        torch.save(state, path, _use_new_zipfile_serialization=protocol == "torch")
    else:
        path.write_bytes(pickle.dumps(Malicious(made), protocol=protocol))
    for module in (network, FinetuneNetwork(), EnhanceNetwork()):
        line = refusal(module, path)
        assert "refused" in line and "run code" in line
    assert not made.exists()
    # The file is live: what was refused would have run.
    torch.load(path, weights_only=False) if as_torch else pickle.loads(path.read_bytes())
    assert made.exists()


def test_a_training_checkpoint_is_no_state_dict(tmp_path, network):
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "c.pt")
    assert "no plain state dict (holds entries model, epoch)" in refusal(network, tmp_path / "c.pt")
    torch.save([1, 2], tmp_path / "c.pt")
    assert "no plain state dict (holds list)" in refusal(network, tmp_path / "c.pt")


def test_names_and_tensors_that_are_none(tmp_path, network):
    torch.save({1: torch.ones(2)}, tmp_path / "c.pt")
    assert "no plain state dict" in refusal(network, tmp_path / "c.pt")
    for change in (lambda t: t.to("meta"), lambda t: t.to(torch.float8_e4m3fn) if t.is_floating_point() else t):
        torch.save({name: change(tensor) for name, tensor in network.state_dict().items()}, tmp_path / "c.pt")
        assert "of another shape or kind" in refusal(network, tmp_path / "c.pt")


def test_weights_of_another_network(tmp_path, network):
    path = tmp_path / "other.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    for module in (network, FinetuneNetwork(), EnhanceNetwork()):
        assert "another network" in refusal(module, path)
    torch.save({}, path)
    assert "another network" in refusal(network, path)
    torch.save({"enhance." + k: v for k, v in EnhanceNetwork(channels=8).state_dict().items()}, path)
    assert "of another shape" in refusal(FinetuneNetwork(), path)
    save_weights(FinetuneNetwork(), path)
    assert "full checkpoint" in refusal(network, path)
    save_weights(network, path)
    assert "another network" in refusal(network.calibrate, path)  # only the enhance part may be picked out


@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("enhance.conv.0.weight", lambda t: t + 1, "differ, but are one block"),
        ("calibrate.blocks.2.4.running_var", lambda t: t + 1, "differ, but are one block"),
        ("enhance.out_conv.0.bias", lambda t: t * np.nan, "NaN or infinite"),
        ("enhance.out_conv.0.bias", lambda t: t + np.inf, "NaN or infinite"),
        ("calibrate.out_conv.0.bias", lambda t: t.long(), "of another shape or kind"),
        ("calibrate.out_conv.0.bias", lambda t: t.to_sparse(), "of another shape or kind"),
    ],
)
def test_damaged_state_dicts(tmp_path, network, name, change, reason):
    state = dict(network.state_dict())
    state[name] = change(state[name])
    torch.save(state, tmp_path / "w.pt")
    assert reason in refusal(network, tmp_path / "w.pt")


def test_safetensors_holds_both_names(tmp_path, network):
    save_weights(network, tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    assert len(state) == 83
    assert torch.equal(state["enhance.conv.0.weight"], state["enhance.blocks.0.0.weight"])


def test_the_default_weights_brighten_without_a_cast(tmp_path):
    load_weights(Network())  # whole, so that they can be fine-tuned
    network = EnhanceNetwork()
    load_weights(network)
    for path in write_photographs(tmp_path, max_side=200):
        image = read_image(path).tensor()[None]
        _, bright = enhance_image(network, image)
        gain = bright.mean((0, 2, 3)) / image.mean((0, 2, 3))
        assert 1.5 < gain.mean() < 3.5
        assert (gain / gain.mean()).log().abs().max() < 0.15, path
