"""Weights for the official code: read back bit for bit, and nothing written that differs."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import EnhanceNetwork, FinetuneNetwork, Network, load_weights, save_weights
from model import export as exporting
from model.export import export_official, main
from model.network.weights import DEFAULT_WEIGHTS
from tests.training_runs import assert_equal, load_as_official


def test_the_default_weights_for_the_official_code_and_back(tmp_path, capsys):
    out = tmp_path / "weights.pt"
    assert main(["--format", "official", "-o", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "83 entries, read back: the same to the bit",
        f"official, weights default.safetensors, in {out}",
    ]
    theirs, ours = Network(), Network()
    assert load_as_official(theirs, out) == list(theirs.state_dict())
    load_weights(ours, out)
    for network in (theirs, ours):
        assert_equal(network.state_dict(), load_file(DEFAULT_WEIGHTS))
    with open(out, "rb") as file:
        assert file.read(2) == b"\x80\x02"  # as before PyTorch 1.6, which all read
    assert os.listdir(tmp_path) == ["weights.pt"]


@pytest.mark.parametrize("kind", [FinetuneNetwork, EnhanceNetwork])
@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_the_enhance_part_for_the_official_code(tmp_path, kind, extension):
    """Whether its names begin with `enhance.` or not."""
    source, out, network, theirs = tmp_path / f"w{extension}", tmp_path / "out.pt", kind(), FinetuneNetwork()
    save_weights(network, source)
    assert export_official(out, source) == len(theirs.state_dict())
    assert load_as_official(theirs, out) == list(theirs.state_dict())
    assert_equal(getattr(network, "enhance", network).state_dict(), theirs.enhance.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_entries_keep_their_dtype(tmp_path, dtype):
    state = {name: value.clone() for name, value in Network().to(dtype).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    export_official(tmp_path / "out.pt", tmp_path / "w.safetensors")
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert_equal(written, state)
    assert written["enhance.in_conv.0.weight"].dtype == dtype


@pytest.mark.parametrize("name", ["easy", "difficult"])
def test_official_weights_come_back_as_they_were(tmp_path, official, name):
    source = official / "weights" / f"{name}.pt"
    assert export_official(tmp_path / "out.pt", source) == 83
    wanted = torch.load(source, map_location="cpu", weights_only=True)
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(written) == list(wanted)
    assert_equal(written, wanted)


def change_sign_of_zero(state):
    return state | {"enhance.out_conv.0.bias": -state["enhance.out_conv.0.bias"]}


@pytest.mark.parametrize(
    "change",
    [
        change_sign_of_zero,
        lambda state: {name: tensor for name, tensor in state.items() if name != "enhance.out_conv.0.bias"},
        lambda state: {name: tensor.to(torch.float64) for name, tensor in state.items()},
    ],
    ids=["a bit", "an entry missing", "dtypes"],
)
def test_what_reads_back_differently_is_not_written(tmp_path, monkeypatch, capsys, change):
    save_weights(Network(), tmp_path / "w.safetensors")  # its biases are zeros
    original = exporting.to_pt
    monkeypatch.setattr(exporting, "to_pt", lambda state: original(change(state)))
    out = tmp_path / "out.pt"
    assert main(["--format", "official", "-o", str(out), "-n", str(tmp_path / "w.safetensors")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out}: not written; read back, ") and " of 83 entries differ from " in line
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_state_dict_is_replaced_when_asked_and_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.pt"
    out.write_bytes(b"precious")
    command = ["--format", "official", "-o", str(out)]
    assert main(command) == 2 and "use --overwrite" in capsys.readouterr().err

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main([*command, "--overwrite"]) == 2
    assert capsys.readouterr().err == f"error: {out}: cannot be written (No space left on device); choose another -o\n"
    assert out.read_bytes() == b"precious" and os.listdir(tmp_path) == ["out.pt"]
    assert main([*command, "--overwrite"]) == 0 and len(torch.load(out, weights_only=True)) == 83


def test_the_weights_to_read_are_never_replaced(tmp_path, capsys):
    weights = tmp_path / "w.pt"
    save_weights(Network(), weights)
    before = weights.read_bytes()
    os.link(weights, tmp_path / "other.pt")
    for name in ("w.pt", "other.pt"):
        assert main(["--format", "official", "-n", str(weights), "-o", str(tmp_path / name), "--overwrite"]) == 2
        assert "is the weight file to read and would be replaced" in capsys.readouterr().err
    assert weights.read_bytes() == before
