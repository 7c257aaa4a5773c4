"""Measures of pictures whose values are known by hand, and the command that makes a table of them."""

import csv
import errno
import math
import os
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from train.evaluate import metrics
from train.evaluate.__main__ import main, to_csv


def constant(value, size=(16, 16)):
    return np.full((*size, 3), value, dtype=np.uint8)


def noise(seed=0, size=(24, 20)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def grays(plane):
    return np.repeat(np.asarray(plane, dtype=np.uint8)[..., None], 3, axis=2)


def test_psnr():
    assert metrics.psnr(constant(110), constant(100)) == pytest.approx(20 * math.log10(25.5))
    assert metrics.psnr(noise(), noise()) == math.inf


def test_ssim():
    assert metrics.ssim(noise(), noise()) == pytest.approx(1)
    # Of constant pictures only the means are left.
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 50 + c1) / (100**2 + 50**2 + c1)
    assert metrics.ssim(constant(50), constant(100)) == pytest.approx(expected)


def test_ssim_in_one_window():
    """The formula, written out for the one pixel of an 11x11 picture that is no border."""
    x, y = noise(1, (11, 11)).astype(float), noise(2, (11, 11)).astype(float)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = (np.outer(line, line) / line.sum() ** 2)[..., None]
    mx, my = (window * x).sum((0, 1)), (window * y).sum((0, 1))
    sxx, syy, sxy = (
        (window * a * b).sum((0, 1)) - m for a, b, m in ((x, x, mx * mx), (y, y, my * my), (x, y, mx * my))
    )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = ((2 * mx * my + c1) * (2 * sxy + c2) / ((mx**2 + my**2 + c1) * (sxx + syy + c2))).mean()
    assert metrics.ssim(x.astype(np.uint8), y.astype(np.uint8)) == pytest.approx(expected, rel=1e-6)


def test_discrete_entropy():
    assert metrics.discrete_entropy(grays([[0, 80], [160, 255]])) == pytest.approx(2)
    assert metrics.discrete_entropy(grays([[9, 9], [9, 200]])) == pytest.approx(2 - 0.75 * math.log2(3))
    assert metrics.discrete_entropy(constant(7)) == 0 and math.copysign(1, metrics.discrete_entropy(constant(7))) == 1
    colors = np.array([[[255, 0, 0], [76, 76, 76]]], dtype=np.uint8)  # 0.299 * 255 = 76.2: one gray level
    assert metrics.discrete_entropy(colors) == 0
    assert metrics.discrete_entropy(grays(np.arange(256).reshape(16, 16))) == pytest.approx(8)


def test_eme():
    plane = np.full((19, 16), 100)
    plane[3, 3], plane[2, 9], plane[8, 0] = 50, 200, 0  # a half, a double, and a block with a black pixel
    plane[17, 5] = 1  # in the rows that are left over
    assert metrics.eme(grays(plane)) == pytest.approx((20 * math.log(2) + 20 * math.log(2) + 0 + 0) / 4)
    with pytest.raises(ValueError, match="8 pixels or more"):
        metrics.eme(constant(1, (7, 20)))


def test_loe():
    dark, bright = grays([[10, 20, 30]]), grays([[100, 200, 250]])
    assert metrics.loe(bright, dark) == 0
    # 10 and 20 change places: for either of them, the order to the other is wrong.
    assert metrics.loe(grays([[200, 100, 250]]), dark) == pytest.approx(2 / 3)
    # Two that become one: only a >= b of the smaller changes.
    assert metrics.loe(grays([[100, 100, 250]]), dark) == pytest.approx(1 / 3)
    lightness = np.array([[[0, 0, 10], [20, 0, 0], [0, 30, 5]]], dtype=np.uint8)  # the largest channel
    assert metrics.loe(bright, lightness) == 0


