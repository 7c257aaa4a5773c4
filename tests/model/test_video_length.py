"""Whether a video is whole: what its header promises, what is damaged, and no alarm over files that are whole."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model.video.enhance_frames import enhance_video  # noqa: E402
from model.video.length import missing_bytes  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.videos import brighten, decode, scene, times, tone, write  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture

YUV = {"pix_fmt": "yuv420p", "options": {}}
WHOLE = {
    "a.mp4": {"codec": "libx264", **YUV, "audio": "aac"},
    "a.m4v": {"codec": "mpeg4", **YUV},
    "a.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}, "audio": "pcm_s16le"},
    "a.mkv": {"codec": "libx264", **YUV, "audio": "aac"},
    "a.webm": {"codec": "libvpx-vp9", **YUV, "audio": "libopus"},
    "a.ts": {"codec": "libx264", **YUV, "audio": "aac"},
    "a.m2ts": {"codec": "libx264", **YUV, "audio": "aac"},
    "a.avi": {"codec": "mpeg4", **YUV, "audio": "pcm_s16le"},
    "a.wmv": {"codec": "wmv2", **YUV},
    "a.flv": {"codec": "libx264", **YUV, "audio": "aac"},
    "a.mpg": {"codec": "mpeg2video", **YUV, "audio": "mp2", "time_base": Fraction(1, 25)},
    "a.3gp": {"codec": "mpeg4", **YUV, "audio": "aac"},
}


@pytest.mark.parametrize("source", WHOLE)
def test_whole_files_are_whole(source):
    write(source, scene(20), **WHOLE[source])
    report = enhance_video(source, "b.mkv", brighten)
    assert (report.frames, report.fault) == (20, None) and len(decode("b.mkv")) == 20
    assert missing_bytes(Path(source)) == 0


@pytest.mark.parametrize("source", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
@pytest.mark.parametrize("seconds", [0.3, 2.5])
def test_sound_that_is_shorter_or_longer_is_no_fault(source, seconds):
    """And frames that stand for different times, the last one longest."""
    write("v.mkv", scene(6), pts=[0, 512, 1024, 6400, 7000, 12800], codec="mpeg4", **YUV)
    tone("v.mkv", source, "pcm_s16le" if source in ("a.mov", "a.avi") else "aac", seconds=seconds)
    report = enhance_video(source, "b.mkv", brighten)
    assert (report.frames, report.fault) == (6, None)


def test_a_file_that_was_sent_live_promises_nothing():
    with av.open("a.mkv", "w", options={"live": "1"}) as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for k, pixels in enumerate(scene(10)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert missing_bytes(Path("a.mkv")) == 0 and enhance_video("a.mkv", "b.mkv", brighten).fault is None


PACKETS = {"a.ts": 188, "a.m2ts": 192}


@pytest.mark.parametrize("source", ["a.mkv", "a.webm", "a.avi", "a.wmv", "a.flv", "a.ts", "a.m2ts"])
def test_a_file_that_is_cut_off_is_told(source):
    """At its very end and earlier; what could be read is kept."""
    write(source, scene(20), **WHOLE[source])
    data = Path(source).read_bytes()
    for missing in (3, len(data) // 4 + 1):
        cut = Path(f"cut_{source}")
        cut.write_bytes(data[:-missing])
        least = -cut.stat().st_size % packet if (packet := PACKETS.get(source)) else missing
        assert missing_bytes(cut) == least
        report = enhance_video(cut, "b.mkv", brighten, overwrite=True)
        assert report.fault.startswith("cut off ") and len(report.fault.splitlines()) == 1
        assert 2 < report.frames == len(decode("b.mkv")) <= 20
    assert report.frames < 20 or source == "a.wmv"  # which has an index that long


@pytest.mark.parametrize("last", [1, 5])
def test_frames_that_an_index_promises(last):
    """The index lies at the front of the file, and the sound goes on to its end."""
    noise = np.random.default_rng(0).integers(0, 99, (20, 48, 64, 3), dtype=np.uint8)
    write("v.mkv", list(noise), codec="mjpeg", pix_fmt="yuvj420p", options={})
    with av.open("v.mkv") as one, av.open("a.mov", "w", options={"movflags": "faststart"}) as other:
        stream, sizes = other.add_stream_from_template(one.streams.video[0]), []
        for item in one.demux():
            if item.size:
                sizes.append(item.size)
                item.stream = stream
                other.mux(item)
    data = Path("a.mov").read_bytes()
    Path("cut.mov").write_bytes(data[: -sum(sizes[-last:])])
    report = enhance_video("cut.mov", "b.mp4", brighten)
    assert (report.frames, report.fault) == (20 - last, f"cut off after {20 - last} of 20 frames")
    assert np.allclose(times("b.mp4"), [k / 25 for k in range(20 - last)])


def test_pictures_that_the_decoder_concealed_are_counted():
    noise = np.random.default_rng(0).integers(0, 99, (20, 48, 64, 3), dtype=np.uint8)
    write("a.mkv", list(noise), codec="libx264", pix_fmt="yuv420p", options={"g": "1", "bf": "0"})
    data = bytearray(Path("a.mkv").read_bytes())
    with av.open("a.mkv") as container:
        packets = [bytes(item) for item in container.demux(video=0) if item.size]
    for number in (7, 12):
        at = data.index(packets[number]) + len(packets[number]) // 2
        data[at : at + 60] = b"\xff" * 60
    Path("b.mkv").write_bytes(data)
    report = enhance_video("b.mkv", "c.mkv", brighten)
    assert (report.frames, report.fault) == (
        20,
        "2 frames are damaged in the source and were concealed by its decoder",
    )


PLAIN = {"auto-alt-ref": "0"}  # as VP8 with transparency must be


@pytest.mark.parametrize("source", ["a.mkv", "a.webm"])
def test_a_hole_that_ends_the_reading_is_told(source):
    """Less than half a second is lost, and the file is as long as it says."""
    write(source, scene(20), **WHOLE[source])
    data = bytearray(Path(source).read_bytes())
    at = len(data) // 2
    data[at:] = bytes(len(data) - at)
    Path(f"hole_{source}").write_bytes(data)
    report = enhance_video(f"hole_{source}", "b.mkv", brighten)
    assert 5 < report.frames < 18 and report.frames == len(decode("b.mkv"))
    assert re.search(r"cut off after 0\.[3-7] of 0\.8 seconds", report.fault)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
def test_transparency_that_lies_beside_the_picture_is_said_and_not_promised(codec):
    with av.open("a.webm", "w") as container:
        stream = container.add_stream(codec, rate=25, width=64, height=48, pix_fmt="yuva420p", options=PLAIN)
        stream.metadata["alpha_mode"] = "1"
        for k, pixels in enumerate(scene(3)):
            rgba = np.dstack([pixels, np.full((48, 64), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for result in ("b.webm", "b.mkv"):
        report = enhance_video("a.webm", result, brighten)
        assert (report.frames, report.notes) == (3, ("its transparency is left out",))
        with av.open(result) as container:
            assert not {"alpha_mode", "ALPHA_MODE"} & set(container.streams.video[0].metadata)
    assert enhance_video("b.webm", "c.webm", brighten).notes == ()


def test_what_the_decoders_say_stays_within():
    """Only the lines of the command reach standard error."""
    write("a.mp4", scene(20), codec="libx264", pix_fmt="yuv420p", audio="aac")
    data = bytearray(Path("a.mp4").read_bytes())
    start = data.index(b"mdat") + 900
    data[start : start + 900 : 7] = bytes(len(range(start, start + 900, 7)))
    Path("b.mp4").write_bytes(data)
    command = [sys.executable, "-m", "model.enhance", "-i", "b.mp4", "-o", "c.mp4", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: b.mp4: ") and line.endswith("20 frames are in c.mp4"), line


def test_ogg_has_a_mark_on_its_last_page():
    with av.open("a.ogv", "w", format="ogg") as container:
        sound = container.add_stream("libopus", rate=48000, layout="mono")
        for k in range(120):
            wave = np.sin(np.arange(960) / 9 + k).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="flt", layout="mono")
            frame.sample_rate, frame.pts = 48000, 960 * k
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    data = Path("a.ogv").read_bytes()
    assert missing_bytes(Path("a.ogv")) == 0 and data.count(b"OggS") > 3
    last = data.rindex(b"OggS")
    for end, missing in ((-10, 10), (last, 1), (last + 10, 1)):
        Path("b.ogv").write_bytes(data[:end])
        assert missing_bytes(Path("b.ogv")) == missing
