"""Enhancing and the training step as they are compared: the trainer's own step, parity first, parts that add up."""

import functools
import json
import math

import pytest
import torch
from torch import nn

from bench.compare import cases, cli, runner
from bench.compare.printed_row import row_text
from bench.compare.recorded_step import graph_rows
from bench.networks.enhancing import Enhance
from bench.networks.training_step import PARTS, TrainingStep
from model import Network
from sci_kernels import LossFunction
from tests.fake_cuda_graphs import TapeRecorder
from train.step.update import make_optimizer, training_step


@pytest.fixture(autouse=True)
def small_copy(monkeypatch):
    """A copy of little memory, no process for memory, a small size for float64, no calls counted."""
    monkeypatch.setattr(cli, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(runner, "extra_memory", lambda *args: 4_000_000)
    monkeypatch.setattr(runner.Comparison, "count_calls", lambda self: None)
    monkeypatch.setattr(cases.Case, "small", lambda self: cases.replace(self, height=13, width=18))


def run(tmp_path, text, expected=0):
    """The command's JSON."""
    file = tmp_path / "rows.json"
    assert cli.main([*text.split(), "--device", "cpu", "--repeats", "1", "--json", str(file)]) == expected
    return json.loads(file.read_text())


IMAGE = cases.Case("step", 12, 14, torch.float64).inputs("cpu")[0]


def test_a_step_is_the_trainers_own_and_starts_anew_when_called():
    torch.manual_seed(2)
    model = Network(stage=3, impl="reference").double()
    optimizer, criterion = make_optimizer(model, 3e-4), LossFunction(impl="reference")
    expected = [training_step(model, criterion, optimizer, IMAGE).loss for _ in range(2)]
    step = TrainingStep("reference")
    first = step(IMAGE)
    assert [float(first[0]), step.step(IMAGE)] == expected
    again = step(IMAGE)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_gradients_are_compared_but_for_those_that_are_rounding_noise():
    reference, ours = TrainingStep("reference")(IMAGE), TrainingStep("ours")(IMAGE)
    # Of the 8 convolutions 4 feed a BatchNorm: weight and bias of each, scale and shift of the 4, less 4 biases.
    biases = sum(isinstance(module, nn.Conv2d) for module in Network().modules())
    assert len(reference) == 1 + 2 * biases + 2 * 4 - 4
    assert cases.Case("step", 12, 14, torch.float64).error(list(ours), list(reference)) < 1e-12


def test_parts_are_those_of_one_more_step():
    step = TrainingStep("ours")
    parts = step.breakdown(IMAGE)
    assert tuple(parts) == PARTS and all(seconds > 0 for seconds in parts.values())
    other = TrainingStep("ours")
    other.step(IMAGE)
    assert step.step(IMAGE) == other.step(IMAGE)  # measured or not, a step is the same


def test_rows_of_a_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner.Comparison, "_new_size", lambda *args: None)
    command = "step --size 24x16 --dtype float64 --providers reference,ours --memory 8GB"
    reference, ours = run(tmp_path, command)["rows"]
    assert (reference["provider"], ours["provider"], ours["part"]) == ("reference", "ours", "step")
    for row in (reference, ours):
        assert row["status"] == "ok" and row["ms"]["median"] > 0 and row["gb_per_s"] is None
        assert tuple(row["breakdown_ms"]) == PARTS
        assert row["bytes_a_pixel"] == pytest.approx(4_000_000 / 384 + 24)
        largest = row["largest_planned"]
        assert largest["memory_bytes"] == 8e9 and 9 * largest["width"] == 16 * largest["height"]
    assert ours["largest_planned"]["width"] > reference["largest_planned"]["width"] > 1000
    assert "planned for 7.45058 GiB" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_wrong_step_is_not_timed(tmp_path, monkeypatch, where):
    right = LossFunction.forward

    def wrong(self, input, illumination):
        loss = right(self, input, illumination)
        if self.impl == "reference":
            return loss
        return loss + 1e-4 if where == "loss" else loss + 0.1 * (illumination - illumination.detach()).sum()

    monkeypatch.setattr(LossFunction, "forward", wrong)
    monkeypatch.setattr(runner, "take_turns", lambda *args: pytest.fail("timed without parity"))
    (row,) = run(tmp_path, "step --size 24x16 --providers reference,ours", 1)["rows"]
    assert "not timed: parity" in row["status"] and "ours" in row["status"]


