"""Video files through PyAV: frames and packets in; out, a file that can be played however its writing ends."""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

try:
    import av
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "videos need PyAV, which is not installed; pip install '.[video]', or av by itself", name=error.name
    ) from None
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation

# FFmpeg's numbers for what YCbCr can mean: BT.709, FCC, BT.470BG and SMPTE 170M (both BT.601), SMPTE 240M, BT.2020.
_BT709, _BT470BG, _SMPTE170M, _MATRICES = 1, 5, 6, (1, 4, 5, 6, 7, 9)
_LIMITED, _FULL = 1, 2
# Fragments are written as the file grows, each playable without the rest, and get an ordinary index at the end.
_MP4 = {"movflags": "hybrid_fragmented+delay_moov", "flush_packets": "1"}
_MATROSKA = {"flush_packets": "1"}
_FORMATS = {
    ".mp4": ("mp4", _MP4),
    ".m4v": ("mp4", _MP4),
    ".mov": ("mov", _MP4),
    ".mkv": ("matroska", _MATROSKA),
    ".webm": ("webm", _MATROSKA),
}
OUTPUT_EXTENSIONS = tuple(_FORMATS)
_H264 = ("libx264", {"crf": "17", "preset": "medium"})
_H264_LOSSLESS = ("libx264rgb", {"qp": "0", "preset": "veryfast"})
_VP9 = ("libvpx-vp9", {"crf": "24", "deadline": "good", "cpu-used": "4", "row-mt": "1"})
_KEYFRAME_SECONDS = 2  # a fragment's length: the most that is lost from an .mp4 whose writer was killed


class VideoError(ValueError):
    """A video that cannot be read or written; the message is one line that says which and why."""


class VideoReader:
    """The frames of a video's best stream, and the packets of its other streams, in the order of the file.

    Raises VideoError when there is no such file, no video in it, or no frame that can be decoded.
    """

    def __init__(self, path: Path):
        self.first = _first_frame(path)  # it alone tells format, colours and rotation for certain
        self.container = _open(path)
        self.stream = self.container.streams.best("video")
        self.stream.thread_type = "AUTO"
        self.fault: str | None = None  # what of the source is missing, known at its end
        self._damaged, self._end = 0, 0.0

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *error: object) -> None:
        self.container.close()

    def items(self) -> Iterator[av.VideoFrame | av.Packet]:
        """Decoded frames of the video, undecoded packets of all else."""
        size = (self.first.width, self.first.height)
        for packet in self._packets():
            if packet.stream.index != self.stream.index:
                yield packet
                continue
            for frame in self._decode(packet):
                if (frame.width, frame.height) != size:
                    self.fault = f"its size changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                    return
                yield frame
        self.fault = self.fault or self._missing()

    def _packets(self) -> Iterator[av.Packet]:
        try:
            for packet in self.container.demux():
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._end = max(self._end, float(end))
                yield packet
        except av.FFmpegError as error:
            self.fault = f"cannot be read to its end ({one_line(error)})"

    def _decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        if not (packet.is_corrupt and packet.size):
            with contextlib.suppress(av.FFmpegError):
                return packet.decode()
        self._damaged += 1
        return []

    def _missing(self) -> str | None:
        """What of the source did not come, by what its header promised."""
        if self.container.duration:
            start = (self.container.start_time or 0) / av.time_base
            whole, got = self.container.duration / av.time_base, max(self._end - start, 0.0)
            if whole - got > max(0.5, 0.02 * whole):
                return f"cut off after {got:.1f} of {whole:.1f} seconds"
        return f"damaged packets, left out: {self._damaged}" if self._damaged else None


