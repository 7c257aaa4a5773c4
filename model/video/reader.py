"""Read videos: the frames of a file, the packets of its other streams, and what is missing or damaged."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.stream import Disposition

from ..files import reason_of
from .clock import BROADCAST, Clock
from .damage import broken_fragment, is_broken
from .gaps import Gaps
from .length import missing_bytes, promised_end, promised_packets


class VideoError(ValueError):
    """A video cannot be read or written; the message is one line that says which and why."""


class VideoReader:
    """The frames of a file's best video stream, and the packets of its other streams, in the order of the file.

    Raises VideoError if there is no such file, no video in it, or no frame that can be decoded.
    """

    def __init__(self, path: Path):
        self.path = path
        self.first = first_frame(path)  # format, colors and rotation are only certain after decoding
        self.container, self.stream = _open(path)
        self.stream.thread_type = ThreadType.AUTO
        self.faults: list[str] = []  # what is missing or damaged in the source, known at its end
        self.clock = Clock([self.stream], self.container.format.name)
        self._packets_seen, self._end, self._damaged, self._concealed = 0, 0.0, 0, 0
        self._gaps = Gaps()
        self._moved_by: int | None = None
        self._last: int | None = None  # the time of the frame before
        self._shown, self._longest = 0.0, 0.0  # seconds: end of the last frame, longest step

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *error: object) -> None:
        self.container.close()

    def keep(self, indexes: Iterable[int]) -> None:
        """Set which streams are kept besides the video: the earliest time of all of them becomes 0 in the result."""
        streams: list[av.stream.Stream] = [self.stream, *(self.container.streams[index] for index in indexes)]
        self.clock = Clock(streams, self.container.format.name)

    def items(self) -> Iterator[av.VideoFrame | av.Packet]:
        """The decoded frames of the video, each later than the one before, and the packets of all other streams."""
        size = (self.first.width, self.first.height)
        held: av.VideoFrame | None = None
        for packet in self._packets():
            if packet.stream.index != self.stream.index:
                yield packet
                continue
            for frame in self._decode(packet):
                if held is not None:
                    yield self._timed(held, frame.pts)
                held = frame
                if (frame.width, frame.height) != size:
                    self.faults.append(f"its size changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}")
                    return
                self._concealed += frame.is_corrupt
        if held is not None:
            yield self._timed(held)
        self.faults += self._missing()

    def notes(self) -> list[str]:
        """What was repaired without loss."""
        jumps = self.clock.jumps
        if not jumps:
            return []
        return [f"its clock jumps {'once' if jumps == 1 else f'{jumps} times'}, which was evened out"]

    def _packets(self) -> Iterator[av.Packet]:
        try:
            for packet in self.container.demux():
                if not self._moved(packet):
                    continue
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._end = max(self._end, float(end))
                self._packets_seen += packet.stream.index == self.stream.index and packet.size > 0
                yield packet
        except av.FFmpegError as error:
            self.faults.append(f"cannot be read to its end ({reason_of(error)})")

    def _moved(self, packet: av.Packet) -> bool:
        before = packet.dts
        try:
            kept = not packet.time_base or self.clock.move(packet)
        except OverflowError:  # a damaged time, too large for a packet
            packet.pts = packet.dts = None
            return True
        if packet.stream.index == self.stream.index and before is not None and packet.dts is not None:
            by = packet.dts - before
            if by != self._moved_by and self._moved_by is not None:
                self._gaps.jumped(float(packet.dts * packet.time_base))
            self._moved_by = by
        return kept

    def _decode(self, packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame]:
        # An empty packet with a time repeats the frame before, as in Theora; without one it is the flush at the end.
        if not packet.size and packet.pts is not None:
            return []
        if packet.is_corrupt and packet.dts is not None:
            self._gaps.harmed(float(packet.dts * packet.time_base))
        if self.container.format.name in BROADCAST:
            # It says that something near it is missing; whether the packet is damaged itself the decoder will show.
            packet.is_corrupt = False
        if not (packet.is_corrupt and packet.size):
            with contextlib.suppress(av.FFmpegError):
                return packet.decode()
        self._damaged += 1
        return []

    def _timed(self, frame: av.VideoFrame, following: int | None = None) -> av.VideoFrame:
        """Give the frame a time after the one before, derived from durations if it has none of its own.

        A damaged time is often far ahead, and would delay all frames after it; so it must not be later than
        `following`, the time of the next frame.
        """
        duration = max(frame.duration or 0, 1)
        if frame.pts is not None and following is not None and following < frame.pts:
            between = following - duration if self._last is None else min(self._last + duration, following - 1)
            if between > (-1 if self._last is None else self._last):
                frame.pts = between
        if frame.pts is None or (self._last is not None and frame.pts <= self._last):
            frame.pts = 0 if self._last is None else self._last + duration
        tick = float(frame.time_base or 0)
        self._longest = max(self._longest, (frame.pts - (self._last or 0)) * tick)
        self._shown, self._last = (frame.pts + (frame.duration or 0)) * tick, frame.pts
        self._gaps.add(frame.pts * tick, (frame.duration or 0) * tick)
        return frame

    def _missing(self) -> list[str]:
        """What is missing compared with what the header says, and what was damaged."""
        faults = [] if self.faults else self._cut()
        faults += self._lost()
        if self._damaged:
            faults.append(f"damaged packets, left out: {self._damaged}")
        if self._concealed == 1:
            faults.append("1 frame is damaged in the source and was concealed by its decoder")
        elif self._concealed:
            faults.append(f"{self._concealed} frames are damaged in the source and were concealed by its decoder")
        return faults

    def _lost(self) -> list[str]:
        """What is missing in the middle of the source, besides the damaged packets."""
        format, count = self.container.format.name, 0
        if format in BROADCAST:
            count = self._gaps.missing(lambda: is_broken(self.path, format, self.stream.id)) - self._damaged
        elif format == "avi" and not missing_bytes(self.path):
            count = promised_packets(self.stream, format) - self._packets_seen
        elif format.startswith("mov") and (at := broken_fragment(self.path)):
            return [f"damaged at byte {at}, where frames or sound are missing"]
        return [f"{count} frame{'s are' if count > 1 else ' is'} missing in the source"] if count > 0 else []

    def _cut(self) -> list[str]:
        """Where the source is cut off, if it is."""
        format = self.container.format.name
        promised, missing = promised_packets(self.stream, format), missing_bytes(self.path)
        if self._packets_seen < promised and (missing or format != "avi"):
            return [f"cut off after {self._packets_seen} of {promised} frames"]
        for got, whole, slack in self._lengths():
            if whole - got > (0.05 if missing else slack):
                return [f"cut off after {got:.1f} of {whole:.1f} seconds"]
        bytes_are = f"{missing} byte{'s are' if missing > 1 else ' is'}"
        return [f"cut off at its end: at least {bytes_are} missing"] if missing else []

    def _lengths(self) -> Iterator[tuple[float, float, float]]:
        """Pairs of the length that was read and the one expected, with the difference to tolerate, in seconds."""
        format, start = self.container.format.name, float(self.clock.start)
        whole = (self.container.duration or 0) / av.time_base
        if format.startswith(("matroska", "flv")):  # their duration counts from 0, not from the first time
            whole -= start
        if format not in BROADCAST:  # there the duration is an estimate, from a clock that may jump
            yield self._end, whole, max(0.5, 0.02 * whole)
        if end := promised_end(self.stream, format):
            yield self._shown, end - start, max(0.1, 2.5 * self._longest)


def _open(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    """The file as a container, and the best video stream in it."""
    if not path.is_file():
        raise VideoError(f"{path}: {'not a file' if path.exists() else 'no such file'}; expected a video")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes); replace it with a whole copy")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: not a video, or cut off before its index ({reason_of(error)}); replace it with a whole copy"
        ) from None
    video = container.streams.best("video")
    cover = video is not None and bool(video.disposition & Disposition.attached_pic)  # as in music files
    if not isinstance(video, av.VideoStream) or video.codec_context is None or cover:
        held = ", ".join("cover picture" if s.type == "video" and cover else s.type for s in container.streams)
        held = held or "nothing"
        container.close()
        raise VideoError(f"{path}: no video stream that can be decoded (it holds: {held}); expected a video")
    return container, video


def first_frame(path: Path) -> av.VideoFrame:
    """The first frame that can be decoded."""
    container, video = _open(path)
    with container:
        for packet in container.demux(video):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return frame
    raise VideoError(f"{path}: no frame of it can be decoded; replace it with a whole copy")
