"""`python -m model.enhance` over long runs: taken up again, reported, killed, streamed."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.enhancement.output_paths import Jobs, Naming
from model.files.find_files import Files
from tests.model.test_enhance import ROOT, files_below, make_picture, run
from tests.model.test_enhance import in_tmp_path as in_tmp_path  # its fixture


def lines_of(report: str) -> list[dict]:
    return [json.loads(line) for line in Path(report).read_text().splitlines()]


def test_skip_existing_goes_on_where_a_run_ended(capsys):
    for name in ("in/a.png", "in/deep/b.png", "in/c.png"):
        make_picture(name)
    assert run(capsys, "-i", "in/a.png", "-o", "out")[0] == 0
    before = os.stat("out/a.png")
    status, out, lines = run(capsys, "-i", "in", "-o", "out", "--skip-existing")
    assert (status, lines) == (0, [])
    assert out == "2 of 3 pictures enhanced, 1 skipped, whose results were there, in out\n"
    assert os.stat("out/a.png") == before and files_below("out") == ["a.png", "c.png", "deep/b.png"]
    status, out, _ = run(capsys, "-i", "in", "-o", "out", "--skip-existing")
    assert status == 0 and out.startswith("0 of 3 pictures enhanced, 3 skipped")


def test_skip_existing_writes_the_maps_that_are_missing(capsys):
    """As where a run was killed between a picture and its map, or did not ask for maps."""
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        make_picture(name)
    assert run(capsys, "-i", "in/a.png", "in/b.png", "-o", "out", "--illumination")[0] == 0
    light = Path("out/a_illumination.png").read_bytes()
    os.remove("out/a_illumination.png")
    os.remove("out/b.png")
    before = os.stat("out/a.png"), os.stat("out/b_illumination.png")
    status, out, lines = run(capsys, "-i", "in", "-o", "out", "--skip-existing", "--illumination")
    assert (status, lines) == (0, []) and out.startswith("3 of 3")
    assert len(files_below("out")) == 6 and Path("out/a_illumination.png").read_bytes() == light
    assert (os.stat("out/a.png"), os.stat("out/b_illumination.png")) == before


def test_skip_existing_takes_no_result_for_a_source(capsys):
    """Where results lie among the pictures."""
    for name in ("in/a.png", "in/b.png"):
        make_picture(name)
    assert run(capsys, "-i", "in", "-o", "in", "--suffix", "_bright")[0] == 0
    make_picture("in/c.png")
    status, out, _ = run(capsys, "-i", "in", "-o", "in", "--suffix", "_bright", "--skip-existing")
    assert status == 0 and out == "1 of 3 pictures enhanced, 2 skipped, whose results were there, in in\n"
    assert files_below("in") == ["a.png", "a_bright.png", "b.png", "b_bright.png", "c.png", "c_bright.png"]


def test_skip_existing_excludes_overwrite(capsys):
    make_picture("a.png")
    status, _, (line,) = run(capsys, "-i", "a.png", "-o", "out", "--skip-existing", "--overwrite")
    assert status == 2 and "not allowed with argument" in line


def test_report(capsys):
    make_picture("in/a.png")
    Image.new("RGB", (9, 9), (110, 105, 112)).save("in/b.png")
    Image.new("RGB", (4, 4), (30, 20, 9)).save(
        "in/c.tif", save_all=True, append_images=[Image.new("RGB", (4, 4), "red")]
    )
    open("in/d.png", "w").close()
    assert run(capsys, "-i", "in", "-o", "out", "--report", "log/run.jsonl")[0] == 1
    a, b, c, d = lines_of("log/run.jsonl")
    assert [line["done"] for line in (a, b, c, d)] == ["enhanced", "left", "enhanced", "failed"]
    assert (a["file"], a["result"], a["error"]) == ("in/a.png", "out/a.png", None)
    luma = float(np.asarray(Image.open("in/b.png")).mean(axis=(0, 1)) @ (0.299, 0.587, 0.114)) / 255
    assert b["brightness_before"] == b["brightness_after"] == pytest.approx(luma, abs=1e-4) and b["exposure"] == 0
    assert 0.3 < a["brightness_after"] < 0.5 and a["exposure"] > 0 and 0 < a["seconds"] < 60
    assert c["notes"] and "2 frames" in c["notes"][0]
    assert d["error"].startswith("in/d.png: the file is empty") and d["brightness_before"] is None
    status, _, (line,) = run(capsys, "-i", "in", "-o", "new", "--report", "log/run.jsonl")
    assert (
        status == 2
        and line.startswith("error: log/run.jsonl: exists and was left alone")
        and not os.path.exists("new/a.png")
    )
    run(capsys, "-i", "in", "-o", "out", "--report", "log/run.jsonl", "--skip-existing")
    assert [line["done"] for line in lines_of("log/run.jsonl")[4:]] == ["skipped", "skipped", "skipped", "failed"]
    run(capsys, "-i", "in", "-o", "out", "--report", "log/run.jsonl", "--overwrite")
    assert len(lines_of("log/run.jsonl")) == 4


def test_a_report_that_cannot_be_written(capsys):
    make_picture("a.png")
    status, _, (line,) = run(capsys, "-i", "a.png", "-o", "out", "--report", "a.png/run.jsonl")
    assert status == 2 and line.startswith("error: a.png/run.jsonl: cannot be written (") and "--report" in line


def test_shards_share_the_files(capsys):
    names = [f"in/{k % 3}/{k}.png" for k in range(24)]
    for name in names:
        make_picture(name)
    done = []
    for k in (1, 2, 3):
        run(capsys, "-i", "in", "-o", f"out{k}", "--shard", f"{k}/3")
        done.append(files_below(f"out{k}"))
    assert sorted(sum(done, [])) == sorted(name[3:] for name in names) and all(done)
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        status, _, (line,) = run(capsys, "-i", "in", "-o", "out", "--shard", wrong)
        assert status == 2 and "expected K/N, K from 1 to N" in line


def test_files_that_come_later_are_not_begun(tmp_path):
    """No name of theirs has been compared."""
    make_picture("in/a.png")
    jobs = Jobs(Files("in", (".png",), "pictures"), Naming(Path("out")))
    make_picture("in/b.png")
    assert len(jobs) == 1 and [job.source.name for job in jobs] == ["a.png"]


def test_a_folder_that_vanishes_ends_the_run(capsys, monkeypatch):
    for name in ("in/a/1.png", "in/b/2.png"):
        make_picture(name)
    scandir, seen = os.scandir, []

    def vanishing(path):
        seen.append(path)
        if len(seen) > 6 and str(path).endswith("b"):
            raise OSError(116, "Stale file handle", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out == "1 of 2 pictures enhanced, in out\n"
    assert lines == [
        "error: in/b: cannot list this folder (Stale file handle); check its permissions; 1 not tried; "
        "run again with --skip-existing"
    ]


def enhance(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "model.enhance", *arguments, "--weights", "w.pt", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.quick(every=2)
def test_killed_at_any_moment(capsys):
    """Every result is whole or absent, and what another run completes has the bytes of an undisturbed one."""
    for k in range(40):
        pixels = np.random.default_rng(k).integers(0, 90, (90, 120 + k, 3), dtype=np.uint8)
        os.makedirs("in", exist_ok=True)
        Image.fromarray(pixels).save(f"in/{k}.png")
    assert enhance("-i", "in", "-o", "whole").wait(120) == 0
    whole = {name: Path("whole", name).read_bytes() for name in files_below("whole")}
    chance = random.Random(0)
    for number in range(int(os.environ.get("SCI_KILLS", "2"))):
        process = enhance("-i", "in", "-o", f"out{number}", "--workers", "4", "--skip-existing")
        for _ in range(600):  # until it has begun to write
            if os.path.isdir(f"out{number}") and any(not name.startswith(".") for name in os.listdir(f"out{number}")):
                break
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        left = {name: Path(f"out{number}", name).read_bytes() for name in files_below(f"out{number}") if name[0] != "."}
        assert all(whole[name] == data for name, data in left.items())
        assert run(capsys, "-i", "in", "-o", f"out{number}", "--skip-existing")[0] == 0
        made = {name: Path(f"out{number}", name).read_bytes() for name in files_below(f"out{number}")}
        assert made == whole  # and nothing else


def test_the_list_of_files_is_not_kept(tmp_path):
    """20,000 more files take no more memory than their hashes and the names of one folder."""
    folder = tmp_path / "in"
    for k in range(20):
        (folder / f"{k:02}").mkdir(parents=True)
        for n in range(1000):
            (folder / f"{k:02}" / f"a_rather_long_name_of_a_photograph_{n:04}.png").touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    jobs = Jobs(Files(folder, (".png",), "pictures"), Naming(tmp_path / "out"))
    assert len(jobs) == sum(1 for _ in jobs) == 20000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 12 << 10  # 24 MB as a list of paths


@pytest.mark.parametrize("how", ["--overwrite", "--skip-existing"])
def test_a_report_never_replaces_nor_lengthens_a_photograph(capsys, how):
    make_picture("in/a.png")
    os.symlink("a.png", "in/link.jsonl")
    before = Path("in/a.png").read_bytes()
    for report in ("in/a.png", "in/../in/a.png", "in/link.jsonl"):
        status, _, (line,) = run(capsys, "-i", "in", "-o", "out", how, "--report", report)
        assert status == 2 and line.startswith(f"error: {Path(report)}: is ") and line.endswith("name for --report")
    assert Path("in/a.png").read_bytes() == before and os.path.islink("in/link.jsonl")


def test_a_report_has_a_name_of_its_own(capsys):
    make_picture("in/a.png")
    status, _, (line,) = run(capsys, "-i", "in", "-o", "out", "--overwrite", "--report", "out/a.png")
    assert status == 2 and line == "error: out/a.png: is the name of a result too; choose another name for --report"
    status, _, (line,) = run(capsys, "-i", "in", "-o", "out", "--gallery", "x.html", "--report", "in/../x.html")
    assert status == 2 and line.startswith("error: in/../x.html: is the name of both --report and --gallery;")
    assert not os.path.exists("x.html")


def test_a_report_on_a_full_disk_ends_no_run(capsys, monkeypatch):
    for k in range(3):
        make_picture(f"in/{k}.png")
    write, calls = os.write, []

    def filling(descriptor, data):
        if not bytes(data).startswith((b'{"file', b'le"')):
            return write(descriptor, data)
        calls.append(data)
        if len(calls) in (3, 4):  # half of the second line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:4]) if len(calls) == 2 else write(descriptor, data)

    monkeypatch.setattr(os, "write", filling)
    status, out, lines = run(capsys, "-i", "in", "-o", "out", "--workers", "1", "--report", "r.jsonl")
    assert status == 1 and out == "3 of 3 pictures enhanced, in out\n"
    assert lines == ["error: r.jsonl: cannot be written (No space left on device); lacks the lines of 2 files"]
    assert [line["file"] for line in lines_of("r.jsonl")] == ["in/0.png"]