class VideoWriter:
    """An encoder into NAME.partial.EXT beside the file asked for, which it becomes with `finish`.

    Left by an exception, it keeps the partial file if that can be played; an error of writing becomes a VideoError.
    """

    def __init__(self, path: Path, reader: VideoReader, lossless: bool = False):
        self.path, self.frames, self.notes = path, 0, []
        format, options = _FORMATS[path.suffix.lower()]
        self._matrix, self._full = colours_of(reader.first)
        self._time_base, self._last = reader.stream.time_base, None
        self._copies: dict[int, tuple[av.stream.Stream, BitStreamFilterContext | None]] = {}
        self.partial = _new_partial(path)
        self._container = av.open(str(self.partial), "w", format=format, options=options)
        try:
            self._container.metadata.update(reader.container.metadata)
            self._container.set_chapters(reader.container.chapters())
            self._stream = self._add_video(reader, lossless)
            self._add_others(reader)
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._close()
            self.partial.unlink()
            if isinstance(error, VideoError):
                raise
            raise VideoError(
                f"{path}: this format cannot hold what is in the source ({one_line(error)}); use .mkv"
            ) from None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        self._close()
        where = f"what was written so far is in {self.partial}"
        if not _playable(self.partial):
            self.partial.unlink(missing_ok=True)
            where = "nothing of it was kept"
        if isinstance(error, VideoError):
            return
        if isinstance(error, OSError | av.FFmpegError):
            raise VideoError(f"{self.path}: cannot be written ({one_line(error)}); {where}") from None
        if isinstance(error, Exception):
            raise VideoError(f"{self.path}: stopped ({one_line(error)}); {where}") from error

    def encode(self, pixels: np.ndarray, source: av.VideoFrame) -> None:
        """Add a frame, RGB uint8 `(H, W, 3)`, at the time of `source`."""
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if self._stream.pix_fmt != "rgb24":
            frame = frame.reformat(
                format=self._stream.pix_fmt,
                dst_colorspace=_for_scaler(self._matrix),
                dst_color_range=_FULL if self._full else _LIMITED,
                interpolation=Interpolation.BICUBIC,
            )
        frame.time_base, frame.duration, frame.pts = self._time_base, source.duration or 0, source.pts
        if frame.pts is None or (self._last is not None and frame.pts <= self._last):
            frame.pts = 0 if self._last is None else self._last + max(frame.duration, 1)
        self._last = frame.pts
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def copy(self, packet: av.Packet) -> None:
        """Add a packet of another stream as it is."""
        stream, convert = self._copies.get(packet.stream.index, (None, None))
        if stream is None or packet.dts is None:  # without dts: the empty packet at the end
            return
        for part in convert.filter(packet) if convert else [packet]:
            part.stream = stream
            self._container.mux(part)

    def finish(self, rename: bool = True, overwrite: bool = False) -> Path:
        """Complete the file, by default under the name asked for; returns its name."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        with open(self.partial, "rb+") as file:
            os.fsync(file.fileno())
        if not rename:
            return self.partial
        if os.path.lexists(self.path) and not overwrite:
            raise VideoError(f"{self.path}: has appeared meanwhile and was left alone; the result is {self.partial}")
        os.replace(self.partial, self.path)
        return self.path

    def _close(self) -> None:
        """As much of the end of the file as can still be written."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError, AttributeError):
            self._container.mux(self._stream.encode(None))
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()

    def _add_video(self, reader: VideoReader, lossless: bool) -> av.VideoStream:
        first, source = reader.first, reader.stream
        webm = self.path.suffix.lower() == ".webm"
        if webm and lossless:
            raise VideoError(f"{self.path}: .webm is not written lossless here; use .mkv")
        codec, options = _VP9 if webm else _H264_LOSSLESS if lossless else _H264
        odd = first.width % 2 or first.height % 2
        if odd and not webm and not lossless:
            self.notes.append(
                f"{first.width}x{first.height} is odd, so colour is stored at full size (yuv444p), "
                "which not every player shows; .webm has no such limit"
            )
        rate = source.average_rate or source.guessed_rate or 25
        stream = self._container.add_stream(
            codec,
            rate=rate,
            options={**options, "g": str(min(max(round(_KEYFRAME_SECONDS * rate), 1), 600))},
            width=first.width,
            height=first.height,
            pix_fmt="rgb24" if lossless else "yuv444p" if odd and not webm else "yuv420p",
            time_base=source.time_base,
        )
        context = stream.codec_context
        context.flags |= Flags.frame_duration
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        if not lossless:
            context.colorspace, context.color_range = self._matrix, _FULL if self._full else _LIMITED
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        stream.metadata.update(source.metadata)
        turned = first.side_data.get(Type.DISPLAYMATRIX)
        if turned is not None:
            stream.set_display_matrix(struct.unpack("=9i", bytes(turned)))
        return stream

    def _add_others(self, reader: VideoReader) -> None:
        """A copy of each audio stream, of subtitles within one format, and a note on what is left out."""
        best, left_out = reader.container.streams.best("audio"), []
        for stream in reader.container.streams:
            if stream.index == reader.stream.index:
                continue
            if stream.type == "audio" or (stream.type == "subtitle" and self._same_format(reader)):
                try:
                    copy = self._container.add_stream_from_template(stream)
                except (ValueError, av.FFmpegError):
                    if stream is best:
                        name = stream.codec_context.name if stream.codec_context else "unknown"
                        raise VideoError(
                            f"{self.path}: this format cannot hold the sound as it is ({name}); use .mkv"
                        ) from None
                else:
                    copy.metadata.update(stream.metadata)
                    self._copies[stream.index] = (copy, self._framing(stream))
                    continue
            left_out.append(f"{stream.index} ({stream.type})")
        if left_out:
            self.notes.append(f"streams left out: {', '.join(left_out)}")

    def _framing(self, stream: av.stream.Stream) -> BitStreamFilterContext | None:
        """AAC from a broadcast stream carries its parameters in each packet; MP4 wants them once."""
        context = stream.codec_context
        if context.name.startswith("aac") and not context.extradata and _FORMATS[self.path.suffix.lower()][1] is _MP4:
            return BitStreamFilterContext("aac_adtstoasc", stream)
        return None

    def _same_format(self, reader: VideoReader) -> bool:
        return self._container.format.name in reader.container.format.name.split(",")


