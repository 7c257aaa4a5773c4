"""Videos: pictures as from the image path, every frame at its time, sound untouched, one line for each fault."""

import os
import resource
import signal
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from av.sidedata.sidedata import Type  # noqa: E402

from model import EnhanceNetwork, enhance_image, load_weights, quantize  # noqa: E402
from model.enhance import main  # noqa: E402
from model.flicker import Steady  # noqa: E402
from model.video import VideoError, enhance_video  # noqa: E402
from model.video_colours import rgb_of  # noqa: E402

TICK = Fraction(1, 12800)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def enhance():
    network = EnhanceNetwork()
    load_weights(network)
    return lambda image: enhance_image(network, image)[1]


def brighten(image: torch.Tensor) -> torch.Tensor:
    """In place of the network where only the file matters."""
    return (2 * image).clamp(0, 1)


def scene(count=8, size=(64, 48), seed=0) -> list[np.ndarray]:
    """A dark scene that moves: smooth colours and a bright square."""
    height, width = size[1], size[0]
    y, x = np.mgrid[:height, :width]
    frames = []
    for k in range(count):
        planes = [30 + 25 * np.sin((x + 2 * k) / 9 + seed + c) * np.cos(y / (7 + c)) for c in range(3)]
        frame = np.stack(planes, axis=-1)
        frame[5:15, 3 * k + 2 : 3 * k + 12] += 90
        frames.append(frame.round().astype(np.uint8))
    return frames


def write(
    name, frames, *, rate=25, pts=None, audio=None, codec="libx264rgb", pix_fmt="rgb24", options=None, **settings
) -> str:
    """A small video, by default lossless."""
    options = {"qp": "0"} if options is None and codec.startswith("libx264") else options
    with av.open(name, "w") as container:
        height, width = frames[0].shape[:2]
        stream = container.add_stream(
            codec, rate=rate, options=options, width=width, height=height, pix_fmt=pix_fmt, time_base=TICK
        )
        rotation = settings.pop("rotation", None)
        if rotation:
            stream.set_display_rotation(rotation)
        for key, value in settings.items():
            setattr(stream.codec_context, key, value)
        sound = container.add_stream(audio, rate=44100) if audio else None
        for k, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if pix_fmt != "rgb24":
                colours = {"dst_colorspace": settings.get("colorspace"), "dst_color_range": settings.get("color_range")}
                frame = frame.reformat(format=pix_fmt, **colours)
            frame.pts, frame.time_base = pts[k] if pts else 12800 // rate * k, TICK
            container.mux(stream.encode(frame))
            if sound:
                wave = np.sin(np.arange(1764) / 9 + k).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
                if audio == "pcm_s16le":
                    whole = (np.repeat(wave, 2)[None] * 9999).astype(np.int16)
                    samples = av.AudioFrame.from_ndarray(whole, format="s16", layout="stereo")
                samples.sample_rate, samples.pts, samples.time_base = 44100, 1764 * k, Fraction(1, 44100)
                container.mux(sound.encode(samples))
        container.mux(stream.encode(None))
        if sound:
            container.mux(sound.encode(None))
    return name


def decode(name) -> list[av.VideoFrame]:
    with av.open(str(name)) as container:
        return list(container.decode(video=0))


def pixels(name) -> list[np.ndarray]:
    return [rgb_of(frame) for frame in decode(name)]


def times(name) -> list[float]:
    return [round(frame.time, 4) for frame in decode(name)]


def audio_packets(name) -> list[tuple]:
    with av.open(str(name)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(bytes(packet), round(float(packet.pts * packet.time_base), 3)) for packet in packets]


def image_path(frame: np.ndarray, enhance) -> np.ndarray:
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    return quantize(enhance(image)[0])


def files() -> list[str]:
    return sorted(os.listdir())


