"""`python -m train` as a user meets it: what it writes, and what its options do."""

import json
import shlex
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train.loop
from model import Enhancer
from model.enhance import main as enhance
from model.images.readers.choose_reader import read_image
from model.network.architecture import FinetuneNetwork, Network
from model.network.weights import WeightsError, load_weights, save_weights
from sci_kernels import illumination_loss
from tests.training_runs import assert_equal, load_as_official
from train.__main__ import main
from train.checkpoint import prepare_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def epochs(lines):
    """Those of stdout that tell of an epoch."""
    return [line for line in lines if line.startswith("epoch ")]


def test_what_a_run_leaves(command, folder, tmp_path):
    status, lines, errors = command("--epochs", 4, "--sample-every", 3)
    out = tmp_path / "out"
    assert status == 0 and not errors
    assert [line.split()[:4] for line in epochs(lines)] == [
        ["epoch", f"{k}/4", "step", f"{3 * k}/12"] for k in range(1, 5)
    ]
    assert all(word in lines[1] for word in ("loss", "s/step", "images/s"))
    assert (out / "log.txt").read_text().count("epoch") == 4
    summary = json.loads(lines[-1])
    assert summary["step"] == 12 and summary["weights"] == str(out / "weights.safetensors")
    assert summary["weights_pt"] == str(out / "weights.pt")
    assert sorted(path.name for path in out.iterdir()) == [
        *("checkpoint.pt", "config.json", "log.txt", "samples", "summary.txt", "tensorboard"),
        *("weights.pt", "weights.safetensors"),
    ]
    assert summary["loss"] == pytest.approx(float(epochs(lines)[-1].split()[5]), rel=1e-5)
    text = (out / "summary.txt").read_text().splitlines()
    assert lines[-1 - len(text) : -1] == text and text[0].startswith("step 12 reached, 12 steps now")
    assert text[1].split()[1] == epochs(lines)[0].split()[5] and epochs(lines)[-1].split()[5] in text[1]
    assert text[2].startswith("samples before: brightness 0.1") and text[3].startswith("samples after:  brightness ")
    assert {f"weights {summary['weights']}", f"the same for the official code {summary['weights_pt']}"} < set(text)
    assert json.loads((out / "config.json").read_text())["settings"]["epochs"] == 4

    model = Network()
    load_weights(model, out / "weights.safetensors")
    # Three stages a step, every one of them in train mode, sample pictures in between or not.
    assert model.enhance.conv[1].num_batches_tracked == 36
    assert model.calibrate.in_conv[1].num_batches_tracked == 24  # the last calibration feeds nothing

    pictures = sorted(path.relative_to(out / "samples").as_posix() for path in (out / "samples").rglob("*.png"))
    assert pictures == [f"epoch_{k:04d}/{n}" for k in (1, 3, 4) for n in ("a.png", "b.png", "c.jpg.png")]
    expected = Enhancer(model, device="cpu").picture(read_image(folder / "a.png")).pixels
    sample = np.asarray(Image.open(out / "samples/epoch_0004/a.png"))
    assert np.abs(sample.astype(int) - expected).max() <= 1


def test_a_run_says_which_file_is_for_what(command, tmp_path):
    _, lines, _ = command("--steps", 1)
    line = (
        "use weights.safetensors with this project, weights.pt with the official code; "
        "checkpoint.pt is for --resume alone"
    )
    assert lines.count(line) == 1
    assert [entry for entry in (tmp_path / "out" / "log.txt").read_text().splitlines() if entry.endswith(line)]


@pytest.mark.parametrize("kind", [Network, FinetuneNetwork])
def test_weights_pt_is_all_that_the_official_code_needs(command, tmp_path, kind):
    """Given checkpoint.pt instead, it would keep its random weights and say nothing."""
    save_weights(Network(), tmp_path / "start.pt")
    out = tmp_path / "out"
    assert command("--steps", 2, *(["--finetune", tmp_path / "start.pt"] if kind is FinetuneNetwork else []))[0] == 0
    official = kind()
    assert load_as_official(official, out / "weights.pt") == list(official.state_dict())
    assert_equal(official.state_dict(), load_file(out / "weights.safetensors"))
    assert load_as_official(kind(), out / "checkpoint.pt") == []


