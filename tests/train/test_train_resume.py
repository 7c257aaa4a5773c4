"""Killed, interrupted and resumed runs end in the weights of the run that was left alone, bit for bit."""

import os
import random
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import train.checkpoint
import train.loop
import train.prepare
import train.reporting.report
from tests.training_runs import assert_equal, assert_same_weights, photographs, start_process, wait_for
from train.__main__ import main

RUN = ["--save-every", "2", "--sample-every", "2", "--seed", "5"]


# Bits are promised for one number of threads; this is the one the subprocesses get as well.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"a.png": (24, 20), "b.png": (15, 17), "c.png": (18, 13)}
    return photographs(tmp_path_factory.mktemp("photos"), sizes)


@pytest.fixture
def no_board(monkeypatch):
    monkeypatch.setattr(train.reporting.report, "_open_board", lambda *arguments: None)


def begin(folder, out, *arguments):
    return main(["--data", str(folder), "--out", str(out), *RUN, *map(str, arguments)])


def resume(out, *arguments):
    return main(["--out", str(out), "--resume", *map(str, arguments)])


class Killed(BaseException):
    """What no handler of the trainer catches."""


def kill_at(monkeypatch, module, name, call, after=False):
    """Die at the given call of a function, before or after it does its work."""
    original, calls = getattr(module, name), []

    def dying(*arguments, **keywords):
        calls.append(1)
        if len(calls) != call:
            return original(*arguments, **keywords)
        if name == "write_atomically":
            (arguments[0].parent / ".sci-1-00.tmp").write_bytes(arguments[1][:100])
        if after:
            original(*arguments, **keywords)
        raise Killed

    monkeypatch.setattr(module, name, dying)


@pytest.fixture(scope="module")
def unharmed(folder, tmp_path_factory):
    """Two epochs of three steps, left alone."""
    out = tmp_path_factory.mktemp("unharmed") / "out"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert begin(folder, out, "--epochs", 2) == 0
    torch.set_num_threads(threads)
    return out


