"""docs/quality.md: the page as it is, and the command on a few tiny scenes."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import low_light_photos
from bench.quality import cli, drawn_scenes, page, scenes
from bench.quality.methods import BARE, DEFAULT, PUBLISHED, all_methods, measure, without_network
from model import Enhancer
from tests.conftest import ROOT

DOCS = ROOT / "docs"
SECTIONS = (
    *("In numbers", "What the network contributes, and what it does not", "Photographs, darkened"),
    *("Scenes of lamps and windows", "Left as they are", "Where it fails", "Dark by nature", "A page in dark mode"),
    *("A dark subject in a bright picture", "Noise", "Colors that fade", "What to do", "Where the pictures come from"),
)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(monkeypatch, one_thread):
    """Three photographs and the drawn scenes, small."""
    monkeypatch.setattr(scenes, "SIDE", 48)
    monkeypatch.setattr(scenes, "ORDINARY", ("astronaut", "coffee", "chelsea"))
    monkeypatch.setattr(cli, "MEANS", (0.05, 0.10))
    for name in ("street", "backlit", "snow", "moon", "screenshot"):
        bright = name in ("snow", "screenshot")
        scene = np.random.default_rng(1).integers(150 if bright else 0, 255 if bright else 60, (32, 48, 3), np.uint8)
        monkeypatch.setattr(drawn_scenes, name, lambda scene=scene, **_: scene)
    scenes.photograph.cache_clear()
    yield
    scenes.photograph.cache_clear()


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every table; raises where a row has another number of them than its head."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert len({len(row) for row in rows}) == 1 and set(rows[1]) == {"---"}
        found.append([rows[0], *rows[2:]])
    return found


def check(text: str, pictures: set[str], photographs: int) -> None:
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)
    assert set(re.findall(r"!\[.+?\]\(pictures/(.+?)\.jpg\)", text)) == pictures - {"before-after"}
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.+?)\)", text)) <= anchors
    assert "nan" not in text and "{" not in text
    found = tables(text)
    assert len(found) == 1 + photographs + 2 + 3
    means = {row[0]: row for row in found[0][1:]}
    numbers = {way: float(re.search(r"[\d.]+", row[1])[0]) for way, row in means.items()}
    assert set(numbers) == set(all_methods()) and numbers[DEFAULT] > numbers[PUBLISHED]


def test_the_page_in_the_repository():
    text = (DOCS / "quality.md").read_text("utf-8")
    pictures = {path.stem for path in (DOCS / "pictures").glob("*.jpg")}
    check(text, pictures, len(scenes.ORDINARY))
    assert sum(path.stat().st_size for path in (DOCS / "pictures").iterdir()) < 3e6
    for link in re.findall(r"\]\((\.\./.+?)\)", text):
        assert (DOCS / link).exists()


def test_the_command_on_tiny_scenes(tiny, tmp_path, capsys):
    for folder in ("a", "b"):
        assert cli.main(["--out", str(tmp_path / folder)]) == 0
        assert "done in" in capsys.readouterr().out
    files = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    assert files == {path.relative_to(tmp_path / "b"): path.read_bytes() for path in (tmp_path / "b").rglob("*.*")}
    pictures = {path.stem for path in files if path.suffix == ".jpg"}
    assert {"astronaut", "street", "unchanged", "noise", "before-after"} <= pictures
    check(files[Path("quality.md")].decode(), pictures, 3)
    with Image.open(io.BytesIO(files[Path("pictures/before-after.jpg")])) as first:
        assert first.size == (1600, 796)


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_photographs_are_darkened_to_their_mean_and_stay_gray():
    dark = scenes.darkened("camera", 0.10)
    assert dark.mean() / 255 == pytest.approx(0.10, abs=0.005) and not scenes.colored(dark)
    assert np.array_equal(dark, scenes.darkened("camera", 0.10))


def test_without_a_network_nothing_is_learned(one_thread):
    dark = scenes.darkened("chelsea", 0.10)
    result = without_network(dark)
    assert result.mean() > 2 * dark.mean()
    assert np.abs(result.astype(int) - Enhancer(device="cpu")(dark)).mean() < 12
    bright = scenes.photograph("chelsea")
    assert np.array_equal(without_network(bright), bright)


def test_measures_without_a_truth():
    dark = np.full((32, 32, 3), 40, np.uint8)
    dark[:8] = 255
    one = measure(np.full_like(dark, 254), dark)
    assert np.isnan(one.psnr) and one.clipped == pytest.approx(75)


def test_means_leave_out_what_there_is_not():
    gray, colored = (np.full((16, 16, 3), value, np.uint8) for value in ((90, 90, 90), (90, 60, 30)))
    pairs = [
        page.Pair("x", 0.1, 1.0, {BARE: measure(picture // 2, picture // 3, picture)}) for picture in (gray, colored)
    ]
    assert page.means(pairs, [BARE])[BARE].color == pytest.approx(0.5)


def test_drawn_scenes_are_the_same_every_time_and_of_one_shape():
    for function in (drawn_scenes.snow, drawn_scenes.moon, drawn_scenes.screenshot):
        scene = function.__wrapped__()
        assert scene.shape == (drawn_scenes.HEIGHT, drawn_scenes.WIDTH, 3) and scene.dtype == np.uint8
    assert np.array_equal(scene, drawn_scenes.screenshot()) and np.array_equal(
        drawn_scenes.moon(), drawn_scenes.moon.__wrapped__()
    )


def test_darken_to_a_mean_scales_the_light():
    photo = scenes.photograph("chelsea")
    plain, brought = (low_light_photos.darken(photo, np.random.default_rng(3), mean) for mean in (None, 0.30))
    assert brought.mean() / 255 == pytest.approx(0.30, abs=0.01)
    bright = plain > 60  # where noise is small
    ratio = (brought[bright] / plain[bright].astype(float)) ** low_light_photos.GAMMA
    assert ratio.std() < 0.1 * ratio.mean()
