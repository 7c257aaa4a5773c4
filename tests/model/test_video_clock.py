"""The clock of a result: it starts at 0 and goes on, whatever the source's does."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model.video.clock import Clock  # noqa: E402
from model.video.enhance_frames import enhance_video  # noqa: E402
from model.video.reader import VideoReader  # noqa: E402
from tests.videos import audio_packets, brighten, moved, scene, times, write  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture

TS = {"codec": "libx264", "pix_fmt": "yuv420p", "audio": "aac"}


@pytest.mark.parametrize("start", [26000, (2**33 - 3 * 90000) / 90000, (2**33 - 300 * 90000) / 90000])
@pytest.mark.parametrize("result", ["b.mp4", "b.mkv"])
def test_a_transport_stream_starts_at_0(start, result):
    """At 26,000 seconds; 3 seconds before its clock of 33 bits wraps around; 300 seconds before."""
    write("a.ts", scene(20), **TS)
    moved("a.ts", "b.ts", start)
    report = enhance_video("b.ts", result, brighten)
    assert (report.frames, report.fault, report.notes) == (20, None, ())
    lead = times("a.ts")[0] - audio_packets("a.ts")[0][1]  # of the sound
    assert 0 < lead < 0.05 and audio_packets(result)[0][1] == 0
    assert np.allclose(times(result), [lead + k / 25 for k in range(20)], atol=2e-3)
    with av.open(result) as container:
        assert container.start_time < 1000 and container.duration < 1_000_000


@pytest.mark.parametrize("result", ["b.mp4", "b.mkv"])
def test_a_clock_that_wraps_around_within_the_video(result):
    write("a.ts", scene(50), **TS)
    moved("a.ts", "b.ts", (2**33 - 90000) / 90000)
    report = enhance_video("b.ts", result, brighten)
    assert (report.frames, report.fault) == (50, None)
    assert np.allclose(np.diff(times(result)), 1 / 25, atol=2e-3)


@pytest.mark.parametrize("order", ["aa", "ab", "ba", "aba"])
def test_a_clock_that_begins_anew_goes_on(order):
    """Recordings one after another in one file: every frame, evenly; sound and picture keep to each other."""
    write("a.ts", scene(20), **TS)
    moved("a.ts", "b.ts", 26000)
    with open("c.ts", "wb") as file:
        for name in order:
            with open(f"{name}.ts", "rb") as part:
                file.write(part.read())
    report = enhance_video("c.ts", "c.mp4", brighten)
    count = len(order)
    jumps = "once" if count == 2 else "2 times"
    assert (report.frames, report.fault) == (20 * count, None)
    assert report.notes == (f"its clock jumps {jumps}, which was evened out",)
    steps = np.diff(times("c.mp4"))
    assert np.isclose(steps, 1 / 25, atol=1e-3).sum() >= len(steps) - count + 1
    assert steps.min() > 0.039 and steps.max() < 0.09  # less than a frame more, where the sound was longer
    sound = audio_packets("c.mp4")
    one = audio_packets("a.ts")
    assert count * len(one) - 3 * count < len(sound) <= count * len(one)
    last = [time for data, time in sound if data == one[-1][0][7:]][-1]  # without its header in the stream
    expected = one[-1][1] - times("a.ts")[-1]  # how long the sound goes on after the last frame
    assert last - times("c.mp4")[-1] == pytest.approx(expected, abs=2e-3)


def test_times_given_to_the_smoothing_go_on():
    write("a.ts", scene(10), **TS)
    with open("a.ts", "rb") as one, open("c.ts", "wb") as file:
        file.write(2 * one.read())
    with VideoReader(Path("c.ts")) as reader:
        seen = [item.time for item in reader.items() if isinstance(item, av.VideoFrame)]
    steps = np.diff(seen)
    assert seen[0] == 0 and len(seen) == 20 and steps.min() > 0.039 and steps.max() < 0.09


@pytest.mark.parametrize("source, codec", [("a.mkv", "libx264"), ("a.mov", "mpeg4"), ("a.mp4", "libx264")])
def test_offsets_of_other_formats(source, codec):
    """Both start at 5 seconds: at 0. The picture 2 seconds after the sound: it stays there."""
    for pts, start in (([64000 + 512 * k for k in range(6)], 0), ([25600 + 512 * k for k in range(6)], 2)):
        write(source, scene(6), codec=codec, pix_fmt="yuv420p", pts=pts, audio="aac" if start else None, options={})
        report = enhance_video(source, "b.mkv", brighten, overwrite=True)
        assert (report.frames, report.fault) == (6, None)
        assert np.allclose(times("b.mkv"), [start + k / 25 for k in range(6)], atol=0.03)


@pytest.mark.parametrize("result", ["c.mp4", "c.mkv", "c.webm"])
def test_what_an_edit_list_cuts_out_stays_out(result):
    write("a.mp4", scene(25), **TS)
    moved("a.mp4", "b.mp4", -0.4)
    report = enhance_video("b.mp4", result, brighten)
    assert (report.frames, report.fault) == (15, None)
    shown, sound = times(result), audio_packets(result)
    assert np.allclose(np.diff(shown), 0.04, atol=2e-3) and abs(shown[0]) < 0.03
    assert -0.001 <= shown[0] - sound[0][1] < 0.03 and sound[-1][1] == pytest.approx(0.62, abs=0.03)


def test_a_long_pause_of_other_formats_is_kept():
    pts = [0, 512, 1024, 768000, 768512]  # a minute
    write("a.mkv", scene(5), pts=pts)
    assert enhance_video("a.mkv", "b.mkv", brighten).notes == ()
    assert times("b.mkv") == [0, 0.04, 0.08, 60, 60.04]


def packet(kind: str, time: float, duration: float = 0.04) -> SimpleNamespace:
    tick = Fraction(1, 1000)
    stream = SimpleNamespace(index=["video", "audio"].index(kind), type=kind)
    ticks = round(time * 1000)
    return SimpleNamespace(stream=stream, pts=ticks, dts=ticks, time_base=tick, duration=round(duration * 1000))


@pytest.mark.parametrize(
    "given, expected, jumps",
    [
        ([("video", 0), ("video", 0.04), ("video", 3)], [0, 40, 3000], 0),  # a short gap is one
        ([("video", 0), ("video", 0.04), ("video", 30)], [0, 40, 80], 1),
        ([("video", 9), ("video", 9.04), ("video", 2)], [9000, 9040, 9080], 1),
        ([("video", 0), ("audio", 0), ("video", 30), ("audio", 0.04), ("audio", 30.04)], [0, 0, 40, 40, 80], 1),
        ([("video", 0), ("video", 500), ("video", 0.08), ("video", 0.12)], [0, 40, 80, 120], 1),  # one damaged time
        ([("video", 0), ("audio", 0), ("audio", 0.04), ("video", 30), ("audio", 29.96)], [0, 0, 40, 40, None], 1),
    ],
)
def test_jumps(given, expected, jumps):
    clock = Clock([], "mpegts")
    packets = [packet(*one) for one in given]
    moved = [item.dts if clock.move(item) else None for item in packets]
    assert (moved, clock.jumps) == (expected, jumps)
    assert Clock([], "matroska,webm").move(packets[-1]) and clock.start == 0
