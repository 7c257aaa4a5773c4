"""`python -m model.enhance --gallery`: the pictures of this run, with illumination and exposure."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from model.enhance import main
from model.gallery import cli
from tests.model.test_enhance import summary_of
from tests.model.test_gallery import decode, read


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("in")
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Camera <1>"
    taken = exif.get_ifd(ExifTags.IFD.Exif)
    taken[ExifTags.Base.ExposureTime], taken[ExifTags.Base.FNumber] = 1 / 15, 1.85
    taken[ExifTags.Base.ISOSpeedRatings], taken[ExifTags.Base.DateTimeOriginal] = 3200, "2024:01:05 21:30:12"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (12.0, 34.0, 56.0)
    for number, name in enumerate(("a.jpg", "b.png", "c.png")):
        pixels = np.random.default_rng(number).integers(0, 99, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"in/{name}", **({"exif": exif} if name == "a.jpg" else {}))


def run(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    status = main(["-i", "in", "-o", "out", "--device", "cpu", *arguments])
    captured = capsys.readouterr()
    return status, summary_of(captured.out), captured.err.splitlines()


def test_page_of_a_run(capsys):
    status, out, lines = run(capsys, "--gallery", "page/index.html", "--published")
    assert (status, lines) == (0, [])
    assert out == "3 of 3 pictures enhanced, in out\n3 of them side by side in page/index.html\n"
    page = read(Path("page/index.html"))
    assert [image["class"] for image in page.find("img")] == ["after", "light", "before"] * 3
    assert "Camera <1>, 1/15 s, f/1.9, ISO 3200, 2024-01-05 21:30" in page.text and "56" not in page.text
    assert "Weights default.safetensors, sci-kernels" in page.text
    after, light, before = (np.asarray(decode(image["src"]), float) / 255 for image in page.find("img")[:3])
    assert light.mean() > before.mean() and np.abs(after * light - before).mean() < 0.02  # R L = image
    assert sorted(os.listdir("out")) == ["a.png", "b.png", "c.png"]


def test_exposure_is_shown(capsys):
    Image.new("RGB", (30, 20), (140, 150, 160)).save("in/c.png")
    assert run(capsys, "--gallery", "index.html")[0] == 0
    text = read(Path("index.html")).text
    assert text.count("mean brightness 19 % to 40 %, exposure ") == 2 and "mean brightness 58 %, left as it was" in text


def test_only_what_was_done_is_shown(capsys, monkeypatch):
    with open("in/b.png", "wb") as file:
        file.write(b"no picture")
    os.makedirs("out")
    Image.new("RGB", (60, 40)).save("out/c.png")
    monkeypatch.setattr(cli, "LIMIT", 1)
    status, out, lines = run(capsys, "--gallery", "index.html", "--illumination")
    assert status == 1 and out.endswith("1 of them side by side in index.html\n") and len(lines) == 3
    assert os.path.exists("out/a_illumination.png")


def test_results_of_sixteen_bits(capsys):
    status, out, lines = run(capsys, "--gallery", "index.html", "--bits", "16")
    assert (status, lines) == (0, []) and out.endswith("3 of them side by side in index.html\n")
    assert [image["class"] for image in read(Path("index.html")).find("img")] == ["after", "light", "before"] * 3


def test_mistakes(capsys):
    assert run(capsys, "--gallery", "in/a.jpg")[2] == [
        "error: in/a.jpg: expected a name that ends in .html for --gallery"
    ]
    open("old.html", "w").close()
    status, _, lines = run(capsys, "--gallery", "old.html")
    assert status == 2 and lines[0].startswith("error: old.html: exists and was left alone; use --overwrite")
    assert not os.path.exists("out")
    status, out, lines = run(capsys, "--gallery", "old.html/page.html")
    assert (
        status == 1 and out.startswith("3 of 3") and lines[0].startswith("error: old.html/page.html: cannot be written")
    )


def test_a_page_never_replaces_a_photograph(capsys):
    photograph = Path("in/a.jpg").read_bytes()
    Path("in/b.html").write_bytes(photograph)
    status, _, lines = run(capsys, "--gallery", "in/b.html", "--overwrite")
    assert status == 2 and lines == [
        "error: in/b.html: is not an HTML page and was left alone; use another name for --gallery"
    ]
    assert Path("in/b.html").read_bytes() == photograph
