"""What exposing costs: compared before it is timed, and beside its bounds."""

import json

import pytest
import torch

import sci_kernels
from bench.networks import exposure_cost
from bench.report import call_tables


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(exposure_cost, "LARGE", (30, 40))


def test_rows_and_lines(tmp_path, capsys):
    file = tmp_path / "exposing.json"
    exposure_cost.main(["--device", "cpu", "--size", "40x24", "--repeats", "1", "--json", str(file)])
    content = json.loads(file.read_text())
    rows = {row["call"]: row for row in content["rows"]}
    assert list(rows) == ["division", "exposure", "with gain", "denoise", "bilateralFilter", "finding"]
    assert rows["exposure"]["must"] == pytest.approx(1.25 * rows["division"]["ms"]["median"])
    assert all(rows[name]["error"] <= 1.0 for name in ("division", "exposure", "with gain", "denoise"))
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert call_tables.exposing_table(content["rows"]).count("\n") == 7


def test_what_differs_is_not_timed(monkeypatch):
    exact = sci_kernels.denoise

    def wrong(image, gain, strength=1.0, impl="auto"):
        result = exact(image, gain, strength, impl=impl)
        return result if impl == "reference" else (result.int() + 3).clamp(0, 255).to(torch.uint8)

    monkeypatch.setattr(sci_kernels, "denoise", wrong)
    rows = {row["call"]: row for row in exposure_cost.measure(24, 40, "cpu", 1)}
    assert rows["denoise"]["status"].startswith("not measured: differs by ") and not exposure_cost.kept(rows["denoise"])


def test_a_missed_bound_is_told():
    row = {"call": "exposure", "width": 8, "height": 8, "status": "ok", "must": 1.0}
    row["ms"] = {"median": 2.0, "p20": 2.0, "p80": 2.0}
    assert not exposure_cost.kept(row) and "MISSED" in exposure_cost.text_of(row)
    assert "**missed:** " in call_tables.exposing_table([row])
