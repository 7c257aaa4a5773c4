"""Write videos: H.264 or VP9, first to a partial file next to the result that can be played even if writing stops."""

import contextlib
import os
import struct
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import av
import numpy as np
from av.codec.context import Flags
from av.sidedata.sidedata import SideData

from ..files import is_same, move, reason_of
from .color_spaces import FULL, LIMITED, colors_of, frame_of
from .reader import VideoError, VideoReader, first_frame
from .sound import Copied, Encoded, plan

if TYPE_CHECKING:
    from av.container.core import Chapter

# If the process is killed, all but the last seconds can be played: the file grows in pieces that do not need the rest.
# MP4 has a fragment per key frame, and an ordinary index at the end; Matroska a cluster per second (default: five).
_MP4 = {"movflags": "hybrid_fragmented+delay_moov", "flush_packets": "1"}
_MATROSKA = {"flush_packets": "1", "cluster_time_limit": "1000"}
_FORMATS = {
    ".mp4": ("mp4", _MP4),
    ".m4v": ("mp4", _MP4),
    ".mov": ("mov", _MP4),
    ".mkv": ("matroska", _MATROSKA),
    ".webm": ("webm", _MATROSKA),
}
OUTPUT_EXTENSIONS = tuple(_FORMATS)
_Codec: TypeAlias = tuple[Literal["libx264", "libx264rgb", "libvpx-vp9"], dict[str, str]]
_H264: _Codec = ("libx264", {"crf": "17", "preset": "medium"})
_H264_LOSSLESS: _Codec = ("libx264rgb", {"qp": "0", "preset": "veryfast"})
_VP9: _Codec = ("libvpx-vp9", {"crf": "24", "deadline": "good", "cpu-used": "4", "row-mt": "1"})
_HDR = (16, 18)  # FFmpeg's numbers of the transfers PQ and HLG
# Tags and fields of Matroska that describe the source's packets, by their beginnings.
_COUNTED = ("alpha_mode", "duration", "number_of_", "bps", "_statistics")
_KEYFRAME_SECONDS = 2  # the length of a fragment