def rgb_of(frame: av.VideoFrame) -> np.ndarray:
    """The pixels of a decoded frame, RGB `(H, W, 3)`: uint8, or uint16 from more than 8 bits a component."""
    deep = max(component.bits for component in frame.format.components) > 8
    matrix, full = colours_of(frame)
    rgb = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=None if frame.format.is_rgb else _for_scaler(matrix),
        src_color_range=_FULL if full or frame.format.is_rgb else _LIMITED,
        dst_color_range=_FULL,
        interpolation=Interpolation.BICUBIC,
    )
    return rgb.to_ndarray()


def colours_of(frame: av.VideoFrame) -> tuple[int, bool]:
    """FFmpeg's number of the YCbCr matrix, guessed as players do where it is not told; whether the range is full."""
    matrix = 9 if frame.colorspace == 10 else frame.colorspace  # BT.2020 with constant luminance, as without
    if matrix not in _MATRICES:
        matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _SMPTE170M
    return matrix, frame.color_range == _FULL and not frame.format.is_rgb


def one_line(error: BaseException) -> str:
    """The reason in an error, or its kind where it gives none."""
    text = (error.strerror if isinstance(error, OSError | av.FFmpegError) else None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def _for_scaler(matrix: int) -> int:
    """The scaler knows BT.601 by one of its two numbers."""
    return _BT470BG if matrix == _SMPTE170M else matrix


def _open(path: Path) -> av.container.InputContainer:
    """The file as a container with a video stream in it."""
    if not path.is_file():
        raise VideoError(f"{path}: {'not a file' if path.exists() else 'no such file'}; expected a video")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes); replace it with a whole copy")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: not a video, or cut off before its index ({one_line(error)}); replace it with a whole copy"
        ) from None
    video = container.streams.best("video")
    if video is None or video.codec_context is None:
        held = ", ".join(stream.type for stream in container.streams) or "nothing"
        container.close()
        raise VideoError(f"{path}: no video stream that can be decoded (it holds: {held}); expected a video")
    return container


def _first_frame(path: Path) -> av.VideoFrame:
    with _open(path) as container:
        for packet in container.demux(container.streams.best("video")):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return frame
    raise VideoError(f"{path}: no frame of it can be decoded; replace it with a whole copy")


def _new_partial(path: Path) -> Path:
    """An empty file of a new name beside `path`, made now: a message of FFmpeg would not tell file from codec."""
    for number in range(1, 1000):
        partial = path.with_name(f"{path.stem}.partial{'' if number == 1 else f'-{number}'}{path.suffix}")
        try:
            partial.touch(exist_ok=False)
            return partial
        except FileExistsError:
            continue
        except OSError as error:
            raise VideoError(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
    raise VideoError(f"{path}: {partial} and 998 more partial results lie here; remove them")


def _playable(path: Path) -> bool:
    try:
        _first_frame(path)
    except (VideoError, av.FFmpegError):
        return False
    return True
