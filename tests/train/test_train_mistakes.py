"""One line for every mistake of a user, and for whatever ends a run; what was saved stays."""

import errno
import os
import pickle
import resource

import pytest
import torch

import train.loop
from model.network.architecture import Network
from model.network.weights import save_weights
from sci_kernels import LossFunction, illumination_loss
from train.__main__ import main

pytestmark = pytest.mark.usefixtures("one_thread")


NO_GPU = "there is no GPU that PyTorch can use; training on the CPU"


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle ran')",)


def bad_weights(tmp_path):
    save_weights(Network(), tmp_path / "whole.safetensors")
    (tmp_path / "truncated.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:5000])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Payload()))
    torch.save({"step": 1, "model": {}, "optimizer": {}, "settings": {}}, tmp_path / "checkpoint.pt")


MISTAKES = {
    "no data": (["--data", "nowhere"], "nowhere"),
    "data is empty": (["--data", "{tmp}/bare"], "bare"),
    "out under a file": (["--out", "{tmp}/photos/a.png/out"], "out"),
    "out is a file": (["--out", "{tmp}/whole.safetensors"], "whole.safetensors"),
    "out inside data": (["--out", "{tmp}/photos/out"], "--out"),
    "nothing to resume": (["--resume"], "--resume"),
    "steps no integer": (["--steps", "10.5"], "--steps: expected a whole number; got '10.5'"),
    "steps no number": (["--steps", "ten"], "--steps: expected a whole number; got 'ten'"),
    "steps infinite": (["--steps", "inf"], "--steps: expected a whole number; got 'inf'"),
    "cuda": (["--cuda", "yes"], "--cuda: expected True or False; got 'yes'"),
    "cuda and device": (["--cuda", "True", "--device", "cpu"], "--cuda: expected to be given without --device"),
    "gpu and device": (["--gpu", "0", "--device", "cpu"], "--gpu: expected to be given without --device"),
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
    "convolutions": (["--convolutions", "cudnn"], "--convolutions"),
    "convolutions without a GPU": (["--convolutions", "triton", "--device", "cpu"], "--convolutions triton: expected"),
    "convolutions and compile": (["--convolutions", "triton", "--compile"], "--convolutions: expected auto with"),
    "unknown flag": (["--stages", "3"], "--stages"),
    "weights missing": (["--finetune", "nowhere.pt"], "nowhere.pt"),
    "weights truncated": (["--finetune", "{tmp}/truncated.safetensors"], "truncated.safetensors"),
    "weights of another": (["--finetune", "{tmp}/other.pt"], "other.pt"),
    "weights of a checkpoint": (["--finetune", "{tmp}/checkpoint.pt"], "checkpoint.pt: the checkpoint of a run, for"),
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


def test_an_implementation_that_cannot_run_here_is_refused(command, monkeypatch, tmp_path):
    def forward(self, input, illumination):
        raise RuntimeError("impl='triton': needs\na GPU")

    monkeypatch.setattr(LossFunction, "forward", forward)
    status, _, errors = command("--impl", "triton", "--steps", 1)
    assert status == 1 and len(errors) == 1 and "--impl triton" in errors[0] and "needs a GPU" in errors[0]
    assert not (tmp_path / "out").exists()


def test_no_data_and_no_gpu(folder, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out")]) == 1
    assert "--data" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["--data", str(folder), "--out", str(tmp_path / "out"), "--gpu", "0", "--steps", "1"]) == 0
        assert capsys.readouterr().err == f"train: --gpu: {NO_GPU}\n"
        arguments = ["--data", str(folder), "--out", str(tmp_path / "cuda"), "--steps", "1"]
        assert main([*arguments, "--cuda", "True"]) == 0
        assert capsys.readouterr().err == f"train: --cuda: {NO_GPU}\n"
        assert main([*arguments, "--cuda", "False", "--overwrite"]) == 0
        assert capsys.readouterr().err == ""


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

    monkeypatch.setattr(LossFunction, "forward", forward)
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


@pytest.mark.quick(every=2)
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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE, errno.EDQUOT])
def test_a_disk_that_fails_leaves_the_last_checkpoint(command, tmp_path, monkeypatch, number):
    out = tmp_path / "out"
    assert command("--epochs", 1, "--sample-every", 0)[0] == 0
    before = (out / "checkpoint.pt").read_bytes()
    original, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(1)
        if len(calls) > 2:  # config.json and one checkpoint
            raise OSError(number, os.strerror(number))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    status, _, errors = command("--epochs", 9, "--resume", "--sample-every", 0)
    assert status == 1 and errors == [
        f"train: error: {out}: expected a folder that can be written, with room; got: {os.strerror(number)}; "
        "what was saved stays"
    ]
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 6 and not list(out.glob(".*"))
    assert (out / "checkpoint.pt").read_bytes() != before
    monkeypatch.undo()
    assert command("--epochs", 9, "--resume")[0] == 0


def test_a_folder_that_vanishes_while_training(command, tmp_path, monkeypatch):
    original, calls = train.loop.training_step, []

    def step(*arguments):
        calls.append(1)
        if len(calls) == 5:
            (tmp_path / "out").rename(tmp_path / "moved")
        return original(*arguments)

    monkeypatch.setattr(train.loop, "training_step", step)
    monkeypatch.setattr(train.reporting.report, "_open_board", lambda *arguments: None)
    status, _, errors = command("--epochs", 3)
    assert status == 1 and len(errors) == 1 and f"{tmp_path}/out/checkpoint.pt: expected a folder" in errors[0]
    assert torch.load(tmp_path / "moved" / "checkpoint.pt", weights_only=True)["step"] == 3
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_too_long(command, tmp_path):
    for arguments in ([], ["--resume"]):
        status, lines, errors = command("--steps", 1, *arguments, out=tmp_path / ("x" * 300))
        assert status == 1 and not lines and len(errors) == 1 and "File name too long" in errors[0]


def test_a_sample_that_cannot_be_written_is_left_out(command, folder, tmp_path):
    """Of a photograph whose name leaves no room for .png behind it."""
    (folder / "c.jpg").rename(folder / f"{'c' * 250}.jpg")
    status, _, errors = command("--steps", 3)
    assert status == 0 and len(errors) == 1 and errors[0].startswith(f"train: warning: {tmp_path}/out/samples")
    assert errors[0].endswith("c.jpg.png: this sample is left out (File name too long)")
    assert sorted(path.name for path in (tmp_path / "out" / "samples").rglob("*.png")) == ["a.png", "b.png"]


def test_what_is_no_file_is_left_out_unopened(command, folder):
    """Nobody writes to the pipe: to open it would wait for ever."""
    os.mkfifo(folder / "d.png")
    (folder / "e.png").symlink_to("nowhere.png")
    (folder / "f.png").symlink_to(os.devnull)
    status, lines, errors = command("--steps", 1)
    assert status == 0 and lines[0].startswith("3 photographs") and len(errors) == 3
    assert all(f"left out: {folder}/{name}.png" in line for name, line in zip("def", errors, strict=True))


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
