"""Several pictures in work at a time: the same files, told in the same order, and no more of them than agreed."""

import errno
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import Enhancer, find_images
from model.enhancement import many_at_once
from model.enhancement.many_at_once import Done, Outcome, enhance_files, run_jobs
from model.enhancement.output_paths import Job, plan_jobs
from model.images.readers.choose_reader import pixel_count, read_image


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """in/0.jpg to in/8.jpg, of 30 pixels width and more."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("in")
    for k in range(9):
        pixels = np.random.default_rng(k).integers(0, 90, (20, 30 + k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"in/{k}.jpg")


def plan(name: str, **options) -> list[Job]:
    return plan_jobs(find_images("in"), Path(name), **options)


class Meter:
    """Work that fails unless `expected` jobs are in work at the start, and notes how many are at most."""

    def __init__(self, expected: int):
        self.lock, self.start, self.begun = threading.Lock(), threading.Barrier(expected), 0
        self.now, self.most, self.threads = 0, 0, set()

    def __call__(self, job: Job) -> Done:
        with self.lock:
            self.begun, self.now = self.begun + 1, self.now + 1
            self.most = max(self.most, self.now)
            self.threads.add(torch.get_num_threads())
            first = self.begun <= self.start.parties
        if first:
            self.start.wait(20)
        with self.lock:
            self.now -= 1
        return Done()


@pytest.mark.parametrize("workers", [2, 4])
def test_the_files_of_one_by_one(photos, workers):
    Image.new("RGB", (9, 9), (110, 105, 112)).save("in/4.jpg")
    enhancer = Enhancer(device="cpu")
    one = enhance_files(plan("one", ext="jpg", illumination=True), enhancer, workers=1)
    several = enhance_files(plan("several", ext="jpg", illumination=True), enhancer, workers=workers)
    assert one == several == Outcome(9, [], left=1)
    assert sorted(os.listdir("one")) == sorted(os.listdir("several")) and len(os.listdir("one")) == 18
    for name in os.listdir("one"):
        with open(f"one/{name}", "rb") as a, open(f"several/{name}", "rb") as b:
            assert a.read() == b.read(), name


def test_failures_and_notes_keep_the_order_of_the_pictures(photos, capsys):
    for name in ("in/1.jpg", "in/5.jpg", "in/8.jpg"):
        open(name, "wb").close()
    Image.new("RGB", (9, 9), (110, 105, 112)).save("in/2.jpg")
    outcome = enhance_files(plan("out"), Enhancer(device="cpu"), workers=3)
    assert outcome.done == 6 and outcome.stopped is None
    assert [line.split(":")[0] for line in outcome.failures] == ["in/1.jpg", "in/5.jpg", "in/8.jpg"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"in/{k}.jpg" for k in (0, 2, 3, 4, 6, 7)]
    assert lines[1] == "in/2.jpg: brightness 0.42, left as it was" and outcome.left == 1
    assert ", exposure " in lines[0]


@pytest.mark.parametrize("workers, most, threads", [(1, 1, 4), (2, 2, 2), (3, 3, 1), (None, 4, 1)])
def test_workers_share_the_threads_of_pytorch(photos, workers, most, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        meter = Meter(most)
        assert run_jobs(plan("out"), meter, workers) == Outcome(9, [])
        assert (meter.most, meter.threads) == (most, {threads})
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_large_pictures_are_worked_on_alone(photos, monkeypatch):
    """Room for two of 600 pixels and more; one is always in work."""
    for room, most in ((1500, 2), (1, 1)):
        monkeypatch.setattr(many_at_once, "free_memory", lambda device, room=room: room * 2 * many_at_once._PIXEL_BYTES)
        meter = Meter(most)
        assert run_jobs(plan("out"), meter, 4) == Outcome(9, []) and meter.most == most


def test_a_full_disk_ends_the_run_of_several(photos):
    calls = []

    def work(job):
        calls.append(job)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return Done()

    outcome = run_jobs(plan("out"), work, 2)
    left = 9 - outcome.done - len(outcome.failures)
    assert outcome.done == 2 and len(calls) == 9 - left and left >= 4
    assert outcome.stopped == f"out: No space left on device; {left} not tried; make room and run again"


def test_threads_leave_the_filters_of_warnings_as_they_were(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # each picture has more: Pillow would warn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)

        def work(job):
            for _ in range(5):
                read_image(job.source)
            return Done()

        assert run_jobs(plan("out"), work, 3) == Outcome(9, [])
        assert warnings.filters == before


def test_pixels_by_the_header(photos):
    assert pixel_count("in/3.jpg") == 660 and pixel_count("none.jpg") == 0
    with open("in/3.jpg", "wb") as file:
        file.write(b"no picture")
    assert pixel_count("in/3.jpg") == 0


def test_progress_is_in_pictures_a_second(photos, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    run_jobs(plan("out"), lambda job: Done(), 2)
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert "9/9 [" in last and "pictures/s]" in last