MOMENTS = [
    (train.prepare, "write_atomically", 1),  # config.json
    *((train.loop, "training_step", call) for call in (1, 2, 5, 6)),
    *((train.checkpoint, "write_atomically", call) for call in (1, 2, 4)),
    *(
        (train.reporting.report.TrainingReport, name, call)
        for name, call in (("line", 1), ("epoch", 1), ("samples", 1), ("samples", 2))
    ),
    *((train.loop, "save_weights", call) for call in (1, 2)),
]


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("module, name, call", MOMENTS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_killed_at_any_moment(folder, unharmed, tmp_path, monkeypatch, no_board, module, name, call, after):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        kill_at(patch, module, name, call, after)
        with pytest.raises(Killed):
            begin(folder, out, "--epochs", 2)
    if (out / "config.json").exists():
        assert resume(out) == 0
    else:
        assert resume(out) == 1  # nothing had begun
        assert begin(folder, out, "--epochs", 2) == 0
    assert_same_weights(out, unharmed)
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_saves(
    folder, tmp_path, monkeypatch, capsys, no_board, unharmed, number, status
):
    original, steps = train.loop.training_step, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == 4:
            os.kill(os.getpid(), number)
        return original(*arguments)

    monkeypatch.setattr(train.loop, "training_step", step)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert begin(folder, tmp_path / "out", "--epochs", 2, "--save-every", 0) == status
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert len(steps) == 4 and "saved at step 4 of 6" in capsys.readouterr().err
    assert torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["step"] == 4
    assert resume(tmp_path / "out") == 0
    unharmed_model = torch.load(unharmed / "checkpoint.pt", weights_only=True)["model"]
    assert_equal(torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["model"], unharmed_model)


def test_a_finished_run_goes_on_with_more_epochs_and_workers(folder, unharmed, tmp_path, no_board, capsys):
    out = tmp_path / "out"
    assert begin(folder, out, "--epochs", 1) == 0
    told = (out / "summary.txt").read_text()
    assert resume(out) == 0 and "already at step 3 of 3" in capsys.readouterr().out
    assert (out / "summary.txt").read_text() == told and "3 steps now" in told
    assert resume(out, "--epochs", 2, "--workers", 2) == 0
    assert_same_weights(out, unharmed)
    assert resume(out, "--steps", 5) == 0 and "already at step 6 of 5" in capsys.readouterr().out
    assert_same_weights(out, unharmed)


def test_finetuning_resumes_without_its_first_weights(folder, unharmed, tmp_path, monkeypatch, no_board):
    start = tmp_path / "start.safetensors"
    start.write_bytes((unharmed / "weights.safetensors").read_bytes())
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert begin(folder, whole, "--finetune", start, "--steps", 5, "--crop", 8, 8, "--batch-size", 2) == 0
    with monkeypatch.context() as patch:
        kill_at(patch, train.loop, "training_step", 4)
        with pytest.raises(Killed):
            begin(folder, cut, "--finetune", start, "--steps", 5, "--crop", 8, 8, "--batch-size", 2)
    start.unlink()
    assert resume(cut) == 0
    assert_same_weights(cut, whole)


def copy_run(source, target):
    target.mkdir()
    for name in ("config.json", "checkpoint.pt", "weights.safetensors"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def test_what_would_make_another_run_is_refused(folder, unharmed, tmp_path, capsys):
    out = copy_run(unharmed, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert resume(out, "--lr", "0.1", "--crop", 8, 8, "--epochs", 3) == 1
    error = capsys.readouterr().err
    assert "--lr 0.0003 -> 0.1" in error and "--crop None -> (8, 8)" in error and "--epochs 2" not in error
    assert error.count("\n") == 1 and before == {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "config.json").write_text((out / "config.json").read_text().replace('"seed": 5', '"seed": 6'))
    assert resume(out, "--epochs", 3) == 1
    assert "--seed 5 -> 6" in capsys.readouterr().err


def test_other_photographs_are_refused(folder, unharmed, tmp_path, capsys):
    out = copy_run(unharmed, tmp_path / "out")
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert resume(out, "--data", moved) == 0  # the same, elsewhere
    (moved / "b.png").rename(moved / "d.png")
    assert resume(out, "--data", moved) == 1
    assert "b.png is missing (2 differ" in capsys.readouterr().err
    Image.new("RGB", (17, 16)).save(moved / "b.png")
    (moved / "d.png").unlink()
    assert resume(out, "--data", moved) == 1
    assert "b.png has another size (1 differ" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "empty", "weights alone", "another network", "code", "config"])
def test_a_damaged_run_is_refused_by_name(unharmed, tmp_path, capsys, damage):
    out = copy_run(unharmed, tmp_path / "out")
    path = out / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "weights alone":
        torch.save(state["model"], path)
    elif damage == "another network":
        state["model"].pop("enhance.in_conv.0.weight")
        torch.save(state, path)
    elif damage == "code":
        torch.save(state | {"step": Path("x")}, path)
    else:
        path = out / "config.json"
        path.write_text(path.read_text()[:-100])
    damaged = path.read_bytes()
    assert resume(out, "--epochs", 3) == 1
    error = capsys.readouterr().err
    assert error.startswith("train: error: ") and error.count("\n") == 1 and str(path) in error
    assert path.read_bytes() == damaged


@pytest.mark.slow
def test_terminated_then_killed_then_resumed(folder, tmp_path):
    """A real process with workers: terminated, continued by the command it printed, killed, continued."""
    seed = time.time_ns()
    print(f"random moments of seed {seed}")
    moments = random.Random(seed)
    seldom = ["--sample-every", "30"]
    whole, out = tmp_path / "whole", tmp_path / "out with a space"

    many = ["--steps", "10000", "--workers", "2"]
    process = start_process(
        [sys.executable, "-m", "train", "--data", str(folder), "--out", str(out), *RUN, *seldom, *many]
    )
    wait_for((out / "checkpoint.pt").exists, process)
    time.sleep(moments.uniform(0, 0.2))
    os.killpg(process.pid, signal.SIGTERM)  # the whole group, as `timeout` and a terminal's Ctrl-C do
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert len(errors.split("finishing this step")) == 2 and "Traceback" not in errors
    command = errors.strip().splitlines()[-1].partition("to resume: ")[2]

    process = start_process(shlex.split(command))
    wait_for(lambda: "resuming" in (out / "log.txt").read_text(), process)
    time.sleep(moments.uniform(0, 0.3))
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL and not (out / "weights.safetensors").exists()

    steps = torch.load(out / "checkpoint.pt", weights_only=True)["step"] + 5
    assert resume(out, "--workers", 0, "--steps", steps) == 0
    assert begin(folder, whole, *seldom, "--steps", steps) == 0
    assert_same_weights(out, whole)
