"""Small videos for tests, and what is in a video. Needs PyAV: import it below a `pytest.importorskip`."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from model import EnhanceNetwork, enhance_image, load_weights, quantize
from model.video.color_spaces import rgb_of

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
    """A dark scene that moves: smooth colors and a bright square."""
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
        sampling = 48000 if audio == "libopus" else 44100
        sound = container.add_stream(audio, rate=sampling) if audio else None
        for k, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if pix_fmt != "rgb24":
                colors = {"dst_colorspace": settings.get("colorspace"), "dst_color_range": settings.get("color_range")}
                frame = frame.reformat(format=pix_fmt, **colors)
            frame.pts, frame.time_base = pts[k] if pts else 12800 // rate * k, TICK
            container.mux(stream.encode(frame))
            if sound:
                wave = np.sin(np.arange(sampling // 25) / 9 + k).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
                if audio == "pcm_s16le":
                    whole = (np.repeat(wave, 2)[None] * 9999).astype(np.int16)
                    samples = av.AudioFrame.from_ndarray(whole, format="s16", layout="stereo")
                samples.sample_rate, samples.pts = sampling, sampling // 25 * k
                samples.time_base = Fraction(1, sampling)
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


def audio_packets(name, stream=0) -> list[tuple]:
    with av.open(str(name)) as container:
        packets = [packet for packet in container.demux(audio=stream) if packet.size]
        return [(bytes(packet), round(float(packet.pts * packet.time_base), 3)) for packet in packets]


def image_path(frame: np.ndarray, enhance) -> np.ndarray:
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    return quantize(enhance(image)[0])


def files() -> list[str]:
    return sorted(os.listdir())


def moved(source, result, seconds) -> str:
    """A video with all its times later; what comes to lie before 0 is cut out by an edit list, in MP4."""
    options = {} if result.endswith(".ts") else {"avoid_negative_ts": "disabled"}
    with av.open(source) as one, av.open(result, "w", options=options) as other:
        streams = [other.add_stream_from_template(stream) for stream in one.streams]
        for packet in one.demux():
            if packet.dts is not None:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts + ticks,
                    packet.dts + ticks,
                    streams[packet.stream.index],
                )
                other.mux(packet)
    return result


def tone(
    source, result, codec, *, rate=44100, layout="stereo", seconds=1.0, start=0.0, gap=None, language=None, hertz=1000
) -> str:
    """A video with its streams copied, and a sine of amplitude 0.5 added, but for a gap from one time to another."""
    with av.open(source) as one, av.open(result, "w") as other:
        streams = [other.add_stream_from_template(stream) for stream in one.streams]
        for stream, before in zip(streams, one.streams, strict=True):
            stream.metadata.update(before.metadata)
        sound = other.add_stream(codec, rate=rate, layout=layout)
        if language:
            sound.metadata["language"] = language
        other.start_encoding()
        size = sound.codec_context.frame_size or 1024
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                other.mux(packet)
        for at in range(round(start * rate), round((start + seconds) * rate), size):
            if gap and gap[0] <= at / rate < gap[1]:
                continue
            wave = 0.5 * np.sin(2 * np.pi * hertz / rate * np.arange(at, at + size))
            channels = np.repeat(wave.astype(np.float32), av.AudioLayout(layout).nb_channels)[None]
            frame = av.AudioFrame.from_ndarray(channels, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            other.mux(sound.encode(frame))
        other.mux(sound.encode(None))
    return result