def test_a_checkpoint_as_weights_names_the_files_beside_it(command, tmp_path, capsys):
    out = tmp_path / "a run"
    assert command("--steps", 2, out=out)[0] == 0
    with pytest.raises(WeightsError) as caught:
        load_weights(Network(), out / "checkpoint.pt")
    assert str(caught.value) == (
        f"{out}/checkpoint.pt: the checkpoint of a run, for --resume alone, not a weight file; "
        "use weights.safetensors or weights.pt next to it"
    )
    for name in ("weights.safetensors", "weights.pt"):
        (out / name).unlink()
    assert enhance(["-i", str(tmp_path), "-o", str(tmp_path / "bright"), "-n", str(out / "checkpoint.pt")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    advice = f"python -m train --out '{out}' --resume"
    assert line.endswith(
        f"weights.safetensors and weights.pt appear next to it when the run ends: {advice} (with --steps 2: at once)"
    )
    assert main([*shlex.split(advice)[3:], "--steps", "2"]) == 0
    load_weights(Network(), out / "weights.pt")


def test_weights_pt_belongs_to_the_run(command, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "weights.pt").write_bytes(b"earlier")
    status, _, errors = command("--steps", 1)
    assert status == 1 and f"{out} holds weights.pt" in errors[0] and "--overwrite" in errors[0]
    prepare_folder(out, overwrite=False)
    assert (out / "weights.pt").exists()
    prepare_folder(out, overwrite=True)
    assert not (out / "weights.pt").exists()


def make_older(board):
    """Logs are read in the order of their names, which of two in one second and process is not that of writing."""
    for path in board.iterdir():
        path.rename(path.with_name(path.name.replace("tfevents.", "tfevents.0")))


def test_tensorboard_scalars_and_pictures(command, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command("--epochs", 2, "--stage", 2)
    make_older(tmp_path / "out" / "tensorboard")
    command("--epochs", 3, "--resume")
    log = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert set(log.Tags()["scalars"]) == {
        "loss/total", "loss/stage_1", "loss/stage_2", "gradient_norm", "learning_rate", "seconds_a_step",
        "samples/brightness_input", "samples/brightness_enhanced",
        "samples/color_cast_input", "samples/color_cast_enhanced",
    }  # fmt: skip
    assert [event.step for event in log.Scalars("loss/total")] == list(range(1, 10))
    total, first, second = (log.Scalars(f"loss/{name}")[4].value for name in ("total", "stage_1", "stage_2"))
    assert total == pytest.approx(first + second, rel=1e-6)
    assert [event.step for event in log.Scalars("samples/brightness_input")] == [3, 6, 9]
    pixels = [np.asarray(Image.open(path)) / 255 for path in sorted((tmp_path / "photos").iterdir())]
    means = np.mean([picture.mean(axis=(0, 1)) for picture in pixels], axis=0)
    assert log.Scalars("samples/brightness_input")[0].value == pytest.approx(means.mean(), rel=1e-5)
    assert log.Scalars("samples/color_cast_input")[0].value == pytest.approx(means.std(), rel=1e-4)
    assert set(log.Tags()["images"]) == {"samples/a.png", "samples/b.png", "samples/c.jpg"}


def test_steps_made_again_are_logged_once(command, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    original, calls = train.loop.training_step, []

    def step(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise SystemExit("killed")
        return original(*arguments)

    monkeypatch.setattr(train.loop, "training_step", step)
    command("--epochs", 3)  # logs 5 steps, saves 3
    make_older(tmp_path / "out" / "tensorboard")
    assert command("--resume")[0] == 0
    log = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [event.step for event in log.Scalars("loss/total")] == list(range(1, 10))


def test_training_goes_on_without_tensorboard(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    status, lines, _ = command("--steps", 2)
    assert status == 0 and sum("TensorBoard" in line for line in lines) == 1
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_batches_of_crops_bf16_and_workers(command, tmp_path):
    losses = []
    for amp in ("off", "bf16"):
        arguments = ("--steps", 3, "--batch-size", 2, "--crop", 8, 9, "--workers", 1, "--amp", amp)
        status, lines, _ = command(*arguments, out=tmp_path / amp)
        assert status == 0 and "step 3/3" in epochs(lines)[-1]
        load_weights(Network(), tmp_path / amp / "weights.safetensors")
        losses.append(json.loads(lines[-1])["loss"])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_loss_options_reach_the_loss(command, folder, tmp_path):
    """The first loss of a one-stage run, computed again by hand."""
    photo = next(iter(train.data.order(2, 0, 3)))
    image = read_image(sorted(folder.iterdir())[photo]).tensor()[None]
    torch.manual_seed(2)
    model = Network(stage=1).train()
    illumination = model(image).illuminations[0]
    options = dict(fidelity_weight=3.0, sigma=0.5, color="rgb")
    arguments = ("--stage", 1, "--steps", 1, "--fidelity-weight", 3, "--sigma", 0.5, "--color", "rgb")
    for impl in ("blocked", "reference"):
        status, lines, _ = command(*arguments, "--impl", impl, out=tmp_path / impl)
        expected = illumination_loss(image, illumination, **options, impl="reference").item()
        assert status == 0 and json.loads(lines[-1])["loss"] == pytest.approx(expected, rel=1e-5)


def test_finetuning_starts_from_the_given_weights(command, tmp_path):
    torch.manual_seed(11)
    start = Network()
    save_weights(start, tmp_path / "start.pt")
    status, lines, _ = command("--finetune", tmp_path / "start.pt", "--steps", 2, "--lr", 1e-9)
    tuned = FinetuneNetwork()
    load_weights(tuned, tmp_path / "out" / "weights.safetensors")
    assert status == 0 and "fine-tuning" in lines[0] and "258 parameters" in lines[0]
    assert lines[1].startswith("2 steps are about 0.67 passes over the 3 photographs; the official finetune.py")
    for (name, weight), moved in zip(start.enhance.named_parameters(), tuned.enhance.parameters(), strict=True):
        assert 0 <= (weight - moved).abs().max() < 1e-7, name
    assert tuned.enhance.conv[1].num_batches_tracked == 2


def test_passes_are_told_of_where_a_fine_tuning_begins(command, tmp_path):
    save_weights(Network(), tmp_path / "start.pt")
    arguments = ("--finetune", tmp_path / "start.pt", "--batch-size", 2, "--crop", 8, 8)
    lines = command(*arguments, "--epochs", 2)[1]
    assert lines[1] == "4 steps are 2 passes over the 3 photographs"
    assert lines[1] in (tmp_path / "out" / "log.txt").read_text()
    assert "passes over" not in " ".join(command("--resume", "--epochs", 3)[1])
    assert "passes over" not in " ".join(command("--steps", 2, out=tmp_path / "trained")[1])


def test_an_earlier_run_is_not_touched_unasked(command, tmp_path):
    out = tmp_path / "out"
    command("--steps", 2)
    (out / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    status, _, errors = command("--steps", 4)
    assert status == 1 and len(errors) == 1 and "--resume" in errors[0] and str(out) in errors[0]
    # A mistake is found out before anything is deleted.
    status, _, errors = command("--steps", 4, "--overwrite", "--finetune", tmp_path / "nowhere.pt")
    assert status == 1 and len(errors) == 1 and "nowhere.pt" in errors[0]
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    status, _, _ = command("--steps", 1, "--overwrite", "--sample-every", 0)
    assert status == 0 and (out / "notes.txt").read_text() == "mine" and not (out / "samples").exists()
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 1


def test_what_a_new_run_reads_is_not_deleted(command, tmp_path):
    out = tmp_path / "out"
    command("--steps", 2, "--sample-every", 1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for flag, path in (("--finetune", out / "weights.pt"), ("--data", out / "samples")):
        status, _, errors = command("--steps", 1, "--overwrite", flag, path)
        assert status == 1 and len(errors) == 1 and f"{flag}: {path} belongs to the run in {out}" in errors[0]
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