def test_lossless_frames_are_those_of_the_image_path(enhance):
    frames = scene()
    write("a.mkv", frames)
    seen = []
    report = enhance_video("a.mkv", "b.mkv", enhance, lossless=True, progress=lambda *state: seen.append(state[0]))
    assert report == (Path("b.mkv"), 8, None, (), False) and seen == list(range(1, 9))
    for got, frame in zip(pixels("b.mkv"), frames, strict=True):
        assert np.abs(got.astype(int) - image_path(frame, enhance)).max() <= 1
        assert got.mean() > 1.5 * frame.mean()
    assert files() == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize(
    "colours", [{"colorspace": 1, "color_range": 1}, {"colorspace": 5, "color_range": 2}, {"colorspace": 9}, {}]
)
def test_colours_come_back_as_they_were_meant(enhance, colours):
    """Through YCbCr of any matrix and range, tagged or not, a plain colour is enhanced as in a picture."""
    frame = np.full((48, 64, 3), [90, 40, 20], np.uint8)
    write("a.mp4", [frame] * 3, codec="libx264", pix_fmt="yuv444p", **colours)
    enhance_video("a.mp4", "b.mp4", enhance)
    source, result = decode("a.mp4")[1], decode("b.mp4")[1]
    assert np.abs(rgb_of(source)[24, 32].astype(int) - frame[24, 32]).max() <= 2
    expected = image_path(frame, enhance)
    assert np.abs(rgb_of(result)[24, 32].astype(int) - expected[24, 32]).max() <= 6
    if colours:
        assert result.colorspace == source.colorspace and (result.color_range == 2) == (source.color_range == 2)


def test_ten_bits_are_read_with_all_of_them():
    frame = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    write("a.mkv", [frame], codec="ffv1", pix_fmt="yuv444p10le", options={})
    (got,) = pixels("a.mkv")
    assert got.dtype == np.uint16 and np.abs(got / 257.0 - frame).max() < 0.8


def test_sound_and_times_are_kept():
    pts = [0, 512, 1100, 3000, 3100, 9000, 9512, 12000]  # no two frames equally long
    write("a.mp4", scene(), pts=pts, audio="aac", codec="libx264", pix_fmt="yuv420p")
    enhance_video("a.mp4", "b.mp4", brighten)
    assert times("b.mp4") == times("a.mp4") == [round(float(t * TICK), 4) for t in pts]
    assert audio_packets("b.mp4") == audio_packets("a.mp4") and len(audio_packets("b.mp4")) >= 8
    enhance_video("a.mp4", "b.mkv", brighten)
    assert [data for data, _ in audio_packets("b.mkv")] == [data for data, _ in audio_packets("a.mp4")]
    (start_b, *_), (start_a, *_) = audio_packets("b.mkv"), audio_packets("a.mp4")
    lead = start_b[1] - start_a[1]  # Matroska knows no time below 0: sound and picture move together
    assert np.allclose(np.array(times("b.mkv")) - lead, times("a.mp4"), atol=2e-3)


def test_sound_of_a_broadcast_stream():
    write("a.ts", scene(), audio="aac", codec="libx264", pix_fmt="yuv420p")
    enhance_video("a.ts", "b.mp4", brighten)
    with av.open("a.ts") as one, av.open("b.mp4") as other:
        heard = [np.concatenate([f.to_ndarray() for f in c.decode(audio=0)], axis=1) for c in (one, other)]
    assert np.array_equal(*heard)
    assert np.allclose(times("b.mp4"), times("a.ts"), atol=1e-3)  # MP4 counts the start in milliseconds


def test_rotation_and_metadata_are_kept():
    write("a.mp4", scene(2), codec="libx264", pix_fmt="yuv420p", rotation=90)
    enhance_video("a.mp4", "b.mov", brighten)
    matrices = [struct.unpack("=9i", bytes(decode(name)[0].side_data.get(Type.DISPLAYMATRIX))) for name in files()]
    assert matrices[0] == matrices[1] and decode("b.mov")[0].rotation == 90


