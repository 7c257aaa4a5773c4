"""`torchrun --nproc_per_node=3 -m model.enhance`: each file once, one summary, and what a killed process leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import Enhancer, ImageError, read_image
from model.enhance import _together, main
from model.files.process_shares import Share
from tests.model.test_enhance import ROOT, files_below
from tests.model.test_enhance import in_tmp_path as in_tmp_path  # its fixture


def start(*arguments: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=3",
        "-m",
        "model.enhance",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *arguments, "--device", "cpu"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def photos():
    os.mkdir("in")
    for k in range(40):
        pixels = np.random.default_rng(k).integers(0, 90, (60, 80 + k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"in/{k}.png")


def test_each_file_has_one_share():
    names = [Path(f"deep/{k}.png") for k in range(1000)]
    counts = [sum(Share(k, 7).has(name) for name in names) for k in range(7)]
    assert sum(counts) == 1000 and min(counts) > 100
    assert all(sum(Share(k, 7).has(name) for k in range(7)) == 1 for name in names)


@pytest.mark.xdist_group("torchrun")
def test_three_processes_share_a_folder(photos):
    open("in/broken.png", "w").close()
    process = start("-i", "in", "-o", "in", "--suffix", "_b", "--report", "run.jsonl")
    out, error = process.communicate(timeout=240)
    assert process.returncode == 1
    summaries = [line for line in out.splitlines() if "pictures enhanced" in line]
    assert summaries == ["40 of 41 pictures enhanced, in in"]
    assert error.count("1 failed:") == 1 and error.count("in/broken.png: the file is empty") == 1
    lines = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert sorted(line["file"] for line in lines) == sorted([f"in/{k}.png" for k in range(40)] + ["in/broken.png"])
    assert len(files_below("in")) == 81
    enhancer = Enhancer(device="cpu")
    for name in ("0", "17"):
        expected = enhancer.picture(read_image(f"in/{name}.png")).pixels
        assert np.array_equal(read_image(f"in/{name}_b.png").pixels, expected)


def test_a_mistake_is_said_once(capsys):
    """By process 0, and none of them goes on."""

    class Two:
        def __init__(self, first):
            self.first = first

        def gather(self, value):
            return [value, "another's mistake", "another's mistake"]

    def refuse():
        raise ImageError("mine")

    assert _together(Two(False), lambda: 1) is None and capsys.readouterr().err == ""
    assert _together(Two(True), lambda: 1) is None and capsys.readouterr().err == "error: another's mistake\n"
    assert _together(Two(True), refuse) is None
    assert capsys.readouterr().err == "error: mine\nerror: another's mistake\n"


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_one_of_them_killed(photos):
    process = start("-i", "in", "-o", "out")
    for _ in range(1000):
        if os.path.isdir("out") and any(name[0] != "." for name in os.listdir("out")):
            break
        time.sleep(0.02)
    if os.path.exists(f"/proc/{process.pid}/task"):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if len(children) == 3:
            os.kill(int(children[-1]), signal.SIGKILL)
    process.communicate(timeout=240)
    for name in files_below("out"):
        if not name.startswith("."):
            Image.open(f"out/{name}").load()  # whole
    assert main(["-i", "in", "-o", "out", "--skip-existing", "--device", "cpu"]) == 0
    assert files_below("out") == sorted(f"{k}.png" for k in range(40))