def test_loe_of_a_reduced_picture():
    before, after = noise(3, (120, 101)), noise(4, (120, 101))
    assert metrics.loe((before / 2).astype(np.uint8), before) > 0  # values that become equal
    assert metrics.loe(grays(255 - before.max(axis=2) // 2), before // 2 + 100) > 0
    curve = np.sort(np.random.default_rng(5).choice(256, 128, replace=False)).astype(np.uint8)
    assert metrics.loe(curve[before // 2], before // 2) == 0  # any tone curve that keeps the order
    rows, columns = ((np.arange(n) + 0.5) * side / n for n, side in ((59, 120), (50, 101)))
    picks = np.ix_(rows.astype(int), columns.astype(int))
    a, b = (picture.max(axis=2)[picks].ravel() for picture in (before, after))
    wrong = sum(np.count_nonzero((a[k] >= a) != (b[k] >= b)) for k in range(len(a)))
    assert metrics.loe(after, before) == pytest.approx(wrong / len(a))


@pytest.fixture
def folders(tmp_path):
    for seed, name in enumerate(("a", "sub/b")):
        for offset, (folder, extension) in enumerate((("pred", "png"), ("truth", "bmp"), ("input", "png"))):
            path = tmp_path / folder / f"{name}.{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(10 * seed + offset)).save(path)
    return tmp_path


@pytest.fixture
def command(folders, capsys):
    def run(*arguments):
        status = main(["--pred", str(folders / "pred"), *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run


def test_the_table_and_the_csv(command, folders):
    options = ("--truth", folders / "truth", "--input", folders / "input", "--csv", folders / "all.csv")
    status, lines, errors = command(*options)
    assert status == 0 and not errors
    rows = list(csv.DictReader((folders / "all.csv").open()))
    assert [row["name"] for row in rows] == ["a.png", "sub/b.png"]
    assert list(rows[0]) == ["name", "PSNR", "SSIM", "DE", "EME", "LOE"]
    pictures = noise(0), noise(1), noise(2)
    assert float(rows[0]["PSNR"]) == metrics.psnr(pictures[0], pictures[1])
    assert float(rows[0]["SSIM"]) == metrics.ssim(pictures[0], pictures[1])
    assert float(rows[0]["LOE"]) == metrics.loe(pictures[0], pictures[2])
    assert lines[0].split() == list(rows[0])[1:] and len(lines) == 4
    means = [sum(float(row[name]) for row in rows) / 2 for name in list(rows[0])[1:]]
    assert lines[-1].split() == ["mean", *(f"{mean:.4f}" for mean in means)]


def test_a_csv_replaces_nothing_that_is_not_one(command, folders):
    path, photograph = folders / "all.csv", folders / "pred" / "a.png"
    assert command("--csv", path)[0] == 0
    first = path.read_bytes()
    for arguments in ((), ("--truth", folders / "truth")):
        status, lines, errors = command("--csv", path, *arguments)
        assert status == 1 and not lines and len(errors) == 1
        assert "exists and was left alone; use --overwrite" in errors[0]
    assert path.read_bytes() == first
    assert command("--csv", path, "--truth", folders / "truth", "--overwrite")[0] == 0 and path.read_bytes() != first
    pixels = photograph.read_bytes()
    for arguments in ((folders / "pred",), (photograph,), (photograph, "--overwrite")):
        status, lines, errors = command("--csv", *arguments)
        assert status == 1 and not lines and "is no table of an evaluation and was left alone" in errors[0]
    assert photograph.read_bytes() == pixels


def test_without_partners(command):
    status, lines, _ = command()
    assert status == 0 and lines[0].split() == ["DE", "EME"]


def test_sixteen_bits_are_read_as_eight(command, folders):
    plane = noise(5)[..., 0]
    for name, values in (("x.png", plane), ("y.png", plane.astype(np.uint16) * 257)):
        Image.fromarray(values).save(folders / "pred" / name)
    _, lines, _ = command()
    assert lines[3].split()[1:] == lines[4].split()[1:]


def test_more_truth_than_pictures_is_noted(command, folders):
    Image.fromarray(noise()).save(folders / "truth" / "c.png")
    status, _, errors = command("--truth", folders / "truth")
    assert status == 0 and len(errors) == 1 and "1 of the 3 pictures" in errors[0]


def spoil(folders, what):
    if what == "no partner":
        (folders / "truth" / "sub" / "b.bmp").unlink()
    elif what == "another size":
        Image.fromarray(noise(0, (20, 24))).save(folders / "truth" / "sub" / "b.bmp")
    elif what == "two of a name":
        Image.fromarray(noise()).save(folders / "truth" / "a.png")
    elif what == "too small":
        for folder, extension in (("pred", "png"), ("truth", "bmp"), ("input", "png")):
            Image.fromarray(noise(0, (10, 30))).save(folders / folder / "sub" / f"b.{extension}")
    elif what == "damaged":
        (folders / "pred" / "sub" / "b.png").write_bytes(b"no picture")
    elif what == "no folder":
        (folders / "truth").rename(folders / "elsewhere")


@pytest.mark.parametrize(
    "what, named",
    [
        ("no partner", ("pred/sub/b.png", "--truth")),
        ("another size", ("pred/sub/b.png", "truth/sub/b.bmp", "20x24", "24x20")),
        ("two of a name", ("truth/a.png", "truth/a.bmp")),
        ("too small", ("pred/sub/b.png", "11 pixels", "10x30")),
        ("damaged", ("pred/sub/b.png",)),
        ("no folder", ("--truth", "truth")),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(command, folders, what, named):
    spoil(folders, what)
    status, lines, errors = command("--truth", folders / "truth", "--csv", folders / "all.csv")
    assert status == 1 and not lines and len(errors) == 1 and errors[0].startswith("evaluate: error: ")
    assert all(name in errors[0] for name in named), errors[0]
    assert not list(folders.glob("*.csv")) and not list(folders.glob(".*"))


def test_libraries_that_are_missing(command, folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    status, _, errors = command("--niqe")
    assert status == 1 and len(errors) == 1 and "--niqe: needs pyiqa" in errors[0] and "[niqe]" in errors[0]
    monkeypatch.setitem(sys.modules, "skimage", None)
    status, _, errors = command("--truth", folders / "truth")
    assert status == 1 and len(errors) == 1 and "scikit-image" in errors[0]
    status, _, errors = command("--csv", folders / "nowhere" / "all.csv")
    assert status == 1 and len(errors) == 1 and "--csv" in errors[0]


def test_niqe_is_asked_for_as_pyiqa_documents(command, monkeypatch):
    """A stand-in for the library, which is too large to be installed for this."""

    def create_metric(name, device):
        assert name == "niqe" and device.type == "cpu"
        return lambda tensor: tensor.mean()[None] if tensor.shape == (1, 3, 24, 20) and tensor.max() <= 1 else None

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create_metric))
    status, lines, _ = command("--niqe")
    assert status == 0 and lines[0].split()[-1] == "NIQE"
    assert float(lines[1].split()[-1]) == pytest.approx(noise(0).mean() / 255, abs=1e-4)
    broken = types.SimpleNamespace(create_metric=lambda *_, **__: lambda tensor: torch.tensor(float("nan")))
    monkeypatch.setitem(sys.modules, "pyiqa", broken)
    status, _, errors = command("--niqe")
    assert status == 1 and len(errors) == 1 and "a.png: expected a picture of several blocks" in errors[0]


def test_a_pipe_among_the_pictures_is_refused_unopened(command, folders):
    os.mkfifo(folders / "pred" / "c.png")
    status, _, errors = command()
    assert status == 1 and errors == [
        f"evaluate: error: {folders}/pred/c.png: not a regular file (a pipe); expected a picture"
    ]


def test_a_csv_that_cannot_be_written(command, folders, monkeypatch):
    """The numbers are shown all the same."""

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    _, lines, (error,) = command("--csv", folders / "all.csv")
    assert len(lines) == 4 and f"--csv: {folders}/all.csv: cannot be written (No space left" in error


def test_infinite_psnr_in_the_csv():
    assert to_csv({"a,b.png": {"PSNR": math.inf, "DE": 0.1}}) == 'name,PSNR,DE\n"a,b.png",inf,0.1\n'


def test_pictures_are_enhanced_where_none_are_given(tmp_path, capsys):
    for folder in ("dark", "bright"):
        (tmp_path / folder).mkdir()
    Image.fromarray(noise(size=(24, 24)) // 8).save(tmp_path / "dark" / "a.png")
    Image.fromarray(noise(size=(24, 24))).save(tmp_path / "bright" / "a.png")
    command = ["--input", str(tmp_path / "dark"), "--truth", str(tmp_path / "bright")]
    scores = {}
    for way in ("auto", "published"):
        assert main([*command, "--exposure", way, "--csv", str(tmp_path / f"{way}.csv")]) == 0
        with open(tmp_path / f"{way}.csv", newline="") as file:
            scores[way] = float(next(csv.DictReader(file))["PSNR"])
    assert scores["auto"] > scores["published"] + 1
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--truth", str(tmp_path / "bright")])
    assert "expected --pred, or --input to be enhanced" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--pred", str(tmp_path / "dark"), "--exposure", "3"])
    assert "enhance --input; with --pred leave them out" in capsys.readouterr().err
