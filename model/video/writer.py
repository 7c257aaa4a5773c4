"""Videos out: an H.264 or VP9 file beside its final name, which can be played however its writing ends."""

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

from ..files import is_same, move
from .color_spaces import FULL, LIMITED, colors_of, frame_of
from .reader import VideoError, VideoReader, first_frame, one_line
from .sound import Copied, Encoded, plan

if TYPE_CHECKING:
    from av.container.core import Chapter

# What a kill leaves can be played but for the last seconds: the file grows by pieces, each playable without the rest.
# In MP4 a fragment for each key frame, with an ordinary index at the end; in Matroska a cluster a second (else five).
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
# Of Matroska's tags and fields, by their beginnings.
_COUNTED = ("alpha_mode", "duration", "number_of_", "bps", "_statistics")
_KEYFRAME_SECONDS = 2  # a fragment's length


class VideoWriter:
    """An encoder into NAME.partial.EXT beside the file asked for, which it becomes with `finish`.

    Left by an exception, it keeps the partial file if that can be played; an error of writing becomes a VideoError.
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
        if isinstance(error, OSError):
            raise VideoError(f"{self.path}: cannot be written ({one_line(error)}); {where}") from None
        if isinstance(error, av.FFmpegError):
            raise VideoError(
                f"{self.path}: this format does not take what is in the source ({one_line(error)}); use .mkv; {where}"
            ) from None
        if isinstance(error, Exception):
            raise VideoError(f"{self.path}: stopped ({one_line(error)}); {where}") from error

    def encode(self, pixels: np.ndarray, source: av.VideoFrame) -> None:
        """Add a frame, RGB uint8 `(H, W, 3)`, at the time of `source`."""
        frame = frame_of(pixels, self._format, self._matrix, self._full)
        frame.time_base, frame.duration, frame.pts = self._time_base, source.duration or 0, source.pts
        self._mux(self._stream.encode(frame))
        self.frames += 1

    def add(self, packet: av.Packet) -> None:
        """Add a packet of another stream, as the result has it; a damaged one is left out and counted."""
        other = self._others.get(packet.stream.index)
        if other is None or not packet.size:  # the empty packet at the end
            return
        if packet.is_discard and packet.pts is not None and packet.pts + 2 * (packet.duration or 0) <= 0:
            return  # cut out by an edit list; the last one before it readies the decoder
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
        """Complete the file, by default under the name asked for; returns its name."""
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
                f"{self.path}: has appeared meanwhile and was left alone; the result is {self.partial}"
            ) from None
        return self.path

    def faults(self) -> list[str]:
        """What of the source's other streams was too damaged to be kept."""
        names = {"audio": "sound", "subtitle": "subtitles"}
        return [
            f"{count} damaged packet{'s' * (count > 1)} of {names[kind]} left out"
            for kind, count in self._damaged.items()
        ]

    def _mux(self, packets: Iterable[av.Packet], kind: str = "audio") -> None:
        """Write packets. One that is refused, or one of those waiting for their turn, is of sound, and damaged.

        The encoder's own are not; so more refusals than there were packets of sound are raised, as are errors of the
        disk.
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
        self.notes += _losses(first, source.metadata)
        if self._format == "yuv444p":
            self.notes.append(
                f"{first.width}x{first.height} is odd, so color is stored at full size (yuv444p), "
                "which not every player shows; .webm has no such limit"
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
        """Each stream of sound, the subtitles within one format, and a note on what is left out or encoded anew."""
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
    """What of a source's frames the result does not have."""
    notes = []
    # VP8 and VP9 have it in a stream of its own within the packets, which is not decoded.
    if any(component.is_alpha for component in frame.format.components) or "1" in _values(metadata, "alpha_mode"):
        notes.append("its transparency is left out")
    if frame.color_trc in _HDR:
        notes.append("it is HDR, which is stored with 8 bits here: smooth areas may show steps")
    if frame.interlaced_frame:
        notes.append("it is interlaced, and was enhanced and stored in whole frames")
    return notes


def _values(metadata: dict[str, str], name: str) -> list[str]:
    """Of a name that files write in either case."""
    return [value for key, value in metadata.items() if key.lower() == name]


def _forget_counts(metadata: dict[str, str]) -> None:
    """Take out what was counted of the source's own packets, and that there is transparency."""
    for key in [key for key in metadata if key.lower().startswith(_COUNTED)]:
        del metadata[key]


def _moved(chapters: "list[Chapter]", start: Fraction) -> "list[Chapter]":
    """Chapters by a clock that begins at `start`."""
    moved: list[Chapter] = []
    for chapter in chapters:
        unit = chapter["time_base"]
        ticks = round(start / unit) if unit else 0
        moved.append({**chapter, "start": max(chapter["start"] - ticks, 0), "end": max(chapter["end"] - ticks, 0)})
    return moved


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
        first_frame(path)
    except (VideoError, av.FFmpegError):
        return False
    return True
