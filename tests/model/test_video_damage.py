"""What is missing in the middle of a video is counted and told; whole videos with gaps and pauses are not called so."""

import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model.video.damage import broken_fragment, is_broken  # noqa: E402
from model.video.enhance_frames import enhance_video  # noqa: E402
from model.video.gaps import Gaps  # noqa: E402
from model.video.length import promised_packets  # noqa: E402
from tests.videos import brighten, decode, moved, scene, write  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture

NOISE = [
    np.clip(pixels + np.random.default_rng(number).integers(0, 40, pixels.shape), 0, 255).astype(np.uint8)
    for number, pixels in enumerate(scene(50))
]
H264 = {"codec": "libx264", "pix_fmt": "yuv420p", "audio": "aac", "bit_rate": 1_500_000}
MPEG2 = {**H264, "codec": "mpeg2video", "audio": "mp2", "time_base": Fraction(1, 25)}
PID = 0x100  # of the picture, as FFmpeg numbers it


def picture_packets(data: bytes) -> list[int]:
    """Where the packets of MPEG-TS with pictures are, but for the last fifth of the file."""
    return [
        at for at in range(0, len(data) * 4 // 5, 188) if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == PID
    ]


def packets_dropped(data: bytes) -> bytes:
    places = picture_packets(data)
    gone = places[len(places) // 2 :][:40]
    return b"".join(data[at : at + 188] for at in range(0, len(data), 188) if at not in gone)


def start_overwritten(data: bytes) -> bytes:
    (place,) = [at for at in picture_packets(data) if at > len(data) // 2 and data[at + 1] & 0x40][:1]
    return data[: place + 4] + b"\x55" * 184 + data[place + 188 :]


def zeros(data: bytes, size: int = 20000) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(size) + data[middle + size :]


@pytest.mark.parametrize("damage", [packets_dropped, start_overwritten, zeros])
@pytest.mark.parametrize("options", [{"g": "10"}, {"bf": "0"}])
def test_pictures_lost_of_a_transport_stream_are_counted(damage, options):
    write("a.ts", NOISE, **H264, options=options)
    Path("b.ts").write_bytes(damage(Path("a.ts").read_bytes()))
    whole, report = enhance_video("a.ts", "a.mkv", brighten), enhance_video("b.ts", "b.mkv", brighten)
    assert (whole.frames, whole.fault) == (50, None)
    missing = 50 - report.frames
    assert 0 < missing < 20 and report.frames == len(decode("b.mkv"))
    said = "1 frame is missing" if missing == 1 else f"{missing} frames are missing"
    assert report.fault.split("; ")[0] == f"{said} in the source"


def test_pictures_lost_of_a_program_stream_are_counted():
    write("a.mpg", NOISE, **MPEG2, options={"g": "10"})
    Path("b.mpg").write_bytes(zeros(Path("a.mpg").read_bytes(), 6000))
    whole, report = enhance_video("a.mpg", "a.mkv", brighten), enhance_video("b.mpg", "b.mkv", brighten)
    assert (whole.frames, whole.fault) == (50, None)
    missing = 50 - report.frames
    said = "1 frame is missing" if missing == 1 else f"{missing} frames are missing"
    assert 0 < missing < 10 and report.fault.split("; ")[0] == f"{said} in the source"
    assert not is_broken(Path("a.mpg"), "mpeg", 0) and is_broken(Path("b.mpg"), "mpeg", 0)


@pytest.mark.parametrize("pts", [[0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16], [0, 2, 3, 7, 8, 9, 14, 16]])
@pytest.mark.parametrize("source, settings", [("a.ts", H264), ("a.m2ts", H264), ("a.mpg", MPEG2)])
def test_a_whole_stream_with_a_pause_misses_nothing(source, settings, pts):
    ticks = [512 * number for number in pts]
    write(source, NOISE[: len(pts)], **settings, pts=ticks, options={})
    report = enhance_video(source, "b.mkv", brighten)
    assert (report.frames, report.fault) == (len(pts), None)


@pytest.mark.parametrize("later, missing", [(0.0, 0), (0.8, 0), (1.6, 20), (20.0, 0)])
def test_streams_one_after_another(later, missing):
    """Begun anew, continued, continued after a piece that is lost, and with another clock."""
    write("a.ts", scene(20), codec="libx264", pix_fmt="yuv420p")
    moved("a.ts", "b.ts", later)
    Path("c.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    report = enhance_video("c.ts", "c.mkv", brighten)
    assert report.frames == 40
    assert report.fault == (f"{missing} frames are missing in the source" if missing else None)


@pytest.mark.parametrize("first, count, broken", [(0, 188, True), (4, 184, True), (100, 88, False)])
def test_transport_packets_that_are_overwritten(first, count, broken):
    """With its mark, with how a picture begins, and within the picture, which its decoder has to see."""
    write("a.ts", NOISE[:20], **H264, options={})
    data = Path("a.ts").read_bytes()
    at = first + next(at for at in picture_packets(data) if at > len(data) // 2 and data[at + 1] & 0x40)
    Path("b.ts").write_bytes(data[:at] + b"\x55" * count + data[at + count :])
    assert not is_broken(Path("a.ts"), "mpegts", PID)
    assert is_broken(Path("b.ts"), "mpegts", PID) == broken


@pytest.mark.parametrize("begin, end", [(0, None), (8, 200)])
def test_a_fragment_that_is_lost_is_told(begin, end):
    write("v.mp4", NOISE, **H264, options={"g": "10"})
    with av.open("v.mp4") as one, av.open("a.mp4", "w", options={"movflags": "frag_keyframe+empty_moov"}) as other:
        streams = [other.add_stream_from_template(stream) for stream in one.streams]
        for packet in one.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                other.mux(packet)
    data = bytearray(Path("a.mp4").read_bytes())
    at, after = (data.index(b"moof", len(data) // 3 * k) - 4 for k in (1, 2))
    report = enhance_video("a.mp4", "a.mkv", brighten)
    assert (report.frames, report.fault, broken_fragment(Path("a.mp4"))) == (50, None, 0)
    end = after if end is None else at + end
    data[at + begin : end] = bytes(end - at - begin)
    Path("b.mp4").write_bytes(data)
    report = enhance_video("b.mp4", "b.mkv", brighten)
    assert report.frames < 45 and broken_fragment(Path("b.mp4")) == at
    assert report.fault == f"damaged at byte {at}, where frames or sound are missing"


def test_what_follows_an_mp4_file_is_none_of_its_fragments():
    write("a.mp4", NOISE[:10], **H264, options={})
    for rest in (bytes(5000), os.urandom(5000), (16).to_bytes(4, "big") + b"ssix" + bytes(8)):
        Path("b.mp4").write_bytes(Path("a.mp4").read_bytes() + rest)
        assert broken_fragment(Path("b.mp4")) == 0


@pytest.mark.parametrize("place, missing", [(0.5, 2), (0.7, 3)])
def test_pictures_that_the_index_of_an_avi_lists_are_counted(place, missing):
    settings = {**H264, "codec": "mpeg4", "audio": None, "options": {"g": "10"}}
    write("a.avi", NOISE, **settings)
    data = bytearray(Path("a.avi").read_bytes())
    whole = enhance_video("a.avi", "a.mkv", brighten)
    assert (whole.frames, whole.fault) == (50, None)
    at = round(len(data) * place)
    data[at : at + 3000] = bytes(3000)
    Path("b.avi").write_bytes(data)
    report = enhance_video("b.avi", "b.mkv", brighten)
    assert report.frames == 50 - missing
    assert report.fault.split("; ")[0] == f"{missing} frames are missing in the source"


def test_an_avi_may_list_pictures_of_no_size():
    """They show the one before on, and are no packets."""
    stream = SimpleNamespace(index_entries=[SimpleNamespace(size=size) for size in (900, 0, 80, 0, 0, 70)])
    assert promised_packets(stream, "avi") == 3


def gaps(steps: list[float], **events: list[float]) -> Gaps:
    found, time = Gaps(), 0.0
    for step in [0.0, *steps]:
        time += step
        found.add(time, 0.04)
    for kind, times in events.items():
        for at in times:
            getattr(found, kind)(at)
    return found


@pytest.mark.parametrize(
    "steps, events, known, unknown",
    [
        ([0.04] * 9 + [0.16] + [0.04] * 9, {}, 0, 3),
        ([0.04] * 9 + [0.16] + [0.04] * 9, {"harmed": [0.3]}, 3, 3),
        ([0.04] * 9 + [0.16] + [0.04] * 9, {"harmed": [0.3], "jumped": [0.36]}, 0, 0),
        ([0.04] * 90 + [0.16] + [0.04] * 9, {"harmed": [0.3]}, 0, 3),
        ([0.04] * 9 + [0.14] + [0.04] * 9, {"harmed": [0.3]}, 0, 0),
        ([0.04] * 9 + [0.08] * 9, {"harmed": [0.3]}, 0, 0),
        ([0.04, 0.08, 0.12, 0.08, 0.04, 0.2, 0.12, 0.04], {"harmed": [0.3]}, 0, 0),
        ([0.04] * 7 + [0.0001, 0.04, 0.0001, 0.2] + [0.04] * 9, {"harmed": [0.3]}, 2, 2),
        ([0.04] * 5 + [0.12, 0.0001, 0.12] + [0.04] * 9, {"harmed": [0.3]}, 3, 3),
        ([0.08, 0.04, 0.04, 0.04], {"harmed": [0.0]}, 1, 1),
        ([0.08, 0.04], {"harmed": [0.0]}, 0, 0),
        ([], {"harmed": [0.0]}, 0, 0),
    ],
)
def test_gaps(steps, events, known, unknown):
    assert gaps(steps, **events).missing(lambda: False) == known
    assert gaps(steps, **events).missing(lambda: True) == unknown
