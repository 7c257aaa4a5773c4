"""Training runs with recorded steps, on a CPU with a tape in place of CUDA graphs; and when there are graphs at all."""

from functools import partial

import pytest
import torch

import train.loop
import train.reporting.report
import train.step.cuda_graphs
from tests.fake_cuda_graphs import TapeRecorder
from tests.training_runs import assert_same_weights, photographs
from train.config import Settings, from_dict
from train.step.cuda_graphs import VISITS, graphs_of, refusal

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tapes(monkeypatch):
    """Runs record with tapes wherever they would on a GPU; the recorders that they made."""
    made = []

    def recorder(device):
        made.append(TapeRecorder())
        return made[-1]

    monkeypatch.setattr(train.step.cuda_graphs, "CudaRecorder", recorder)
    monkeypatch.setattr(train.step.cuda_graphs, "refusal", lambda *arguments: None)
    monkeypatch.setattr(train.reporting.report, "_open_board", lambda *arguments: None)
    return made


@pytest.fixture
def on_cpu(command):
    """The trainer, on the CPU even where there is a GPU."""
    return partial(command, "--device", "cpu")


@pytest.fixture
def folder(tmp_path):
    """Four photographs of two sizes."""
    sizes = {"a.png": (16, 14), "b.png": (15, 17), "c.png": (16, 14), "d.png": (16, 14)}
    return photographs(tmp_path / "photos", sizes)


# Arguments, sizes that are recorded, steps that are replayed.
RUNS = {
    "full size": (["--epochs", 4, "--save-every", 3], 2, (12 - 2) + (4 - 2)),
    "crops": (["--epochs", 4, "--crop", 8, 9, "--batch-size", 3], 2, 2 * (4 - 2)),
    "finetune": (["--steps", 9, "--crop", 8, 9, "--lr", 1e-3], 1, 9 - 2),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_with_graphs_gives_the_weights_of_one_without(on_cpu, tapes, tmp_path, kind):
    arguments, recorded, replayed = RUNS[kind]
    arguments = [*arguments, "--sample-every", 2]
    if kind == "finetune":
        assert on_cpu("--steps", 1, out=tmp_path / "first")[0] == 0
        arguments += ["--finetune", tmp_path / "first" / "weights.safetensors"]
    with_graphs, without = tmp_path / "with", tmp_path / "without"
    status, lines, errors = on_cpu(*arguments, *(["--graph"] if kind == "full size" else []), out=with_graphs)
    assert (status, errors, len(tapes)) == (0, [], 1) and (tapes[0].recorded, tapes[0].replayed) == (recorded, replayed)
    said = [line for line in lines if line.startswith("graphs: ")]
    assert said[0].startswith("graphs: on, ") and ["is recorded, and" in line for line in said[1:]] == [True] * recorded
    status, lines, errors = on_cpu(*arguments, "--no-graph", out=without)
    assert (status, errors, len(tapes)) == (0, [], 1) and not any(line.startswith("graphs: ") for line in lines)
    assert_same_weights(with_graphs, without)


@pytest.mark.parametrize(
    "first, second", [("--graph", "--graph"), ("--graph", "--no-graph"), ("--no-graph", "--graph")]
)
def test_interrupted_and_resumed_with_graphs_or_without(on_cpu, tapes, tmp_path, monkeypatch, first, second):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["--epochs", 3, "--save-every", 3, "--crop", 8, 9]
    assert on_cpu(*arguments, "--no-graph", out=whole)[0] == 0
    original, calls = train.loop.training_step, []

    def step(*given):
        calls.append(1)
        if len(calls) == 9:
            raise SystemExit("killed")
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(train.loop, "training_step", step)
        assert on_cpu(*arguments, first, out=cut)[0] == "killed"
    assert torch.load(cut / "checkpoint.pt", weights_only=True)["step"] == 8
    assert on_cpu("--resume", second, out=cut)[0] == 0
    assert_same_weights(cut, whole)
    assert [tape.replayed for tape in tapes] == [
        count for flag, count in ((first, 8 - VISITS + 1), (second, 4 - VISITS + 1)) if flag == "--graph"
    ]


def test_a_replayed_step_that_is_not_finite_stops_the_run(on_cpu, tapes, tmp_path, monkeypatch):
    original, calls = train.loop.stack, []

    def stack(*arguments):
        names, images = original(*arguments)
        calls.append(1)
        if len(calls) == 7:
            images[0, 0, 2, 2] = float("nan")
        return names, images

    monkeypatch.setattr(train.loop, "stack", stack)
    status, _, errors = on_cpu("--crop", 8, 9, "--epochs", 4)
    assert status == 1 and len(errors) == 1 and "step 7 (" in errors[0] and "the loss is nan" in errors[0]
    assert "keeps step 4" in errors[0] and len(calls) == 8 and tapes[0].replayed == 8 - VISITS + 1


def test_out_of_memory_with_graphs_names_them(on_cpu, tapes, monkeypatch):
    def step(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train.loop, "training_step", step)
    for flag in ("--graph", "--no-graph"):
        status, _, errors = on_cpu("--crop", 8, 9, flag, "--overwrite")
        assert status == 1 and len(errors) == 1 and ("use --no-graph, --crop" in errors[0]) == (flag == "--graph")


def test_without_a_gpu_asking_gets_a_line_and_not_asking_none(on_cpu, tmp_path):
    status, lines, errors = on_cpu("--steps", 1, "--graph", "--crop", 8, 9)
    assert (status, errors) == (0, [])
    assert "graphs: off, they need a GPU, and this is cpu; training goes on without" in lines
    status, lines, errors = on_cpu("--steps", 1, "--crop", 8, 9, out=tmp_path / "other")
    assert (status, errors) == (0, []) and not any(line.startswith("graphs") for line in lines)


def test_when_graphs_are_on():
    cuda, lines = torch.device("cuda"), []

    def of(device=cuda, processes=1, impl="triton", **settings):
        lines.clear()
        settings = Settings(data="d", out="o", **settings)
        if reason := refusal(settings, device, processes, impl):
            graphs = graphs_of(settings, device, processes, impl, None, lines.append)
            assert graphs is None and all(reason in line for line in lines)
        return reason

    assert of(graph=True) is None and of(crop=(8, 8)) is None and of(graph=True, amp="bf16") is None
    for reason, given in {
        "need a GPU": {"device": torch.device("cpu")},
        "several processes": {"processes": 2},
        "--no-compile": {"compile": True},
        "--impl reference copies": {"impl": "reference"},
        "--impl blocked copies": {"impl": "blocked"},
    }.items():
        assert reason in of(**given, graph=True) and len(lines) == 1
        assert reason in of(**given, crop=(8, 8)) and not lines  # nobody asked
    for settings in ({}, {"graph": False}, {"graph": False, "crop": (8, 8)}):
        assert graphs_of(Settings(data="d", out="o", **settings), cuda, 1, "triton", None, lines.append) is None
    assert not lines


def test_runs_from_before_there_were_graphs_are_read():
    old = {"data": "d", "out": "o", "crop": [8, 9]}
    assert from_dict(old).graph is None and "graph" not in from_dict(old).fixed()