@pytest.mark.parametrize("result, pix_fmt", [("b.mp4", "yuv444p"), ("b.webm", "yuv420p")])
def test_odd_sizes_are_neither_cropped_nor_padded(result, pix_fmt):
    write("a.mkv", scene(3, size=(63, 47)))
    report = enhance_video("a.mkv", result, brighten)
    first = decode(result)[0]
    assert (first.width, first.height, first.format.name) == (63, 47, pix_fmt)
    assert [note.split(",")[0] for note in report.notes] == (["63x47 is odd"] if result == "b.mp4" else [])


def test_what_a_result_does_not_have_is_said():
    write("a.mkv", scene(2), codec="ffv1", pix_fmt="yuva420p", color_trc=18)
    assert [note.split(":")[0] for note in enhance_video("a.mkv", "b.mp4", brighten).notes] == [
        "its transparency is left out",
        "it is HDR, which is stored with 8 bits here",
    ]
    assert decode("b.mp4")[0].color_trc == 18


def test_sound_that_only_some_formats_take():
    write("a.avi", scene(2), audio="pcm_s16le", codec="mpeg4", pix_fmt="yuv420p", options={})
    with pytest.raises(VideoError, match=r"^b.mp4: this format does not take .* use .mkv; nothing of it was kept$"):
        enhance_video("a.avi", "b.mp4", brighten)
    assert files() == ["a.avi"]
    enhance_video("a.avi", "b.mkv", brighten)
    heard = [b"".join(data for data, _ in audio_packets(name)) for name in files()]
    assert heard[0] == heard[1] and len(heard[0]) == 2 * 1764 * 4


def test_two_sizes_in_one_stream():
    for name, size in (("one.ts", (64, 48)), ("two.ts", (96, 64))):
        write(name, scene(10, size=size), codec="libx264", pix_fmt="yuv420p")
    Path("a.ts").write_bytes(Path("one.ts").read_bytes() + Path("two.ts").read_bytes())
    report = enhance_video("a.ts", "b.mp4", brighten)
    assert report.fault == "its size changes from 64x48 to 96x64" and len(decode("b.mp4")) == report.frames >= 8


def test_an_interrupted_run_leaves_a_playable_file():
    write("a.mp4", scene(20), audio="aac", codec="libx264", pix_fmt="yuv420p")
    Path("b.partial.mp4").write_text("of an earlier run")

    def interrupt(done, total):
        assert total == 20
        if done == 12:
            os.kill(os.getpid(), signal.SIGINT if Path("first").exists() else signal.SIGTERM)

    for name in ("b.partial-2.mp4", "b.partial-3.mp4"):
        report = enhance_video("a.mp4", "b.mp4", brighten, progress=interrupt)
        assert report == (Path(name), 12, "interrupted", (), True)
        assert len(decode(name)) == 12 and times(name) == times("a.mp4")[:12]
        Path("first").touch()
    assert not Path("b.mp4").exists() and Path("b.partial.mp4").read_text() == "of an earlier run"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("result", ["b.mp4", "b.mkv"])
def test_what_is_on_the_disk_can_be_played_at_any_moment(result):
    """A copy taken in the middle is what a killed process would leave: at most the last seconds are missing."""
    write("a.mkv", scene(80, size=(32, 32)), rate=5, codec="libx264", pix_fmt="yuv420p")  # a key frame in ten

    def copy(done, total):
        if done == 75:
            Path(f"copy_{result}").write_bytes(Path(result).with_stem("b.partial").read_bytes())

    enhance_video("a.mkv", result, brighten, progress=copy)
    assert 10 <= len(decode(f"copy_{result}")) < 75
    assert len(decode(result)) == 80


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


