"""Sound of videos: copied where it can be, else encoded anew; what is damaged is left out, the rest is kept."""

from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model.video.enhance_frames import enhance_video  # noqa: E402
from tests.videos import audio_packets, brighten, decode, scene, times, tone, write  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture

H264 = {"codec": "libx264", "pix_fmt": "yuv420p"}
MPEG4 = {"codec": "mpeg4", "pix_fmt": "yuv420p", "options": {}}


def heard(name, stream=0) -> tuple[np.ndarray, int, float]:
    """Samples of the first channel, their rate, the time of the first one."""
    with av.open(str(name)) as container:
        frames = list(container.decode(audio=stream))
    packed = av.AudioResampler("flt")  # PyAV 18.1 crashes on the planes of 8 channels
    channels = frames[0].layout.nb_channels
    parts = [part.to_ndarray()[0, ::channels] for frame in frames for part in packed.resample(frame)]
    return np.concatenate(parts), frames[0].sample_rate, frames[0].time


def loudest(samples: np.ndarray, rate: int) -> float:
    """The frequency, in hertz."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(power.argmax() * rate / len(samples))


@pytest.mark.parametrize(
    "source, sound, result, name, rate",
    [
        ("a.avi", "pcm_u8", "b.mp4", "pcm_u8 to AAC", 44100),
        ("a.avi", "pcm_s16le", "b.mp4", "pcm_s16le to AAC", 44100),
        ("a.avi", "adpcm_ms", "b.mkv", "adpcm_ms to AAC", 44100),
        ("a.mov", "adpcm_ima_qt", "b.mp4", "adpcm_ima_qt to AAC", 44100),
        ("a.mp4", "aac", "b.webm", "aac to Opus", 48000),
        ("a.mov", "pcm_s24le", "b.webm", "pcm_s24le to Opus", 48000),
        ("a.mov", "pcm_s24le", "b.mp4", "pcm_s24le to AAC", 44100),
        ("a.mov", "pcm_f32le", "b.m4v", "pcm_f32le to AAC", 44100),
        ("a.mov", "pcm_s16be", "b.mp4", "pcm_s16be to AAC", 44100),
    ],
)
def test_sound_that_cannot_be_copied_is_encoded_anew(source, sound, result, name, rate):
    write(source, scene(25), **MPEG4)
    tone(source, "s" + source, sound)
    report = enhance_video("s" + source, result, brighten)
    assert (report.frames, report.fault, report.notes) == (25, None, (f"sound re-encoded from {name}",))
    before, before_rate, _ = heard("s" + source)
    after, after_rate, start = heard(result)
    assert after_rate == rate and abs(start) < 0.025
    assert len(after) / rate == pytest.approx(len(before) / before_rate, abs=0.06)
    assert loudest(after, rate) == pytest.approx(1000, abs=5)
    assert after[rate // 4 : rate // 2].std() == pytest.approx(0.5 / 2**0.5, rel=0.05)


@pytest.mark.parametrize("result", ["c.mkv", "c.mov"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
def test_sound_that_can_be_copied_is(codec, result):
    write("a.mov", scene(10), **MPEG4)
    tone("a.mov", "b.mov", codec)
    report = enhance_video("b.mov", result, brighten)
    assert report.notes == ()
    assert b"".join(data for data, _ in audio_packets(result)) == b"".join(data for data, _ in audio_packets("b.mov"))


def test_packets_shorter_than_the_clock_of_matroska_keep_their_times():
    """As of TrueHD: 1200 a second, several in one millisecond; not one millisecond for each."""
    write("a.mkv", scene(25), **MPEG4)
    with av.open("a.mkv") as one, av.open("b.mkv", "w") as other:
        stream = other.add_stream_from_template(one.streams.video[0])
        sound = other.add_stream("pcm_s16le", rate=48000, layout="mono")
        for packet in one.demux():
            if packet.size:
                packet.stream = stream
                other.mux(packet)
        for number in range(1200):
            frame = av.AudioFrame.from_ndarray(np.full((1, 40), number, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 40 * number
            other.mux(sound.encode(frame))
    before = audio_packets("b.mkv")
    assert len(before) == 1200 and len({time for _, time in before}) <= 1001
    report = enhance_video("b.mkv", "c.mkv", brighten)
    assert (report.frames, report.fault, report.notes) == (25, None, ())
    assert audio_packets("c.mkv") == before


def test_offset_and_gap_of_sound_encoded_anew():
    """Sound from 0.4 seconds on, silent where the source has no packets."""
    write("a.mkv", scene(50), **MPEG4)
    tone("a.mkv", "b.mkv", "flac", start=0.4, gap=(0.8, 1.2), seconds=1.4)
    report = enhance_video("b.mkv", "c.webm", brighten)
    assert (report.frames, report.fault, report.notes) == (50, None, ("sound re-encoded from flac to Opus",))
    with av.open("c.webm") as container:
        packets = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]
    steps = np.diff(packets)
    assert packets[0] == pytest.approx(0.4, abs=0.01)
    assert steps.max() == pytest.approx(0.42, abs=0.05) and np.sort(steps)[-2] < 0.03
    resumed = min(time for _, time in audio_packets("b.mkv") if time > 1)
    assert packets[int(steps.argmax()) + 1] == pytest.approx(resumed, abs=0.03)


@pytest.mark.parametrize(
    "layout, result, expected, note",
    [
        ("5.1", "b.webm", "5.1", ""),
        ("7.1", "b.webm", "7.1", ""),
        ("5.1(side)", "b.webm", "5.1", ""),
        ("2.1", "b.webm", "stereo", ", mixed down from 2.1 to stereo"),
        ("mono", "b.webm", "mono", ""),
    ],
)
def test_channels(layout, result, expected, note):
    write("a.mkv", scene(10), **MPEG4)
    tone("a.mkv", "b.mkv", "flac", layout=layout)
    report = enhance_video("b.mkv", result, brighten)
    assert report.notes == (f"sound re-encoded from flac to Opus{note}",)
    with av.open(result) as container:
        assert container.streams.audio[0].codec_context.layout.name == expected


def test_all_sound_is_kept_each_in_its_own_way():
    write("a.mkv", scene(25), **MPEG4)
    tone("a.mkv", "b.mkv", "flac", language="deu")
    tone("b.mkv", "c.mkv", "libopus", language="fra", rate=48000, hertz=2000)
    report = enhance_video("c.mkv", "d.webm", brighten)
    assert (report.fault, report.notes) == (None, ("sound re-encoded from flac to Opus",))
    with av.open("d.webm") as container:
        assert [stream.language for stream in container.streams.audio] == ["deu", "fra"]
    for stream, hertz in ((0, 1000), (1, 2000)):
        samples, rate, _ = heard("d.webm", stream)
        assert loudest(samples, rate) == pytest.approx(hertz, abs=5)
    assert [data for data, _ in audio_packets("c.mkv", 1)] == [data for data, _ in audio_packets("d.webm", 1)]


@pytest.mark.parametrize("result", ["b.mp4", "b.mkv", "b.webm"])
def test_a_damaged_packet_of_sound_does_not_end_the_video(result):
    write("a.ts", scene(50), audio="aac", **H264)
    data = bytearray(Path("a.ts").read_bytes())
    (place,) = [k for k in range(0, len(data), 188) if sound_at(data, k) and k > len(data) // 2][:1]
    data[place + 4 : place + 188] = b"\x55" * 184
    Path("b.ts").write_bytes(data)
    report = enhance_video("b.ts", result, brighten)
    assert report.frames == 50 and len(decode(result)) == 50
    count, _, rest = report.fault.partition(" ")
    assert 1 <= int(count) <= 12 and rest in ("damaged packet of sound left out", "damaged packets of sound left out")
    kept, whole = len(heard(result)[0]) / heard(result)[1], len(heard("a.ts")[0]) / 44100
    assert 0.02 < whole - kept < 0.5
    assert np.allclose(np.diff(times(result)), 0.04, atol=2e-3)


@pytest.mark.parametrize("source, codec", [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.mkv", "ac3")])
def test_a_damaged_first_packet_of_sound_is_told(source, codec):
    write("v.mkv", scene(20), **H264)
    tone("v.mkv", source, codec)
    whole = enhance_video(source, "b.mkv", brighten)
    assert (whole.frames, whole.fault) == (20, None)
    data, first = bytearray(Path(source).read_bytes()), audio_packets(source)[0][0]
    at = data.index(first)
    data[at : at + len(first)] = b"\xff" * len(first)
    Path(f"d{source}").write_bytes(data)
    report = enhance_video(f"d{source}", "c.mkv", brighten)
    assert (report.frames, report.fault) == (20, "1 damaged packet of sound left out")


@pytest.mark.parametrize("source", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_mp3_may_begin_in_the_middle(source):
    """Where it counts on packets that are not in the file; in MP4 and Matroska too."""
    write("v.mkv", scene(20), **H264)
    tone("v.mkv", "s.mkv", "libmp3lame", seconds=2)
    with av.open("s.mkv") as one, av.open(source, "w") as other:
        streams = [other.add_stream_from_template(stream) for stream in one.streams]
        for packet in one.demux():
            if packet.size and (packet.stream.type == "video" or packet.pts * packet.time_base > 0.3):
                packet.stream = streams[packet.stream.index]
                other.mux(packet)
    report = enhance_video(source, "b.mkv", brighten)
    assert (report.frames, report.fault) == (20, None)


def sound_at(data: bytes, at: int) -> bool:
    """Whether a packet of MPEG-TS is of the second stream, as FFmpeg numbers them, and begins nothing."""
    return int.from_bytes(data[at + 1 : at + 3], "big") & 0x5FFF == 0x101


def test_numbers_that_were_counted_of_the_source_are_not_kept():
    write("a.mkv", scene(5), **MPEG4)
    tone("a.mkv", "b.mkv", "flac", language="deu")
    with av.open("b.mkv") as one, av.open("c.mkv", "w") as other:
        streams = [other.add_stream_from_template(stream) for stream in one.streams]
        for stream in streams:
            stream.metadata.update({"NUMBER_OF_FRAMES-eng": "5", "BPS": "1", "title": "kept"})
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                other.mux(packet)
    for result in ("d.mkv", "e.webm"):
        assert enhance_video("c.mkv", result, brighten).fault is None
        with av.open(result) as container:
            for stream in container.streams:
                assert stream.metadata["title"] == "kept"
                assert not [key for key in stream.metadata if key.startswith(("NUMBER", "BPS"))]


def test_frames_that_tags_promise():
    write("a.mkv", scene(5), **MPEG4)
    with av.open("a.mkv") as one, av.open("b.mkv", "w") as other:
        stream = other.add_stream_from_template(one.streams.video[0])
        stream.metadata["NUMBER_OF_FRAMES"] = "6"
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = stream
                other.mux(packet)
    assert enhance_video("b.mkv", "c.mkv", brighten).fault == "cut off after 5 of 6 frames"


def test_sound_that_neither_way_takes_is_left_out():
    write("a.mkv", scene(5), **MPEG4)
    tone("a.mkv", "b.mkv", "flac")
    data = Path("b.mkv").read_bytes()
    Path("c.mkv").write_bytes(data.replace(b"A_FLAC", b"A_QQQQ"))
    report = enhance_video("c.mkv", "d.mkv", brighten)
    assert (report.frames, report.fault, report.notes) == (5, None, ("streams left out: 1 (audio)",))


@pytest.mark.parametrize(
    "source, codec, layout, expected, note",
    [
        ("b.avi", "pcm_u8", "5.1", "5.1", ""),
        ("b.avi", "pcm_u8", "7.1", "7.1", ""),
        ("b.mkv", "pcm_s16le", "hexadecagonal", "5.1", ", mixed down from 16 channels to 5.1"),
    ],
)
def test_channels_that_the_source_only_counts(source, codec, layout, expected, note):
    write("a.mkv", scene(25), **MPEG4)
    tone("a.mkv", source, codec, layout=layout, rate=48000)
    report = enhance_video(source, "c.mp4", brighten)
    assert report.notes == (f"sound re-encoded from {codec} to AAC{note}",)
    with av.open("c.mp4") as container:
        assert container.streams.audio[0].codec_context.layout.name == expected
    samples, rate, _ = heard("c.mp4")
    assert loudest(samples, rate) == pytest.approx(1000, abs=5)
