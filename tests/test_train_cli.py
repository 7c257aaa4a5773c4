"""`python -m train` as a user meets it: defaults, aliases, what it writes, and one line for every mistake."""

import dataclasses
import json
import pickle
import resource
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import train.loop
from model.images import read_image
from model.networks import FinetuneNetwork, Network, enhance_image
from model.weights import load_weights, save_weights
from sci_kernels import illumination_loss
from train.__main__ import main
from train.config import Settings, from_dict, new_settings, parse, read_json, resumed_settings, to_json

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for seed, (name, (h, w)) in enumerate({"a.png": (16, 14), "b.png": (15, 17), "c.jpg": (18, 13)}.items()):
        pixels = np.random.default_rng(seed).integers(0, 80, (h, w, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def command(folder, tmp_path, capsys):
    """Runs the trainer; returns its exit status, the lines of stdout and those of stderr."""

    def run(*arguments, out=tmp_path / "out"):
        capsys.readouterr()
        try:
            status = main(["--data", str(folder), "--out", str(out), *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run


def epochs(lines):
    """Those of stdout that tell of an epoch."""
    return [line for line in lines if line.startswith("epoch ")]


def test_defaults_are_those_of_the_method():
    settings = new_settings(parse(["--data", "d", "--out", "o"])[0])
    expected = dict(stage=3, epochs=1000, steps=None, lr=3e-4, batch_size=1, crop=None, seed=2, amp="off")
    expected |= dict(fidelity_weight=1.5, sigma=10.0, color="reference", finetune=None, impl="auto", device="auto")
    assert dataclasses.asdict(settings).items() >= expected.items()
    tuned = new_settings(parse(["--data", "d", "--out", "o", "--finetune", "w.pt"])[0])
    assert (tuned.lr, tuned.steps) == (5e-4, 100)
    chosen = parse(["--data", "d", "--out", "o", "--finetune", "w.pt", "--epochs", "7", "--lr", "1e-3"])[0]
    assert (new_settings(chosen).lr, new_settings(chosen).steps, new_settings(chosen).epochs) == (1e-3, None, 7)


def test_official_names_are_understood():
    same = ["--stage", "2", "--epochs", "5", "--lr", "0.1", "--seed", "7"]
    ours = ["--data", "d", "--out", "o", "--finetune", "w.pt", "--batch-size", "4", *same]
    for save in ("--save", "--save_path"):
        assert parse(ours) == parse(["--data_path", "d", save, "o", "--model", "w.pt", "--batch_size", "4", *same])
    assert parse(["--data", "d", "--out", "o", "--gpu", "0"])[0]["device"] == "gpu:0"


def test_epochs_and_steps_when_resuming():
    saved = Settings(data="d", out="o", epochs=5, steps=12)
    assert (resumed_settings(saved, {}).epochs, resumed_settings(saved, {}).steps) == (5, 12)
    assert resumed_settings(saved, {"epochs": 9}).steps is None
    assert resumed_settings(saved, {"epochs": 9, "steps": 20}).steps == 20


def test_an_implementation_that_cannot_run_here_is_refused(command, monkeypatch, tmp_path):
    def forward(self, input, illumination):
        raise RuntimeError("impl='triton': needs\na GPU")

    monkeypatch.setattr(train.loop.sci_kernels.LossFunction, "forward", forward)
    status, _, errors = command("--impl", "triton", "--steps", 1)
    assert status == 1 and len(errors) == 1 and "--impl triton" in errors[0] and "needs a GPU" in errors[0]
    assert not (tmp_path / "out").exists()


def test_settings_survive_their_file(tmp_path):
    settings = Settings(data="d", out="o", crop=(64, 96), steps=12, lr=1e-3, amp="bf16", sigma=1.0)
    (tmp_path / "config.json").write_text(to_json(settings, {"torch": "2"}))
    assert read_json(tmp_path / "config.json") == settings
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


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
    assert summary["loss"] == pytest.approx(float(epochs(lines)[-1].split()[5]), rel=1e-5)
    text = (out / "summary.txt").read_text().splitlines()
    assert lines[-1 - len(text) : -1] == text and text[0].startswith("step 12 reached, 12 steps now")
    assert text[1].split()[1] == epochs(lines)[0].split()[5] and epochs(lines)[-1].split()[5] in text[1]
    assert text[2].startswith("samples before: brightness 0.1") and text[3].startswith("samples after:  brightness ")
    assert json.loads((out / "config.json").read_text())["settings"]["epochs"] == 4

    model = Network()
    load_weights(model, out / "weights.safetensors")
    # Three stages a step, every one of them in train mode, sample pictures in between or not.
    assert model.enhance.conv[1].num_batches_tracked == 36
    assert model.calibrate.in_conv[1].num_batches_tracked == 24  # the last calibration feeds nothing

    pictures = sorted(path.relative_to(out / "samples").as_posix() for path in (out / "samples").rglob("*.png"))
    assert pictures == [f"epoch_{k:04d}/{n}" for k in (1, 3, 4) for n in ("a.png", "b.png", "c.jpg.png")]
    reflectance = enhance_image(model, read_image(folder / "a.png").tensor()[None], impl="plain")[1][0]
    expected = (255 * reflectance).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(Image.open(out / "samples/epoch_0004/a.png")), expected)


def test_tensorboard_scalars_and_pictures(command, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command("--epochs", 2, "--stage", 2)
    command("--epochs", 3, "--resume")
    log = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert set(log.Tags()["scalars"]) == {
        "loss/total", "loss/stage_1", "loss/stage_2", "gradient_norm", "learning_rate", "seconds_a_step",
        "samples/brightness_input", "samples/brightness_enhanced",
        "samples/colour_cast_input", "samples/colour_cast_enhanced",
    }  # fmt: skip
    assert [event.step for event in log.Scalars("loss/total")] == list(range(1, 10))
    total, first, second = (log.Scalars(f"loss/{name}")[4].value for name in ("total", "stage_1", "stage_2"))
    assert total == pytest.approx(first + second, rel=1e-6)
    assert [event.step for event in log.Scalars("samples/brightness_input")] == [3, 6, 9]
    pixels = [np.asarray(Image.open(path)) / 255 for path in sorted((tmp_path / "photos").iterdir())]
    means = np.mean([picture.mean(axis=(0, 1)) for picture in pixels], axis=0)
    assert log.Scalars("samples/brightness_input")[0].value == pytest.approx(means.mean(), rel=1e-5)
    assert log.Scalars("samples/colour_cast_input")[0].value == pytest.approx(means.std(), rel=1e-4)
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
    for (name, weight), moved in zip(start.enhance.named_parameters(), tuned.enhance.parameters(), strict=True):
        assert 0 <= (weight - moved).abs().max() < 1e-7, name
    assert tuned.enhance.conv[1].num_batches_tracked == 2


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


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle ran')",)


def bad_weights(tmp_path):
    save_weights(Network(), tmp_path / "whole.safetensors")
    (tmp_path / "truncated.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:5000])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Payload()))


MISTAKES = {
    "no data": (["--data", "nowhere"], "nowhere"),
    "data is empty": (["--data", "{tmp}/bare"], "bare"),
    "out under a file": (["--out", "{tmp}/photos/a.png/out"], "out"),
    "out is a file": (["--out", "{tmp}/whole.safetensors"], "whole.safetensors"),
    "out inside data": (["--out", "{tmp}/photos/out"], "--out"),
    "nothing to resume": (["--resume"], "--resume"),
    "steps no integer": (["--steps", "1e3"], "--steps"),
    "steps none": (["--steps", "0"], "--steps"),
    "epochs negative": (["--epochs", "-1"], "--epochs"),
    "lr": (["--lr", "-1"], "--lr"),
    "lr beyond use": (["--lr", "1e38"], "--lr"),
    "lr is nan": (["--lr", "nan"], "--lr"),
    "sigma": (["--sigma", "0"], "--sigma"),
    "sigma beyond use": (["--sigma", "1e-300"], "--sigma"),
    "fidelity beyond use": (["--fidelity-weight", "1e300"], "--fidelity-weight"),
    "stages beyond use": (["--stage", "100000000"], "--stage"),
    "workers beyond use": (["--workers", "100000"], "--workers"),
    "out empty": (["--out", ""], "--out"),
    "seed": (["--seed", "-2"], "--seed"),
    "crop too small": (["--crop", "2", "8"], "--crop"),
    "crop too large": (["--crop", "15", "15"], "a.png"),
    "crop of one number": (["--crop", "15"], "--crop"),
    "sizes differ": (["--batch-size", "2"], "--crop"),
    "device": (["--device", "cuda:99"], "--device"),
    "device unknown": (["--device", "toaster"], "toaster"),
    "impl": (["--impl", "cuda"], "--impl"),
    "checkpoint": (["--checkpoint", "all"], "--checkpoint"),
    "checkpoint and compile": (["--checkpoint", "block", "--compile"], "--checkpoint"),
    "sync-bn and compile": (["--sync-bn", "--compile"], "--sync-bn"),
    "checkpoint of the reference": (["--checkpoint", "stage", "--impl", "reference"], "--checkpoint"),
    "unknown flag": (["--stages", "3"], "--stages"),
    "weights missing": (["--finetune", "nowhere.pt"], "nowhere.pt"),
    "weights truncated": (["--finetune", "{tmp}/truncated.safetensors"], "truncated.safetensors"),
    "weights of another": (["--finetune", "{tmp}/other.pt"], "other.pt"),
    "weights with code": (["--finetune", "{tmp}/code.pt"], "code.pt"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_line(command, tmp_path, mistake):
    (tmp_path / "bare").mkdir()
    bad_weights(tmp_path)
    arguments, named = MISTAKES[mistake]
    status, lines, errors = command(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert status in (1, 2) and len(errors) == 1 and not lines
    assert errors[0].startswith("train: error: ") and named in errors[0]
    assert not (tmp_path / "out").exists()


def test_no_data_and_no_gpu(folder, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out")]) == 1
    assert "--data" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["--data", str(folder), "--out", str(tmp_path / "out"), "--gpu", "0", "--steps", "1"]) == 0
        assert "no GPU" in capsys.readouterr().err


def test_left_out_files_are_named_and_training_goes_on(command, folder):
    (folder / "bad.png").write_bytes(b"")
    status, lines, errors = command("--steps", 1)
    assert status == 0 and len(errors) == 1 and "bad.png" in errors[0] and lines[0].startswith("3 photographs")


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_nan_stops_and_the_last_good_checkpoint_stays(command, folder, tmp_path, monkeypatch, broken):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(context, value, broken):
            context.broken = broken
            return value * float("nan") if broken == "loss" else value.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * float("nan"), None

    calls = []

    def forward(self, input, illumination):
        loss = illumination_loss(input, illumination)
        calls.append(1)
        return Broken.apply(loss, broken) if len(calls) == 1 + 5 else loss  # one probe, then one stage a step

    monkeypatch.setattr(train.loop.sci_kernels.LossFunction, "forward", forward)
    status, _, errors = command("--stage", 1, "--epochs", 9)
    assert status == 1 and len(errors) == 1
    name = train.data.order(2, 1, 3)[1]
    assert f"step 5 ({sorted(path.name for path in folder.iterdir())[name]})" in errors[0]
    assert {"loss": "the loss is nan", "gradient": "gradient is nan"}[broken] in errors[0]
    assert "keeps step 3" in errors[0]
    state = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3 and all(torch.isfinite(value).all() for value in state["model"].values())
    assert not (tmp_path / "out" / "weights.safetensors").exists()
    monkeypatch.undo()
    assert command("--epochs", 9, "--resume")[0] == 0


def test_weights_that_are_not_finite_are_never_saved(command, tmp_path, monkeypatch):
    original, calls = train.loop.training_step, []

    def step(model, *arguments):
        result = original(model, *arguments)
        calls.append(1)
        if len(calls) == 5:
            model.enhance.conv[1].running_var[0] = float("inf")
        return result

    monkeypatch.setattr(train.loop, "training_step", step)
    status, _, errors = command("--save-every", 1, "--epochs", 3)
    assert status == 1 and len(errors) == 1 and "step 5" in errors[0] and "keeps step 4" in errors[0]
    assert torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["step"] == 4


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n many lines"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["gpu", "cpu"],
)
def test_out_of_memory_names_the_photograph_and_the_way_out(command, tmp_path, monkeypatch, error):
    original, calls = train.loop.training_step, []

    def step(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise error
        return original(*arguments)

    monkeypatch.setattr(train.loop, "training_step", step)
    status, _, errors = command("--stage", 1, "--crop", 14, 12)
    assert status == 1 and len(errors) == 1 and "step 4 (" in errors[0]
    assert "with 1 x 14x12" in errors[0] and f"{tmp_path}/out/checkpoint.pt keeps step 3" in errors[0]
    assert all(word in errors[0] for word in ("--crop", "--checkpoint block", "--amp bf16", "planned for it: 1.0 GiB"))


def test_a_step_that_cannot_be_compiled(command, monkeypatch):
    def step(*arguments):
        raise torch._dynamo.exc.Unsupported("no compiler\n here")

    with monkeypatch.context() as patch:
        patch.setattr(train.loop, "training_step", step)
        status, _, errors = command("--stage", 1, "--steps", 1, "--compile")
    assert status == 1 and len(errors) == 1 and "step 1 (" in errors[0] and "(no compiler here)" in errors[0]
    assert "--resume --no-compile" in errors[0] and command("--resume", "--no-compile")[0] == 0


def test_a_full_disk_leaves_the_last_checkpoint(command, tmp_path):
    out = tmp_path / "out"
    assert command("--epochs", 1, "--sample-every", 0)[0] == 0
    before = (out / "checkpoint.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        status, _, errors = command("--epochs", 3, "--resume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1 and len(errors) == 1 and str(out) in errors[0]
    assert (out / "checkpoint.pt").read_bytes() == before and not list(out.glob(".*"))
    assert command("--epochs", 3, "--resume")[0] == 0