class VideoWriter:
    """Encodes into NAME.partial.EXT next to the result, to which `finish` renames it.

    If an exception leaves the context, the partial file is kept if it can be played, and errors become a VideoError.
    """

    def __init__(self, path: Path, reader: VideoReader, lossless: bool = False):
        self.path, self.frames = path, 0
        self.notes: list[str] = []
        format, options = _FORMATS[path.suffix.lower()]
        self._matrix, self._full = colors_of(reader.first)
        self._format = _pixel_format(reader.first, path, lossless)
        self._time_base, self._source = reader.stream.time_base, reader.path
        self._others: dict[int, Copied | Encoded] = {}
        self._damaged: Counter[str] = Counter()
        self._added = self._refused = 0
        self.partial = _new_partial(path)
        self._container = av.open(str(self.partial), "w", format=format, options=options)
        try:
            self._container.metadata.update(reader.container.metadata)
            self._stream = self._add_video(reader, lossless)
            self._add_others(reader)
            reader.keep(self._others)
            self._container.set_chapters(_moved(reader.container.chapters(), reader.clock.start))
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._close()
            self.partial.unlink()
            if isinstance(error, VideoError):
                raise
            raise VideoError(
                f"{path}: this format cannot hold what is in the source ({reason_of(error)}); use .mkv"
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
        if isinstance(error, OSError):
            raise VideoError(f"{self.path}: cannot be written ({reason_of(error)}); {where}") from None
        if isinstance(error, av.FFmpegError):
            raise VideoError(
                f"{self.path}: this format cannot hold what is in the source ({reason_of(error)}); use .mkv; {where}"
            ) from None
        if isinstance(error, Exception):
            raise VideoError(f"{self.path}: stopped ({reason_of(error)}); {where}") from error

    def encode(self, pixels: np.ndarray, source: av.VideoFrame) -> None:
        """Add a frame, RGB uint8 `(H, W, 3)`, with the time of `source`."""
        frame = frame_of(pixels, self._format, self._matrix, self._full)
        frame.time_base, frame.duration, frame.pts = self._time_base, source.duration or 0, source.pts
        self._mux(self._stream.encode(frame))
        self.frames += 1

    def add(self, packet: av.Packet) -> None:
        """Add a packet of another stream, copied or re-encoded; a damaged one is left out and counted."""
        other = self._others.get(packet.stream.index)
        if other is None or not packet.size:  # the empty packet at the end
            return
        if packet.is_discard and packet.pts is not None and packet.pts + 2 * (packet.duration or 0) <= 0:
            return  # removed by an edit list, except for the last one, which prepares the decoder
        if packet.is_corrupt:
            self._damaged[packet.stream.type] += 1
            return
        try:
            parts = other.packets(packet)
        except (av.FFmpegError, OverflowError):
            self._damaged[packet.stream.type] += 1
        else:
            self._added += len(parts)
            self._mux(parts, packet.stream.type)

    def finish(self, rename: bool = True, overwrite: bool = False) -> Path:
        """Complete the file and, by default, rename it to the result; returns its name."""
        for other in self._others.values():
            self._mux(other.rest(), "audio")
        self._mux(self._stream.encode(None))
        self._container.close()
        with open(self.partial, "rb+") as file:
            os.fsync(file.fileno())
        if not rename:
            return self.partial
        try:
            if is_same(self.path, self._source):
                raise FileExistsError
            move(self.partial, self.path, exclusive=not overwrite)
        except FileExistsError:
            raise VideoError(
                f"{self.path}: was created meanwhile and left alone; the result is {self.partial}"
            ) from None
        return self.path

    def faults(self) -> list[str]:
        """What was too damaged to be kept in the streams of sound and subtitles."""
        names = {"audio": "sound", "subtitle": "subtitles"}
        return [
            f"{count} damaged packet{'s' * (count > 1)} of {names[kind]} left out"
            for kind, count in self._damaged.items()
        ]

    def _mux(self, packets: Iterable[av.Packet], kind: str = "audio") -> None:
        """Write packets, and count those that the format refuses as damaged packets of the source.

        The refused packet may be an earlier one, as packets wait for their turn. The video encoder's own packets are
        not damaged: if there are more refusals than packets of other streams, the error is raised, as are disk errors.
        """
        for packet in packets:
            try:
                self._container.mux(packet)
            except av.FFmpegError as error:
                self._refused += 1
                if isinstance(error, OSError) or self._refused > self._added:
                    raise
                self._damaged[kind] += 1

    def _close(self) -> None:
        """Write as much of the end of the file as is still possible."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError, AttributeError):
            self._container.mux(self._stream.encode(None))
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()

    def _add_video(self, reader: VideoReader, lossless: bool) -> av.VideoStream:
        first, source = reader.first, reader.stream
        webm = self.path.suffix.lower() == ".webm"
        if webm and lossless:
            raise VideoError(f"{self.path}: .webm does not support --lossless; use .mkv")
        codec, options = _VP9 if webm else _H264_LOSSLESS if lossless else _H264
        self.notes += _losses(first, source.metadata)
        if self._format == "yuv444p":
            self.notes.append(
                f"{first.width}x{first.height} is odd, so color is stored at full size (yuv444p), "
                "which not every player supports; .webm has no such limit"
            )
        rate = source.average_rate or source.guessed_rate or 25
        stream = self._container.add_stream(
            codec,
            rate=rate,
            options={**options, "g": str(min(max(round(_KEYFRAME_SECONDS * rate), 1), 600))},
            width=first.width,
            height=first.height,
            pix_fmt=self._format,
            time_base=source.time_base,
        )
        context = stream.codec_context
        context.flags |= Flags.frame_duration
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        if not lossless:
            context.colorspace, context.color_range = self._matrix, FULL if self._full else LIMITED
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        stream.metadata.update(source.metadata)
        _forget_counts(stream.metadata)
        turned = first.side_data.get("DISPLAYMATRIX")
        if isinstance(turned, SideData):
            stream.set_display_matrix(struct.unpack("=9i", bytes(turned)))
        return stream

    def _add_others(self, reader: VideoReader) -> None:
        """Add the sound, subtitles if the format stays the same, and notes on what is left out or re-encoded."""
        streams, same = reader.container.streams, self._same_format(reader)
        wanted = [s.index for s in streams if s.type == "audio" or (same and s.type == "subtitle")]
        kinds = plan(reader.path, wanted, *_FORMATS[self.path.suffix.lower()])
        self._others = {index: kind(self._container, streams[index]) for index, kind in sorted(kinds.items())}
        for other in self._others.values():
            _forget_counts(other.stream.metadata)
        for note in dict.fromkeys(other.note for other in self._others.values() if other.note):
            self.notes.append(note)
        missing = [s for s in streams if s.index != reader.stream.index and s.index not in kinds]
        if missing:
            self.notes.append(f"streams left out: {', '.join(f'{s.index} ({s.type})' for s in missing)}")

    def _same_format(self, reader: VideoReader) -> bool:
        return self._container.format.name in reader.container.format.name.split(",")


def _pixel_format(first: av.VideoFrame, path: Path, lossless: bool) -> str:
    """How the encoder stores pixels: H.264 cannot halve the colors of an odd size."""
    if lossless:
        return "rgb24"
    odd = first.width % 2 or first.height % 2
    return "yuv444p" if odd and path.suffix.lower() != ".webm" else "yuv420p"


def _losses(frame: av.VideoFrame, metadata: dict[str, str]) -> list[str]:
    """Notes on properties of the source's frames that the result does not keep."""
    notes = []
    # VP8 and VP9 keep transparency in a stream of its own inside the packets, which is not decoded.
    if any(component.is_alpha for component in frame.format.components) or "1" in _values(metadata, "alpha_mode"):
        notes.append("its transparency is left out")
    if frame.color_trc in _HDR:
        notes.append("it is HDR, which is stored with 8 bits here: smooth areas may show bands")
    if frame.interlaced_frame:
        notes.append("it is interlaced, and was enhanced and stored as whole frames")
    return notes


def _values(metadata: dict[str, str], name: str) -> list[str]:
    """The values of a name that files write in upper or lower case."""
    return [value for key, value in metadata.items() if key.lower() == name]


def _forget_counts(metadata: dict[str, str]) -> None:
    """Remove the statistics of the source's packets, and the mark of transparency."""
    for key in [key for key in metadata if key.lower().startswith(_COUNTED)]:
        del metadata[key]


def _moved(chapters: "list[Chapter]", start: Fraction) -> "list[Chapter]":
    """The chapters, shifted to a clock that begins at `start`."""
    moved: list[Chapter] = []
    for chapter in chapters:
        unit = chapter["time_base"]
        ticks = round(start / unit) if unit else 0
        moved.append({**chapter, "start": max(chapter["start"] - ticks, 0), "end": max(chapter["end"] - ticks, 0)})
    return moved


def _new_partial(path: Path) -> Path:
    """Create an empty partial file with a new name, as FFmpeg's errors do not tell a file from a codec."""
    for number in range(1, 1000):
        partial = path.with_name(f"{path.stem}.partial{'' if number == 1 else f'-{number}'}{path.suffix}")
        try:
            partial.touch(exist_ok=False)
            return partial
        except FileExistsError:
            continue
        except OSError as error:
            raise VideoError(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
    raise VideoError(f"{path}: {partial} and 998 more partial results exist here; remove them")


def _playable(path: Path) -> bool:
    try:
        first_frame(path)
    except (VideoError, av.FFmpegError):
        return False
    return True