def run(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit status, standard output, lines of standard error of the command."""
    try:
        status = main([*arguments, "--device", "cpu"])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err.splitlines()


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
        ("-i none.mp4 -o out.mp4", 1, "error: none.mp4: no such file; expected a video"),
        ("-i a.mp4 -o out.gif", 2, "error: out.gif: cannot write this format; use one of .mp4 .m4v .mov .mkv .webm"),
        ("-i a.mp4 -o ./a.mp4 --overwrite", 1, "error: a.mp4: is the source and would be replaced; choose another"),
        (
            "-i a.mp4 -o text.mp4/out.mp4",
            1,
            "error: text.mp4/out.mp4: cannot be written (no folder can be made there: File exists)",
        ),
        (
            "-i a.mp4 -o /proc/out.mp4",
            1,
            "error: /proc/out.mp4: cannot be written (no folder can be made there: No such file",
        ),
        ("-i a.mp4 b.mp4 -o out.mp4", 2, "error: out.mp4: is no folder, and there are 2 videos; name a folder"),
        ("-i a.mp4 sub/a.mp4 -o out", 2, "error: a.mp4 and sub/a.mp4 would both be written to out/a.mp4"),
        ("-i a.mp4 p.png -o out", 2, "error: p.png: is no video and a.mp4 is one; enhance videos in a run"),
        ("-i a.mp4 -o out.webm", 1, "error: out.webm: this format cannot hold the sound as it is (aac); use .mkv"),
        ("-i a.mp4 -o out.webm --lossless", 1, "error: out.webm: .webm is not written lossless here; use .mkv"),
        (
            "-i a.mp4 -o out.mp4 --illumination",
            2,
            "error: --illumination, --gallery: are for pictures, and the inputs are",
        ),
        ("-i p.png -o out --smooth", 2, "error: --smooth, --lossless: are for videos, and no input is one"),
        ("-i a.mp4 -o out.mp4 --smooth 0", 2, "error: argument --smooth: expected seconds, more than 0; got '0'"),
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
    got, out, lines = run(capsys, *arguments.split())
    assert got == status and len(lines) == 1 and lines[0].startswith(line), lines
    assert files() == ["a.mp4", "empty.mp4", "sound.mp4", "text.mp4"]


def test_without_pyav_the_extra_is_named(capsys, monkeypatch):
    for name in ("model.video", "model.video_colours", "model.video_input", "model.video_output"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, lines = run(capsys, "-i", "a.mp4", "-o", "b.mp4")
    assert status == 2 and lines == [
        "error: a.mp4: videos need PyAV, which is not installed; pip install '.[video]', or av by itself"
    ]


def test_smooth_damps_flicker_and_follows_cuts(enhance):
    """Exposure that alternates by 10 %, and a new scene after 12 frames."""
    still, other = scene(1)[0] * 1.0, scene(1, seed=2)[0][::-1, ::-1] * 2.5
    frames = [(still if k < 12 else other) * (1 + 0.1 * (-1) ** k) for k in range(24)]
    write("a.mkv", [frame.clip(0, 255).round().astype(np.uint8) for frame in frames])
    for name, smooth in (("plain.mkv", None), ("smooth.mkv", 0.5)):
        enhance_video("a.mkv", name, enhance, smooth=smooth, lossless=True)
    plain, smooth = (np.log([frame.mean() for frame in pixels(name)]) for name in ("plain.mkv", "smooth.mkv"))
    for part in (slice(2, 12), slice(14, 24)):
        assert np.abs(np.diff(smooth[part])).max() < np.abs(np.diff(plain[part])).max() / 4
    assert abs(smooth[12] - plain[12]) < 1e-3  # the new scene starts with its own brightness


def test_smooth_keeps_what_does_not_flicker():
    steady = Steady(0.5)
    image = torch.from_numpy(scene(1)[0]).permute(2, 0, 1)[None] / 255
    assert all(steady.gain(image, k / 25) == pytest.approx(1.0, abs=1e-12) for k in range(5))
    jump = steady.gain(2 * image, 0.24)
    assert jump == pytest.approx(1.0, abs=1e-12)  # a light switched on is no flicker
    keep = np.exp(-0.04 / 0.5)
    assert steady.gain(2.2 * image, 0.28) == pytest.approx(1.1**-keep, rel=1e-6)  # s = m - keep * log 1.1
    with pytest.raises(ValueError, match="seconds: expected more than 0; got 0"):
        Steady(0)
