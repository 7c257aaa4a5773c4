"""`python -m model.enhance` when files are broken, a disk or the memory is full, or it is interrupted."""

import errno
import os
import signal
import subprocess
import sys
import threading

from model import Enhancer
from model.enhance import main
from tests.conftest import ROOT
from tests.model.test_enhance import files_below, make_picture, run
from tests.model.test_enhance import in_tmp_path as in_tmp_path  # its fixture


def test_bad_files_do_not_keep_the_others_from_being_done(capsys):
    make_picture("in/good1.png")
    make_picture("in/good2.png")
    with open(make_picture("in/cut.png", (64, 64)), "rb+") as file:
        file.truncate(900)
    open("in/empty.jpg", "w").close()
    with open("in/text.png", "w") as file:
        file.write("no picture")
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out == "2 of 5 pictures enhanced, in out\n"
    assert [line.split(":")[0].strip() for line in lines] == ["3 failed", "in/cut.png", "in/empty.jpg", "in/text.png"]
    assert files_below("out") == ["good1.png", "good2.png"]


def test_a_name_of_two_lines_is_told_in_one(capsys):
    make_picture("in/a\nb\x1b[1m.png")
    open("in/c\nd.png", "w").close()
    assert main(["-i", "in", "-o", "out", "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("in/a\\nb\\x1b[1m.png: brightness")
    assert said.err.splitlines()[1].startswith("  in/c\\nd.png: the file is empty")
    assert files_below("out") == ["a\nb\x1b[1m.png"]


def test_a_full_disk_stops_the_run_and_leaves_whole_files(capsys, monkeypatch):
    for k in range(4):
        make_picture(f"in/{k}.png")
    synced, fsync = [], os.fsync

    def filling(descriptor):
        synced.append(descriptor)
        if len(synced) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    status, out, lines = run(capsys, "-i", "in", "-o", "out", "--workers", "1")
    assert status == 1 and out == "1 of 4 pictures enhanced, in out\n"
    assert lines == [
        "1 failed:",
        "  out/1.png: cannot be written (No space left on device)",
        "error: out: No space left on device; 2 not tried; make room and run again",
    ]
    assert files_below("out") == ["0.png"] and len(synced) == 2


def test_a_folder_in_the_way_fails_one_picture(capsys):
    make_picture("in/a.png")
    make_picture("in/deep/b.png")
    os.makedirs("out")
    open("out/deep", "w").close()
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out.startswith("1 of 2") and "out/deep: cannot be written" in lines[1]


def test_a_name_too_long_is_named_itself(capsys):
    """Not the file beside it that is written first."""
    name = "x" * 240
    make_picture(f"in/{name}.png")
    status, _, lines = run(capsys, "-i", "in", "-o", "out", "--suffix", "_enhanced_big")
    assert status == 1 and f"out/{name}_enhanced_big.png: cannot be written (File name too long)" in lines[1]


def test_a_picture_as_the_folder_for_pictures_is_refused(capsys):
    make_picture("in/a.png")
    status, _, (line,) = run(capsys, "-i", "in/a.png", "-o", "bright.png")
    assert status == 2 and line.startswith("error: bright.png: expected a folder") and not os.path.exists("bright.png")


def test_a_tiff_without_a_picture_is_called_so(capsys):
    os.mkdir("in")
    with open("in/a.tif", "wb") as file:
        file.write(b"II*\0" + bytes(60))
    status, _, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and "in/a.tif: truncated or damaged (a TIFF without a picture); replace it" in lines[1]


def test_running_out_of_memory_fails_one_picture(capsys, monkeypatch):
    make_picture("in/a.png")
    make_picture("in/b.png", (9, 9))

    picture = Enhancer.picture

    def greedy(self, image, illumination, bits):
        if image.pixels.shape[1] == 9:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory:\nyou tried to allocate 9 bytes"
            )
        return picture(self, image, illumination, bits)

    monkeypatch.setattr(Enhancer, "picture", greedy)
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out.startswith("1 of 2")
    assert lines[1].startswith("  in/b.png: not enough memory to enhance it; use a smaller --tile, scale")


def test_interrupted(capsys, monkeypatch):
    """The picture in work is completed, those after it are not begun."""
    for k in range(3):
        make_picture(f"in/{'x' * k}a.png", (8 + k, 6))
    picture, seen = Enhancer.picture, threading.Event()

    def handle(number, frame):
        seen.set()
        raise KeyboardInterrupt

    def slow(self, image, illumination, bits):
        if image.pixels.shape[1] == 9:
            os.kill(os.getpid(), signal.SIGINT)
            assert seen.wait(20)
        return picture(self, image, illumination, bits)

    monkeypatch.setattr(Enhancer, "picture", slow)
    before = signal.signal(signal.SIGINT, handle)
    try:
        status, out, lines = run(capsys, "-i", "in", "-o", "out", "--workers", "1")
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 1 and out.startswith("2 of 3") and lines == ["error: interrupted; 1 picture not tried"]


def test_a_folder_with_a_name_too_long_is_one_line(capsys):
    make_picture("in/a.png")
    for name in ("y" * 300, "y" * 300 + ".png"):
        status, _, (line,) = run(capsys, "-i", "in", "-o", name)
        assert status == 2 and line.startswith(f"error: {name}: ")


def test_a_link_in_a_circle_fails_alone(capsys):
    make_picture("in/a.png")
    os.symlink("loop.png", "in/loop.png")
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out == "1 of 2 pictures enhanced, in out\n"
    assert lines == ["1 failed:", "  in/loop.png: no such file, or not readable; expected a picture"]


def test_interrupted_before_any_work_is_one_line(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("model.enhance._plan", interrupted)
    assert run(capsys, "-i", "in", "-o", "out") == (1, "", ["error: interrupted; what was done by then is whole"])


def test_what_libjpeg_prints_is_no_line_of_this_program():
    make_picture("in/a.png", (65501, 1))
    code = "import sys; from model.enhance import main; sys.exit(main())"
    arguments = ["-i", "in", "-o", "out", "-n", "w.pt", "--device", "cpu", "--ext", "jpg"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "1 failed:",
        "  out/a.jpg: JPEG cannot hold this picture (broken data stream when writing image file); use .png",
    ]
