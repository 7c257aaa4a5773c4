"""`python -m model.enhance` with videos: one line for each fault, videos and pictures side by side."""

import json
import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model import Enhancer  # noqa: E402
from model.command_line.run_report import RunReport  # noqa: E402
from model.enhance import main  # noqa: E402
from model.enhancement.many_at_once import Outcome  # noqa: E402
from model.video.cli import VideoJob, enhance_videos  # noqa: E402
from model.video.enhance_video import Report  # noqa: E402
from tests.model.test_enhance import summary_of  # noqa: E402
from tests.videos import files, scene, tone, write  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture


def run(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit status, standard output, lines of standard error of the command."""
    try:
        status = main([*arguments, "--device", "cpu"])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, summary_of(captured.out), captured.err.splitlines()


def test_the_command(capsys):
    write("a.mp4", scene(), codec="libx264", pix_fmt="yuv420p", audio="aac")
    write("b.avi", scene(), codec="ffv1", pix_fmt="bgr0")
    assert run(capsys, "-i", "a.mp4", "-o", "new.mp4", "--smooth") == (0, "8 frames enhanced, in new.mp4\n", [])
    status, out, lines = run(capsys, "-i", "a.mp4", "-o", "new.mp4")
    assert (status, lines) == (1, ["error: new.mp4: exists and was left alone; use --overwrite, or another name"])
    assert run(capsys, "-i", "a.mp4", "b.avi", "-o", "out", "--suffix", "_sci")[0] == 0
    assert sorted(os.listdir("out")) == ["a_sci.mp4", "b_sci.mp4"]
    assert run(capsys, "-i", "a.mp4", "-o", "new.mp4", "--overwrite", "--lossless")[0] == 0


@pytest.mark.parametrize(
    "arguments, status, line",
    [
        ("-i sound.mp4 -o out.mp4", 1, "error: sound.mp4: no video stream that can be decoded (it holds: audio)"),
        ("-i text.mp4 -o out.mp4", 1, "error: text.mp4: not a video, or cut off before its index (Invalid data"),
        ("-i empty.mp4 -o out.mp4", 1, "error: empty.mp4: the file is empty (0 bytes); replace it"),
        ("-i none.mp4 -o out.mp4", 2, "error: none.mp4: no such file or folder, or not readable; check the path"),
        ("-i a.mp4 -o out.gif", 2, "error: out.gif: cannot write this format; use one of .mp4 .m4v .mov .mkv .webm"),
        (
            "-i a.mp4 -o ./a.mp4 --overwrite",
            2,
            "error: a.mp4: is one of the inputs and would be replaced; choose another",
        ),
        (
            "-i a.mp4 -o text.mp4/out.mp4",
            1,
            "error: text.mp4/out.mp4: cannot be written (File exists)",
        ),
        (
            "-i a.mp4 -o /proc/out.mp4",
            1,
            "error: /proc/out.mp4: cannot be written (No such file",
        ),
        ("-i a.mp4 text.mp4 -o out.mp4", 2, "error: out.mp4: is not a folder, and there are 2 files to write; name a"),
        ("-i a.mp4 sub/a.mp4 -o out", 2, "error: a.mp4 and sub/a.mp4 would both be written to out/a.mp4"),
        ("-i a.mp4 p.png -o out.mp4", 2, "error: out.mp4: is not a folder, and there are 2 files to write; name a"),
        (
            "-i sub -o sub --overwrite",
            2,
            "error: sub/a.mp4: is one of the inputs and would be replaced; choose another",
        ),
        ("-i a.mp4 -o out.webm --lossless", 1, "error: out.webm: .webm does not support --lossless; use .mkv"),
        (
            "-i a.mp4 -o out.mp4 --illumination",
            2,
            "error: --illumination, --gallery: are for pictures, and all inputs are",
        ),
        ("-i p.png -o out --smooth", 2, "error: --smooth: is for videos, and no input is one; leave it out"),
        (
            "-i a.mp4 -o out.mp4 --smooth -1",
            2,
            "error: argument --smooth: expected a number of seconds, or 0 to turn it off; got '-1'",
        ),
    ],
)
def test_mistakes_end_in_one_line(capsys, arguments, status, line):
    write("a.mp4", scene(2), codec="libx264", pix_fmt="yuv420p", audio="aac")
    with av.open("sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    Path("text.mp4").write_text("no video")
    Path("empty.mp4").touch()
    Image.new("RGB", (8, 6)).save("p.png")
    os.mkdir("sub")
    shutil.copy("a.mp4", "sub")
    got, out, lines = run(capsys, *arguments.split())
    assert got == status and len(lines) == 1 and lines[0].startswith(line), lines
    assert files() == ["a.mp4", "empty.mp4", "p.png", "sound.mp4", "sub", "text.mp4"] and os.listdir("sub") == ["a.mp4"]


@pytest.fixture
def mixed():
    """A folder of pictures and videos, at two depths."""
    os.makedirs("in/deep")
    Image.new("RGB", (8, 6), (30, 20, 10)).save("in/a.png")
    Image.new("RGB", (8, 6), (30, 20, 10)).save("in/deep/b.jpg")
    write("in/c.mp4", scene(2), codec="libx264", pix_fmt="yuv420p")
    write("in/deep/d.avi", scene(3), codec="ffv1", pix_fmt="bgr0")


def found(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


def test_a_folder_of_pictures_and_videos(capsys, mixed):
    status, out, lines = run(capsys, "-i", "in", "-o", "in/out", "--smooth", "--illumination")
    assert (status, lines) == (0, []) and out.splitlines() == [
        "2 of 2 pictures enhanced, in in/out",
        "2 frames enhanced, in in/out/c.mp4",
        "3 frames enhanced, in in/out/deep/d.mp4",
    ]
    assert found("in/out") == [
        "a.png",
        "a_illumination.png",
        "c.mp4",
        "deep/b.png",
        "deep/b_illumination.png",
        "deep/d.mp4",
    ]
    again, out, lines = run(capsys, "-i", "in", "-o", "in/out", "--overwrite")  # results are not enhanced once more
    assert (again, lines, len(out.splitlines())) == (0, [], 3)


def test_faults_of_both_kinds(capsys, mixed):
    Path("in/deep/d.avi").write_text("no video")
    Path("in/a.png").write_text("no picture")
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out.splitlines() == ["1 of 2 pictures enhanced, in out", "2 frames enhanced, in out/c.mp4"]
    assert [line.split(":")[0].strip() for line in lines] == ["1 failed", "in/a.png", "error"]
    assert lines[2].startswith("error: in/deep/d.avi: not a video")


def test_a_picture_and_a_video_named_one_by_one(capsys, mixed):
    assert run(capsys, "-i", "in/a.png", "in/c.mp4", "-o", "new.v2", "--suffix", "_sci")[0] == 0
    assert found("new.v2") == ["a_sci.png", "c_sci.mp4"]


def test_a_folder_with_one_video(capsys):
    os.mkdir("in")
    write("in/a.mp4", scene(2), codec="libx264", pix_fmt="yuv420p")
    assert run(capsys, "-i", "in", "-o", "b.mp4") == (0, "2 frames enhanced, in b.mp4\n", [])


def test_videos_of_one_folder_with_one_result(capsys, mixed):
    Path("in/deep/d.mpg").touch()
    status, _, lines = run(capsys, "-i", "in", "-o", "out")
    assert (status, lines) == (
        2,
        ["error: in/deep/d.avi and in/deep/d.mpg would both be written to out/deep/d.mp4; run them one by one"],
    )


def test_results_beside_their_videos_are_not_enhanced_again(capsys, mixed):
    for expected in (2, 0):
        status, out, _ = run(capsys, "-i", "in", "-o", "in", "--suffix", "_b", "--skip-existing")
        assert status == 0 and out.count("frames enhanced, in in/") == expected
    assert "2 videos skipped, their results exist" in out


def test_videos_are_not_begun_after_pictures_that_fill_the_disk(capsys, mixed, monkeypatch):
    def full(*arguments, **options):
        return Outcome(0, ["out/a.png: cannot be written"], "out: No space left on device")

    monkeypatch.setattr("model.enhance.enhance_files", full)
    status, _, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and lines[2:] == ["error: out: No space left on device", "2 videos not tried"]


def test_an_interruption_ends_the_run(capsys, mixed, monkeypatch):
    def interrupted(source, result, *arguments, **options):
        return Report(result.with_stem("c.partial"), 1, "interrupted", (), True)

    monkeypatch.setattr("model.video.enhance_video.enhance_video", interrupted)
    status, _, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1
    assert lines == ["error: in/c.mp4: interrupted; 1 frame is in out/c.partial.mp4", "1 video not tried"]


@pytest.fixture
def no_pyav(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("model.video") and name != "model.video.cli"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)


def test_without_pyav_the_extra_is_named(capsys, mixed, no_pyav):
    extra = "videos need PyAV, which is not installed; pip install '.[video]', or av by itself"
    for arguments, source in (
        ("-i in/c.mp4 -o b.mp4", "in/c.mp4"),
        ("-i in in/deep/d.avi -o out", "in/c.mp4"),
        ("-i in -o out --lossless", "in/c.mp4"),
    ):
        assert run(capsys, *arguments.split()) == (2, "", [f"error: {source}: {extra}"])
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert (status, out) == (0, "2 of 2 pictures enhanced, in out\n")
    assert lines == [f"note: 2 videos skipped, in/c.mp4 the first: {extra}"]


def report_of(name: str) -> list[dict]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def enhance_all(args: Namespace, *names: str) -> int:
    """`enhance_videos` of some sources into `out`, with a report in `run.jsonl`."""
    jobs = [VideoJob(Path(name), Path("out") / Path(name).with_suffix(".mkv")) for name in names]
    with RunReport(Path("run.jsonl")) as report:
        return enhance_videos(jobs, Enhancer(device="cpu", denoise=0), torch.device("cpu"), args, report)


ARGS = Namespace(smooth=None, lossless=False, overwrite=False, exposure=None, skip_existing=False)


def test_a_report_has_a_line_for_each_video(capsys):
    frames = [np.full((48, 64, 3), (40, 30, 20), np.uint8)] * 3
    write("a.mkv", frames)
    tone("a.mkv", "b.avi", "adpcm_ms", seconds=0.1)
    write("c.webm", frames, codec="libvpx-vp9", pix_fmt="yuv420p", options={})
    Path("d.webm").write_bytes(Path("c.webm").read_bytes()[:-3])
    Path("e.mp4").write_text("no video")
    assert enhance_all(ARGS, "a.mkv", "b.avi", "d.webm", "e.mp4") == 1
    out, err = capsys.readouterr()
    lines = report_of("run.jsonl")
    assert [line["done"] for line in lines] == ["enhanced", "enhanced", "enhanced", "failed"]
    assert [line["file"] for line in lines] == ["a.mkv", "b.avi", "d.webm", "e.mp4"]
    assert [line["frames"] for line in lines] == [3, 3, 3, None]
    luma = (0.299 * 40 + 0.587 * 30 + 0.114 * 20) / 255
    for line in lines[:3]:
        assert line["brightness_before"] == pytest.approx(luma, abs=0.01) and line["exposure"] is None
        assert line["brightness_after"] > 1.5 * luma and 0 < line["seconds"] < 60
    assert lines[1]["notes"] == ["sound re-encoded from adpcm_ms to AAC"] and lines[1]["error"] is None
    assert lines[2]["error"] == "cut off at its end: at least 3 bytes are missing"
    assert lines[3]["error"].startswith("e.mp4: not a video") and f"error: {lines[3]['error']}" in err
    assert "error: d.webm: cut off at its end: at least 3 bytes are missing; 3 frames are in out/d.mkv" in err


def test_the_mean_exposure_is_reported():
    write("a.mkv", scene(3))
    assert enhance_all(Namespace(**{**vars(ARGS), "exposure": "auto"}), "a.mkv") == 0
    (line,) = report_of("run.jsonl")
    assert line["exposure"] > 0 and line["result"] == "out/a.mkv"


def test_results_that_exist_are_skipped_without_opening_the_source(capsys):
    os.mkdir("out")
    write("a.mkv", scene(2))
    for name in ("b", "c"):
        Path(f"out/{name}.mkv").write_text("a result")
        Path(f"{name}.mp4").write_text("no video")
    args = Namespace(**{**vars(ARGS), "skip_existing": True})
    assert enhance_all(args, "a.mkv", "b.mp4", "c.mp4") == 0
    assert capsys.readouterr() == (
        "2 frames enhanced, in out/a.mkv\n2 videos skipped, their results exist\n",
        "",
    )
    assert [line["done"] for line in report_of("run.jsonl")] == ["enhanced", "skipped", "skipped"]
    assert Path("out/b.mkv").read_text() == "a result"


def test_a_source_is_never_replaced(capsys):
    write("a.mkv", scene(2))
    data = Path("a.mkv").read_bytes()
    os.mkdir("out")
    os.link("a.mkv", "out/a.mkv")
    assert enhance_all(Namespace(**{**vars(ARGS), "overwrite": True}), "a.mkv") == 1
    assert capsys.readouterr().err == "error: out/a.mkv: is the source and would be replaced; choose another name\n"
    assert Path("a.mkv").read_bytes() == data and os.path.samefile("a.mkv", "out/a.mkv")


def test_a_result_that_appears_meanwhile_is_left(capsys, monkeypatch):
    write("a.mkv", scene(2))
    link = os.link

    def appear(source, target):
        Path(target).write_text("another's")
        link(source, target)

    monkeypatch.setattr("model.files.atomic_files.os.link", appear)
    assert enhance_all(ARGS, "a.mkv") == 1
    assert capsys.readouterr().err == (
        "error: out/a.mkv: was created meanwhile and left alone; the result is out/a.partial.mkv\n"
    )
    assert Path("out/a.mkv").read_text() == "another's"


def test_what_is_no_regular_file_is_not_opened(capsys):
    os.mkfifo("a.mkv")
    assert enhance_all(ARGS, "a.mkv") == 1  # opening it would wait for a writer
    assert capsys.readouterr().err == "error: a.mkv: not a file; expected a video\n"