def test_rows_of_enhancing(tmp_path):
    rows = run(tmp_path, "enhance --size 24x16 --dtype float32,uint8 --providers reference,ours")["rows"]
    assert [row["part"] for row in rows] == ["reflectance"] * 2 + ["forward"] * 2 + ["reflectance"] * 2 + [
        "forward"
    ] * 2
    for row in rows:
        values, size = {"reflectance": 6, "forward": 9}[row["part"]], {"float32": 4, "uint8": 1}[row["dtype"]]
        assert row["status"] == "ok"
        assert row["gb_per_s"] == pytest.approx(values * size * 24 * 16 / row["ms"]["median"] / 1e6)
        if row["part"] == "forward":
            assert row["extra_bytes"] == 4_000_000 and row["stream_ms"] > 0


def test_a_wrong_picture_is_not_timed(tmp_path, monkeypatch):
    right = Enhance.__call__

    def wrong(self, image):
        illumination, reflectance = right(self, image)
        reflectance[0, 0, -1, -1] += 0.01 * (self._provider == "ours")
        return illumination, reflectance

    monkeypatch.setattr(Enhance, "__call__", wrong)
    (row,) = run(tmp_path, "enhance --size 24x16 --providers reference,ours", 1)["rows"]
    assert "not timed: parity" in row["status"]


def test_the_compiled_picture_is_one_graph_and_agrees(monkeypatch):
    # Inductor's own code is not what is tested here, and takes long to compile.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    image = IMAGE.float()
    got, expected = (list(Enhance(provider)(image)) for provider in ("compiled", "reference"))
    assert cases.worst_error(got, expected) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        ("--providers blocked", "reference, compiled, ours"),
        ("--memory much", "24GiB"),
        ("--memory 0GB", "24GiB"),
        ("--dtype float16", "float64"),
    ],
)
def test_unknown_words_name_the_known_ones(capsys, arguments, known):
    with pytest.raises(SystemExit) as stop:
        cli.main(["step", *arguments.split()])
    assert stop.value.code == 2 and known in capsys.readouterr().err


def test_an_image_whose_inputs_do_not_fit_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(cases.Case, "inputs", lambda *args: pytest.fail("tried"))
    rows = run(tmp_path, "step --size 999999x999999")["rows"]
    assert [row["provider"] for row in rows] == ["reference", "compiled", "ours"]
    assert all(row["status"].startswith("refused: needs about") for row in rows)


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(cli, "missing_package", lambda op, plot: "safetensors")
    assert cli.main(["step", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "safetensors" in error and error.count("\n") == 1


def test_the_step_as_a_graph_beside_the_ordinary_one():
    recorder, rows = TapeRecorder(), []
    assert graph_rows([(16, 24), (12, 20)], 2, "cpu", 2, False, math.inf, rows.append, recorder)
    assert [(row["provider"], row["height"], row["batch"], row["status"]) for row in rows] == [
        (way, height, 2, "ok") for height in (16, 12) for way in ("ours", "ours --graph")
    ]
    assert recorder.recorded == 2 and recorder.replayed > 10
    for ours, replayed in (rows[:2], rows[2:]):
        ratio = ours["ms"]["median"] / replayed["ms"]["median"]
        assert replayed["times_faster_than"] == {"ours": pytest.approx(ratio)}
        assert "step of 2" in row_text(rows[0])


def test_a_graph_that_cannot_be_recorded_or_is_wrong_is_not_timed(monkeypatch):
    class Failing(TapeRecorder):
        def record(self, call):
            raise RuntimeError("no room")

    class Wrong(TapeRecorder):
        def record(self, call):
            replay, values = super().record(call)
            return lambda: (replay(), values.mul_(1.01)), values

    for recorder, word in ((Failing(), "cannot be recorded (no room)"), (Wrong(), "parity")):
        rows = []
        assert not graph_rows([(16, 24)], 1, "cpu", 1, False, math.inf, rows.append, recorder)
        assert len(rows) == 1 and rows[0]["status"].startswith("not timed: ") and word in rows[0]["status"]
    rows.clear()
    assert graph_rows([(16, 24)], 1, "cpu", 1, False, -math.inf, rows.append, TapeRecorder())
    assert len(rows) == 1 and "--seconds is up" in rows[0]["status"]


def test_without_a_gpu_a_graph_is_refused_in_one_line(capsys):
    assert cli.main(["step", "--graph", "--batch", "8", "--size", "256x256", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        "--graph: expected a GPU, since CUDA graphs need one; got --device cpu; leave --graph out\n"
    )
    assert cli.main(["step", "--batch", "8", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == "--batch: expected together with --graph; without it every row is of one image\n"
