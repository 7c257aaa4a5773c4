"""The measuring itself: it sees what is wrong, counts what is there, and says so by its exit status."""

import json
import math

import pytest
import torch

from bench.measure import clock, memory
from bench.promises import cli as promises
from bench.promises import golden_losses
from model import Network
from sci_kernels import smooth_loss


def allocate(megabytes: int):
    """A factory for `extra_memory`: the call keeps this much for a moment."""
    return lambda: torch.ones(megabytes * 2**20, dtype=torch.uint8)


def fail():
    """A factory that cannot prepare its data."""
    raise ValueError("no data here")


def test_golden_rows_pass_and_see_a_wrong_loss(monkeypatch):
    errors = golden_losses.golden_errors("blocked", torch.float64)
    assert max(errors[:3]) < 1e-10 and errors.compared > 20
    monkeypatch.setattr(golden_losses, "smooth_loss", lambda *args, **kwargs: smooth_loss(*args, **kwargs) * (1 + 1e-9))
    monkeypatch.setattr(promises.importlib.util, "find_spec", lambda name: None)
    rows = list(promises.golden_rows(torch.float64))
    assert [row.passed for row in rows] == [False, False, False, None]
    assert "Triton is not installed" in rows[3].measured


def test_one_wrong_element_of_a_gradient_counts():
    loss, grad = torch.tensor(2.0), torch.ones(100, 100)
    wrong = grad.clone()
    wrong[0, 99] = 1.5
    errors = golden_losses.compare([loss, wrong], [loss, grad])
    assert errors == pytest.approx((0.0, 0.005, 0.5))
    wrong[0, 99] = math.nan
    assert math.inf in golden_losses.compare([loss, wrong], [loss, grad])


def test_golden_run_repeats_and_another_rate_does_not():
    assert promises.trajectory_row("train_3stage", Network(stage=3), promises.LR).passed
    assert not promises.trajectory_row("train_3stage", Network(stage=3), promises.LR * 1.001).passed


def test_calls_are_taken_in_turn_after_all_are_warm():
    calls = []
    times = clock.interleave({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=3)
    assert "".join(calls) == "ab" * 4
    assert {timing.repeats for timing in times.values()} == {3}
    assert all(0 <= timing.p20 <= timing.median <= timing.p80 for timing in times.values())


@pytest.mark.slow
def test_memory_of_one_call_is_counted():
    small, large = (memory.extra_memory("tests.bench.test_figures:allocate", size) for size in (32, 160))
    assert 120e6 < large - small < 150e6
    with pytest.raises(RuntimeError, match="no data here"):
        memory.extra_memory("tests.bench.test_figures:fail")


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (None, 0), (False, 1)])
def test_exit_status_and_json(monkeypatch, capsys, tmp_path, passed, status):
    monkeypatch.setattr(promises, "all_rows", lambda: iter([promises.Promise("speed", ">= 2x", "1x", passed)]))
    assert promises.main(["--json", str(tmp_path / "figures.json")]) == status
    out = capsys.readouterr().out
    assert "speed" in out and {True: "pass", False: "FAIL", None: "skip"}[passed] in out
    saved = json.loads((tmp_path / "figures.json").read_text())
    assert saved["figures"][0]["passed"] is passed
    assert saved["environment"]["torch"] and saved["environment"]["date"]


def test_a_file_that_cannot_be_written_is_named_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(promises, "all_rows", lambda: iter([]))
    assert promises.main(["--json", str(tmp_path / "none" / "figures.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--json" in error


def test_the_loss_row_compares_before_it_times(monkeypatch):
    monkeypatch.setattr(promises, "interleave", lambda *args, **kwargs: pytest.fail("timed without parity"))
    monkeypatch.setattr(golden_losses, "compare", lambda got, expected: (1.0, 1.0, 1.0))
    (row,) = promises.loss_rows((12, 12))
    assert row.passed is False and "parity" in row.measured


@pytest.mark.slow
def test_speed_rows_measure_both_sides():
    """Whether they pass is a matter of size and machine; that they compare, time and weigh is not."""
    time_row, memory_row = promises.loss_rows((60, 80), repeats=1)
    assert "parity" in time_row.measured and " ms, " in time_row.measured and "12-pair" in time_row.measured
    assert memory_row.measured.endswith(" MB)") and isinstance(memory_row.passed, bool)
    step = promises.step_row((20, 24), repeats=1)
    assert "first losses within" in step.measured and isinstance(step.passed, bool)
