"""What a script gains, change by change: every way makes the same step, and only what agrees is timed."""

import json

import pytest
import torch

import sci_kernels
from bench.networks import official_script, training_gain
from sci_kernels import reference


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    monkeypatch.setattr(training_gain, "extra_memory", lambda *args: 4_000_000)


def test_the_script_computes_the_official_loss():
    x, y = (torch.rand(1, 3, 9, 11, dtype=torch.float64) for _ in range(2))
    theirs = official_script.LossFunction()
    torch.testing.assert_close(theirs(x, y), reference.illumination_loss(x, y), rtol=1e-13, atol=0.0)
    network = official_script.OfficialNetwork()
    assert [str(each.module.sigma) for each in sci_kernels.accelerate(network).replaced] == ["10.0"]


def test_every_way_makes_the_same_steps():
    image = training_gain.picture(12, 14, "cpu").double()
    steps = {way: training_gain.step_of(way, image) for way in training_gain.WAYS}
    for _ in range(3):
        results = [torch.tensor(step(), dtype=torch.float64) for step in steps.values()]
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], rtol=1e-7, atol=0.0)


def test_rows_and_lines(tmp_path, capsys):
    file = tmp_path / "gain.json"
    assert training_gain.main(["--device", "cpu", "--size", "15x12", "--repeats", "1", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    assert [row["way"] for row in content["rows"]] == list(training_gain.WAYS) and content["kind"] == "gain"
    assert content["rows"][0]["faster"] == 1.0 and all(row["bound"] is None for row in content["rows"])
    assert all(row["parity"] < 1e-5 and row["ms"]["median"] > 0 for row in content["rows"])
    assert content["command"] == "python -m bench gain --device cpu --size 15x12"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[1].startswith("accelerate") and "49 of them losses" in lines[5]


def test_what_differs_is_not_timed(monkeypatch, capsys):
    make = training_gain.step_of

    def wrong(way, image):
        step = make(way, image)
        return (lambda: (step()[0] * 1.01, 1.0)) if way == "network" else step

    monkeypatch.setattr(training_gain, "step_of", wrong)
    assert training_gain.main(["--device", "cpu", "--size", "15x12", "--repeats", "1"]) == 1
    assert "network     not measured: loss or gradient differs by" in capsys.readouterr().out


def test_a_missed_bound_is_told_and_fails(monkeypatch):
    row = {"way": "trainer", "status": "ok", "ms": {"median": 3.0}, "faster": 4.5, "bound": 5.0, "extra_bytes": None}
    assert "4.50x (must: >= 5x, MISSED)" in training_gain.text_of(row) and not training_gain.kept(row)
    assert training_gain.kept(row | {"faster": 5.1}) and not training_gain.kept(
        row | {"status": "not measured: it differs"}
    )


def test_arguments(capsys):
    with pytest.raises(SystemExit):
        training_gain.main(["--repeats", "0"])
    assert "--repeats: expected 1 or more; got 0" in capsys.readouterr().err
    assert (
        training_gain.main(["--device", "cpu", "--size", "15x12", "--repeats", "1", "--json", "/dev/null/x.json"]) == 2
    )
    assert "--json: /dev/null/x.json: cannot be written" in capsys.readouterr().err
