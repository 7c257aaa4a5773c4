"""Videos: pictures as from the image path, every frame at its time, sound untouched."""

import struct
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from av.sidedata.sidedata import Type  # noqa: E402

from model.video.color_spaces import rgb_of  # noqa: E402
from model.video.enhance_frames import enhance_video  # noqa: E402
from tests.videos import TICK, audio_packets, brighten, decode, files, image_path, pixels, scene, times, write  # noqa: E402
from tests.videos import enhance as enhance  # noqa: E402  its fixture
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture


def test_lossless_frames_are_those_of_the_image_path(enhance):
    frames = scene()
    write("a.mkv", frames)
    seen = []
    report = enhance_video("a.mkv", "b.mkv", enhance, lossless=True, progress=lambda *state: seen.append(state[0]))
    assert report[:5] == (Path("b.mkv"), 8, None, (), False) and seen == list(range(1, 9))
    for got, frame in zip(pixels("b.mkv"), frames, strict=True):
        assert np.abs(got.astype(int) - image_path(frame, enhance)).max() <= 1
        assert got.mean() > 1.5 * frame.mean()
    assert files() == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize(
    "colors", [{"colorspace": 1, "color_range": 1}, {"colorspace": 5, "color_range": 2}, {"colorspace": 9}, {}]
)
def test_colors_come_back_as_they_were_meant(enhance, colors):
    """Through YCbCr of any matrix and range, tagged or not, a plain color is enhanced as in a picture."""
    frame = np.full((48, 64, 3), [90, 40, 20], np.uint8)
    write("a.mp4", [frame] * 3, codec="libx264", pix_fmt="yuv444p", **colors)
    enhance_video("a.mp4", "b.mp4", enhance)
    source, result = decode("a.mp4")[1], decode("b.mp4")[1]
    assert np.abs(rgb_of(source)[24, 32].astype(int) - frame[24, 32]).max() <= 2
    expected = image_path(frame, enhance)
    assert np.abs(rgb_of(result)[24, 32].astype(int) - expected[24, 32]).max() <= 6
    if colors:
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
