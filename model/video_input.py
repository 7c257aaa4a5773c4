"""Videos in: the frames of a file, and the packets of its other streams. PyAV comes with the extra `video`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av


class VideoError(ValueError):
    """A video that cannot be read or written; the message is one line that says which and why."""


class VideoReader:
    """The frames of a video's best stream, and the packets of its other streams, in the order of the file.

    Raises VideoError when there is no such file, no video in it, or no frame that can be decoded.
    """

    def __init__(self, path: Path):
        self.first = first_frame(path)  # it alone tells format, colours and rotation for certain
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


def one_line(error: BaseException) -> str:
    """The reason in an error, or its kind where it gives none."""
    text = (error.strerror if isinstance(error, OSError | av.FFmpegError) else None) or str(error)
    return " ".join(text.split()) or type(error).__name__


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


def first_frame(path: Path) -> av.VideoFrame:
    """The first frame that can be decoded."""
    with _open(path) as container:
        for packet in container.demux(container.streams.best("video")):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return frame
    raise VideoError(f"{path}: no frame of it can be decoded; replace it with a whole copy")
