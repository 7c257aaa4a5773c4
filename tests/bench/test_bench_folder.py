"""`python -m bench enhance --folder`: the command's files are those of one by one, then two rates and their ratio."""

import json

import numpy as np
import pytest
from PIL import Image

from bench.compare import cli, folder_throughput
from bench.low_light_photos import write_jpegs
from model import Enhancer


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(folder_throughput, "SIZE", (48, 32))


def run(tmp_path, text, expected=0) -> list[dict]:
    """The rows of the command's JSON."""
    file = tmp_path / "rows.json"
    arguments = ["enhance", "--folder", *text.split(), "--device", "cpu", "--repeats", "1", "--json", str(file)]
    assert cli.main(arguments) == expected
    content = json.loads(file.read_text())
    assert content["complete"] is (expected != 2)
    return content["rows"]


def test_a_row_of_each_format(tmp_path, capsys):
    rows = run(tmp_path, "3")
    assert [(row["part"], row["must"]) for row in rows] == [("png", 0.95), ("jpg", None)]
    for row in rows:
        assert (row["op"], row["provider"], row["status"]) == ("folder", "ours", "ok")
        assert (row["pictures"], row["width"], row["height"], row["made"]) == (3, 48, 32, True)
        assert row["share"] == row["pictures_per_s"]["median"] / row["coding_per_s"]["median"] > 0
    assert "3 JPEGs to png, 48x32: " in capsys.readouterr().out


def test_both_write_the_same_files(tmp_path):
    case = folder_throughput._Case(write_jpegs(tmp_path / "in", 2, (48, 32)), tmp_path, "png", "cpu")
    assert case.differing() is None
    case.coding()
    for name in ("000.png", "001.png"):
        assert (tmp_path / "png-coding" / name).read_bytes() == (tmp_path / "png-command" / name).read_bytes()


def test_what_differs_is_not_timed(tmp_path, monkeypatch):
    picture, seen = Enhancer.picture, []

    def once_different(self, image, illumination=False, bits=8):
        seen.append(1)
        found = picture(self, image, illumination)
        return found if len(seen) > 1 else found._replace(pixels=255 - found.pixels)

    monkeypatch.setattr(Enhancer, "picture", once_different)
    rows = run(tmp_path, "1", expected=1)
    assert rows[0]["status"] == "not timed: 000.png differs from the picture enhanced by itself"
    assert "share" not in rows[0] and rows[1]["status"] == "ok"


def test_a_folder_that_is_there(tmp_path):
    pictures = tmp_path / "in"
    pictures.mkdir()
    Image.fromarray(np.full((20, 30, 3), 40, np.uint8)).save(pictures / "a.jpg")
    Image.new("RGB", (9, 9)).save(pictures / "b.png")
    assert {(row["pictures"], row["width"], row["made"]) for row in run(tmp_path, str(pictures))} == {(1, 30, False)}
    checked = run(tmp_path, f"{pictures} --check")
    assert [row["status"] for row in checked] == ["agrees with the pictures enhanced one by one"] * 2
    assert run(tmp_path, "2 --seconds 0")[1]["status"] == "not measured: the time given by --seconds is up"


def test_a_folder_without_jpegs_is_one_line(tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    run(tmp_path, str(tmp_path), expected=2)
    assert capsys.readouterr().err == f"--folder: {tmp_path}: no JPEGs in this folder or below it\n"
    with pytest.raises(SystemExit):
        cli.main(["enhance", "--folder", "none"])
