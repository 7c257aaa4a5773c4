"""The demonstration from end to end with tiny settings, its photographs, and what it does with its folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import demo, low_light_photos
from model import FinetuneNetwork, Network, load_weights

SMALL = demo.Settings(steps=3, crop=32, photographs=2, max_side=80, timed_size=(24, 30), timed_steps=1)


pytestmark = pytest.mark.xdist_group("demo")  # which is run once


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small demo: its folder and what it returned."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, demo.run(out, settings=SMALL)


def test_everything_is_there(finished):
    out, _ = finished
    names = ["astronaut.png", "chelsea.png"]
    for folder in ("photographs", "enhanced"):
        assert sorted(path.name for path in (out / folder).iterdir()) == names
    page = (out / "index.html").read_text("utf-8")
    assert page.count("<figure>") == 2 and all(name in page for name in names)
    assert "<canvas" in (out / "enhance.html").read_text("utf-8")
    with Image.open(out / "contact_sheet.png") as sheet:
        sheet.load()
    load_weights(Network(stage=3), out / "run" / "weights.safetensors")
    load_weights(FinetuneNetwork(), out / "run" / "weights.safetensors")
    dark, light = (Image.open(out / folder / names[0]) for folder in ("photographs", "enhanced"))
    assert np.asarray(light).mean() > np.asarray(dark).mean()


def test_numbers_it_reports(finished):
    out, results = finished
    assert max(results["parity_float64"].values()) < 1e-10
    assert max(results["parity_float32"].values()) < 1e-5
    assert results["step_seconds"] > 0 and results["reference_step_seconds"] > 0
    assert results["first_loss_difference"] < 1e-5
    saved = json.loads((out / demo.MARKER).read_text())
    assert saved["parity_float64"] == results["parity_float64"] and saved["torch"]


def test_last_lines_say_where_everything_lies(tmp_path, capsys):
    data = tmp_path / "mine"
    low_light_photos.write_photographs(data, count=1, max_side=64)
    out = tmp_path / "out"
    demo.run(out, data, SMALL)
    text = capsys.readouterr().out
    assert "relative error" in text and "times faster" in text
    places = dict(line.split(None, 1) for line in text.strip().splitlines()[-7:-1] if "contact" not in line)
    assert Path(places["photographs"]) == data
    assert Path(places["weights"]).is_file() and Path(places["enhanced"]).is_dir()
    assert places["page"].startswith(str(out / "index.html"))
    assert places["browser"].startswith(f"{out / 'enhance.html'}, a page that enhances pictures; ")
    assert not (out / "photographs").exists()


def test_earlier_results_are_kept(tmp_path):
    (tmp_path / demo.MARKER).write_text("{}")
    (tmp_path / "index.html").write_text("first")
    for number in (1, 2):
        demo.claim(tmp_path, None)
        assert sorted(path.name for path in tmp_path.iterdir())[-number:] == [f"earlier-{n + 1}" for n in range(number)]
        assert (tmp_path / demo.MARKER).is_file() and not (tmp_path / "index.html").exists()
    assert (tmp_path / "earlier-1" / "index.html").read_text() == "first"


def test_a_folder_with_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert demo.main(["--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "thesis.txt" in error and "--out" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("case", ["missing", "empty", "tiny", "out inside data", "data inside out", "out is a file"])
def test_mistakes_end_in_one_line(tmp_path, capsys, case):
    data, out = tmp_path / "data", tmp_path / "out"
    if case != "missing":
        low_light_photos.write_photographs(
            data, count=0 if case == "empty" else 1, max_side=20 if case == "tiny" else 64
        )
    if case == "out inside data":
        out = data / "out"
    if case == "data inside out":
        out = tmp_path
    if case == "out is a file":
        out.write_text("mine")
    assert demo.main(["--out", str(out), "--data", str(data)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("demo: error: ")
    assert str(out if case == "out is a file" else data) in error
    assert not (out / demo.MARKER).exists() if out.is_dir() else True


def test_photographs_are_dark_and_always_the_same(tmp_path):
    first = low_light_photos.write_photographs(tmp_path / "a", count=2, max_side=64)
    again = low_light_photos.write_photographs(tmp_path / "b", count=2, max_side=64)
    other = low_light_photos.write_photographs(tmp_path / "c", count=2, max_side=64, seed=3)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(first, other, strict=True))
    for path in first:
        with Image.open(path) as image:
            assert image.mode == "RGB" and max(image.size) == 64 and 5 < np.asarray(image).mean() < 64


def test_illumination_is_smooth_and_spans_its_range():
    light = low_light_photos.illumination_map(60, 90, np.random.default_rng(0))
    assert light.min() == pytest.approx(low_light_photos.LOW) and light.max() == pytest.approx(low_light_photos.HIGH)
    assert np.abs(np.diff(np.log(light), axis=0)).max() < 0.2 and np.abs(np.diff(np.log(light), axis=1)).max() < 0.2


def test_darkening_follows_the_formula():
    gray = np.full((200, 200, 3), 128, np.uint8)
    light = (128 / 255) ** low_light_photos.GAMMA * low_light_photos.illumination_map(
        200, 200, np.random.default_rng(2)
    )
    linear = (low_light_photos.darken(gray, np.random.default_rng(2)) / 255.0) ** low_light_photos.GAMMA
    assert linear.mean() == pytest.approx(light.mean(), rel=0.02)
    # Channels of gray differ by noise alone: photons, and the sensor.
    variance = light.mean() / low_light_photos.FULL_WELL + low_light_photos.READ_NOISE**2
    assert (linear[..., 0] - linear[..., 1]).var() == pytest.approx(2 * variance, rel=0.2)
    assert low_light_photos.darken(0 * gray, np.random.default_rng(2)).std() > 1
