"""Videos that end early, are damaged or meet a full disk: what could be done is kept and plays."""

import os
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from av.stream import Disposition  # noqa: E402

from model.enhance import main  # noqa: E402
from model.video.enhance_video import VideoError, enhance_video  # noqa: E402
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
from model.video.enhance_video import enhance_video
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


@pytest.mark.parametrize("wild", [0, 7])
def test_one_damaged_time_does_not_delay_the_pictures_after_it(wild):
    write("whole.mkv", scene(20), codec="mpeg4", pix_fmt="yuv420p", options={})
    data = bytearray(Path("whole.mkv").read_bytes())
    with av.open("whole.mkv") as container:
        packet = [bytes(packet) for packet in container.demux() if packet.size][wild]
    at = data.index(packet) - 3  # a time of 16 bits, in milliseconds, and a byte of flags come before it
    assert int.from_bytes(data[at : at + 2], "big") == 40 * wild
    data[at : at + 2] = (40 * wild + 5000).to_bytes(2, "big")
    Path("a.mkv").write_bytes(data)
    assert max(times("a.mkv")) == 5 + wild / 25
    report = enhance_video("a.mkv", "b.mkv", brighten)
    assert (report.frames, report.fault) == (20, None)
    assert np.allclose(times("b.mkv"), [k / 25 for k in range(20)], atol=2e-3)


def test_an_empty_packet_shows_the_picture_before_it_on():
    """As Theora has them, here in NUT, which takes them too: nothing is damaged, and the decoder is not at its end."""
    write("v.mkv", scene(10), codec="mpeg4", pix_fmt="yuv420p", options={})
    with av.open("v.mkv") as one, av.open("a.nut", "w") as other:
        stream = other.add_stream_from_template(one.streams.video[0])
        for number, packet in enumerate(packet for packet in one.demux() if packet.size):
            for part in (packet, av.Packet(0)):
                part.stream, part.time_base = stream, Fraction(1, 1000)
                part.pts = part.dts = 80 * number + 40 * (part is not packet)
                part.duration = 40
                other.mux(part)
    with av.open("a.nut") as container:
        assert [packet.size > 0 for packet in container.demux() if packet.pts is not None] == [True, False] * 10
    report = enhance_video("a.nut", "b.mkv", brighten)
    assert (report.frames, report.fault) == (10, None)
    assert np.allclose(times("b.mkv"), [k / 12.5 for k in range(10)], atol=2e-3)


def test_what_is_no_source_or_no_result():
    write("a.mkv", scene(1))
    for source, result, message in (
        ("none.mp4", "b.mp4", "none.mp4: no such file; expected a video"),
        ("a.mkv", "a.mkv", "a.mkv: is the source and would be replaced; choose another name"),
    ):
        with pytest.raises(VideoError, match=f"^{message}$"):
            enhance_video(source, result, brighten, overwrite=True)
    assert files() == ["a.mkv"]


def test_a_cover_picture_is_no_video():
    """That of music alone is refused; beside a video it is left out, though it is larger."""
    write("v.mp4", scene(6), codec="libx264", pix_fmt="yuv420p", audio="aac")
    write("cover.mkv", scene(1, size=(128, 96)), codec="mjpeg", pix_fmt="yuvj420p", options={})
    for result, kinds in (("music.mp4", "audio"), ("film.mp4", ("video", "audio"))):
        with av.open("v.mp4") as one, av.open("cover.mkv") as two, av.open(result, "w") as other:
            picture = other.add_stream_from_template(two.streams.video[0])
            picture.disposition = Disposition.attached_pic
            streams = {s.index: other.add_stream_from_template(s) for s in one.streams if s.type in kinds}
            packets = [packet for packet in one.demux() if packet.size and packet.stream.index in streams]
            for packet in [*(packet for packet in two.demux() if packet.size), *packets]:
                packet.stream = picture if packet.stream.container is two else streams[packet.stream.index]
                other.mux(packet)
    with pytest.raises(
        VideoError, match=r"^music.mp4: no video .* \(it holds: audio, cover picture\); expected a video$"
    ):
        enhance_video("music.mp4", "b.mp4", brighten)
    report = enhance_video("film.mp4", "b.mp4", brighten)
    assert (report.frames, report.fault, report.notes) == (6, None, ("streams left out: 2 (video)",))
    assert decode("b.mp4")[0].width == 64


def test_one_frame_is_said_as_one(capsys):
    write("a.mkv", scene(1))
    assert main(["-i", "a.mkv", "-o", "b.mkv", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "1 frame enhanced, in b.mkv\n"
