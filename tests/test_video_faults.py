"""Videos that end early, are damaged or meet a full disk: what could be done is kept and plays."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model.video import VideoError, enhance_video  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.videos import audio_packets, brighten, decode, files, scene, times, write  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture


def test_two_sizes_in_one_stream():
    for name, size in (("one.ts", (64, 48)), ("two.ts", (96, 64))):
        write(name, scene(10, size=size), codec="libx264", pix_fmt="yuv420p")
    Path("a.ts").write_bytes(Path("one.ts").read_bytes() + Path("two.ts").read_bytes())
    report = enhance_video("a.ts", "b.mp4", brighten)
    assert report.fault == "its size changes from 64x48 to 96x64" and len(decode("b.mp4")) == report.frames >= 8


@pytest.mark.parametrize("extension, audio", [(".mp4", "aac"), (".webm", "libopus")])
def test_an_interrupted_run_leaves_a_playable_file(extension, audio):
    write("a.mkv", scene(20), audio=audio, codec="libx264", pix_fmt="yuv420p")
    Path(f"b.partial{extension}").write_text("of an earlier run")

    def interrupt(done, total):
        if done == 12:
            os.kill(os.getpid(), signal.SIGINT if Path("first").exists() else signal.SIGTERM)

    for name in (f"b.partial-2{extension}", f"b.partial-3{extension}"):
        report = enhance_video("a.mkv", f"b{extension}", brighten, progress=interrupt)
        assert report[:5] == (Path(name), 12, "interrupted", (), True)
        assert len(decode(name)) == 12 and np.allclose(times(name), times("a.mkv")[:12], atol=1e-3)
        assert audio_packets(name)
        Path("first").touch()
    assert not Path(f"b{extension}").exists() and Path(f"b.partial{extension}").read_text() == "of an earlier run"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("result, least", [("b.mp4", 10), ("b.mkv", 10), ("b.webm", 45)])
def test_what_is_on_the_disk_can_be_played_at_any_moment(result, least):
    """A copy taken in the middle is what a killed process would leave: at most the last seconds are missing."""
    write("a.mkv", scene(80, size=(32, 32)), rate=5, codec="libx264", pix_fmt="yuv420p")  # a key frame in ten

    def copy(done, total):
        if done == 75:
            Path(f"copy_{result}").write_bytes(Path(result).with_stem("b.partial").read_bytes())

    enhance_video("a.mkv", result, brighten, progress=copy)
    assert least <= len(decode(f"copy_{result}")) < 75
    assert len(decode(result)) == 80


KILLED = """
import os, signal
from model.video import enhance_video
def kill(done, total):
    if done == 100:
        os.kill(os.getpid(), signal.SIGKILL)
enhance_video("a.mkv", "b.webm", lambda image: 2 * image, progress=kill)
"""


def test_a_killed_run_leaves_a_playable_webm():
    """All but the last second, and the frames that the encoder looks ahead."""
    write("a.mkv", scene(120, size=(32, 32)), audio="libopus", codec="libx264", pix_fmt="yuv420p")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL and files() == ["a.mkv", "b.partial.webm"]
    assert 40 <= len(decode("b.partial.webm")) <= 100 and len(audio_packets("b.partial.webm")) > 50


def test_a_full_disk_keeps_what_fits():
    rng = np.random.default_rng(0)
    write("a.mkv", [rng.integers(0, 99, (48, 64, 3), dtype=np.uint8) for _ in range(70)], codec="ffv1", pix_fmt="bgr0")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(done, total):
        if done == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))

    try:
        with pytest.raises(VideoError) as caught:
            enhance_video("a.mkv", "b.mkv", brighten, lossless=True, progress=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == (
        "b.mkv: cannot be written (File too large); what was written so far is in b.partial.mkv"
    )
    assert files() == ["a.mkv", "b.partial.mkv"] and decode("b.partial.mkv")


def test_an_error_of_the_computation_keeps_what_was_done():
    write("a.mkv", scene())
    calls = []

    def failing(image):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("out of memory")
        return brighten(image)

    with pytest.raises(VideoError, match=r"b.mkv: stopped \(out of memory\); what .* is in b.partial.mkv"):
        enhance_video("a.mkv", "b.mkv", failing)
    assert len(decode("b.partial.mkv")) == 4


def test_a_video_cut_off_in_the_middle():
    noise = np.random.default_rng(0).integers(0, 99, (40, 48, 64, 3), dtype=np.uint8)
    write("whole.mkv", list(noise))
    data = Path("whole.mkv").read_bytes()
    Path("a.mkv").write_bytes(data[: len(data) // 2])
    report = enhance_video("a.mkv", "b.mkv", brighten)
    assert report.fault.startswith("cut off after 0.") and report.fault.endswith("of 1.6 seconds")
    assert 10 <= report.frames < 30 and report.frames == len(decode("b.mkv")) and report.result == Path("b.mkv")


def test_damaged_packets_are_left_out():
    noise = np.random.default_rng(0).integers(0, 99, (8, 48, 64, 3), dtype=np.uint8)
    write("whole.mov", list(noise), codec="png", options={})
    data = bytearray(Path("whole.mov").read_bytes())
    header = data.index(b"IHDR", len(data) // 2)
    data[header : header + 12] = bytes(12)
    Path("a.mov").write_bytes(data)
    report = enhance_video("a.mov", "b.mkv", brighten)
    assert (report.frames, report.fault) == (7, "damaged packets, left out: 1")
    assert len(set(times("whole.mov")) - set(times("b.mkv"))) == 1  # the others stay at their times


def test_what_is_no_source_or_no_result():
    write("a.mkv", scene(1))
    for source, result, message in (
        ("none.mp4", "b.mp4", "none.mp4: no such file; expected a video"),
        ("a.mkv", "a.mkv", "a.mkv: is the source and would be replaced; choose another name"),
    ):
        with pytest.raises(VideoError, match=f"^{message}$"):
            enhance_video(source, result, brighten, overwrite=True)
    assert files() == ["a.mkv"]
