"""Sound and subtitles of a video: copied if the result's format supports them; other sound is re-encoded."""

import contextlib
import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

import av
from av.bitstream import BitStreamFilterContext

# The number of packets of each stream that `plan` tries, and of packets of the file that it searches for them.
_TRIED, _LOOKED_AT = 8, 4000
# By number of channels, for sources that do not name their layout.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# Layouts that differ only in the place of the surround pair; encoders support one of the two.
_SAME = {"5.1(side)": "5.1", "5.0(side)": "5.0", "quad(side)": "quad"}
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_OPUS_RATE = 48000
_BIT_RATE = 96000  # per channel
_TS_NONSTRICT = 0x20000  # FFmpeg's flag of a format in which two packets may have the same time
_JITTER = 0.02  # seconds; smaller differences come from coarse time stamps, and are not gaps


class Copied:
    """A stream whose packets are copied.

    Args:
        container: the result, before its header is written.
        source: a stream of sound or subtitles.

    Raises ValueError or av.FFmpegError if the result's format does not support the stream.
    """

    note: str | None = None

    def __init__(self, container: av.container.OutputContainer, source: av.stream.Stream):
        if container.format.name == "mp4" and source.codec_context and source.codec_context.name.startswith("pcm_"):
            raise ValueError("players do not play PCM in MP4, or play it as noise")
        self.stream = container.add_stream_from_template(source)
        self.stream.metadata.update(source.metadata)
        self.stream.disposition = source.disposition
        context = source.codec_context
        # Broadcast AAC has its parameters in each packet, files have them once.
        bare = context.name == "aac" and not context.extradata
        self._filter = BitStreamFilterContext("aac_adtstoasc", source) if bare else None
        # Matroska allows packets with equal times: those of TrueHD are shorter than its millisecond.
        self._step = 0 if container.format.flags & _TS_NONSTRICT else 1
        self._last: int | None = None
        self._end = 0
        # A recorded broadcast, or MP3, which refers to earlier packets, may begin with packets that cannot be decoded.
        self._decoded = source.container.format.name.startswith(("mov", "matroska")) and context.name[:3] != "mp3"

    def packets(self, packet: av.Packet) -> list[av.Packet]:
        """The packets to write for the next packet of the source. Raises av.FFmpegError if that is damaged."""
        self._check(packet)
        if packet.dts is None:
            packet.dts = packet.pts = self._end
        if self._last is not None and packet.dts < self._last + self._step:
            packet.dts = packet.pts = self._end
        self._last, self._end = packet.dts, packet.dts + max(packet.duration or 0, 1)
        parts = self._filter.filter(packet) if self._filter else [packet]  # the filter empties the packet
        for part in parts:
            part.stream = self.stream
        return parts

    def rest(self) -> list[av.Packet]:
        """What to write after the last packet."""
        return []

    def _check(self, packet: av.Packet) -> None:
        """Decode sound to detect damage; before the first decoded packet an error does not count as damage."""
        if packet.stream.type == "audio":
            try:
                self._decoded |= bool(packet.decode())
            except av.FFmpegError:
                if self._decoded:
                    raise


class Encoded:
    """A stream of sound that is decoded and re-encoded: as Opus in WebM, else as AAC.

    Samples follow each other without jitter; a gap in the source remains a gap. Args and errors as for `Copied`.
    """

    def __init__(self, container: av.container.OutputContainer, source: av.stream.Stream):
        if not isinstance(source, av.AudioStream) or source.codec_context is None:
            raise ValueError("only sound can be re-encoded")
        self._decoder = source.codec_context
        named = _name_layout(self._decoder)
        codec: _Codec = "libopus" if container.format.name == "webm" else "aac"
        self._rate = _OPUS_RATE if codec == "libopus" else _aac_rate(self._decoder.rate)
        layout = _fitting_layout(codec, self._rate, named)
        channels = av.AudioLayout(layout).nb_channels
        self.stream = container.add_stream(codec, rate=self._rate, layout=layout, bit_rate=_BIT_RATE * channels)
        self.stream.metadata.update(source.metadata)
        self.stream.disposition = source.disposition
        self._resampler: av.AudioResampler | None = None
        self._begun, self._next = False, 0  # whether there was a frame; the time of the next sample
        name = "Opus" if codec == "libopus" else "AAC"
        self.note: str | None = f"sound re-encoded from {self._decoder.codec.canonical_name} to {name}"
        if channels < av.AudioLayout(named).nb_channels:
            self.note += f", mixed down from {named} to {layout}"

    def packets(self, packet: "av.Packet[av.AudioStream]") -> list[av.Packet]:
        """The packets to write for the next packet of the source. Raises av.FFmpegError if that is damaged."""
        return [part for frame in packet.decode() for part in self._encode(frame)]

    def rest(self) -> list[av.Packet]:
        """What to write after the last packet."""
        parts: list[av.Packet] = []
        with contextlib.suppress(av.FFmpegError):
            parts += [part for frame in self._decoder.decode(None) for part in self._encode(frame)]
        if self._resampler is not None:
            parts += self._encode_samples(self._resampler.resample(None))
        return parts + (self.stream.encode(None) if self._begun else [])

    def _encode(self, frame: av.AudioFrame) -> list[av.Packet]:
        start = None if frame.time is None else round(frame.time * self._rate)
        samples = self._resample(frame)
        if not self._begun or (start is not None and start - self._next > _JITTER * self._rate):
            self._begun, self._next = True, start or 0
        return self._encode_samples(samples)

    def _resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The frame converted for the encoder; the source's sampling may change from one frame to the next."""
        earlier: list[av.AudioFrame] = []
        frame.pts = None
        if self._resampler is not None:
            try:
                return self._resampler.resample(frame)
            except ValueError:  # its sampling differs from that of the frames before
                earlier = self._resampler.resample(None)
        encoder = self.stream.codec_context
        self._resampler = av.AudioResampler(encoder.format, encoder.layout, self._rate)
        return earlier + self._resampler.resample(frame)

    def _encode_samples(self, frames: Iterable[av.AudioFrame]) -> list[av.Packet]:
        parts: list[av.Packet] = []
        for frame in frames:
            frame.time_base, frame.pts = Fraction(1, self._rate), self._next
            self._next += frame.samples
            parts += self.stream.encode(frame)
        return parts


_Codec: TypeAlias = Literal["libopus", "aac"]
Kind = type[Copied] | type[Encoded]


def plan(path: Path, indexes: Iterable[int], format: str, options: dict[str, str]) -> dict[int, Kind]:
    """How each stream can be kept, found by trying its first packets; streams that cannot be kept are left out.

    Args:
        path: the source.
        indexes: the indexes of its streams of sound and subtitles.
        format: FFmpeg's name of the result's format.
        options: the options of that format.
    """
    kinds: dict[int, Kind] = {}
    for kind in (Copied, Encoded):
        undecided = [index for index in indexes if index not in kinds]
        if not undecided:
            break
        with av.open(str(path), metadata_errors="replace") as container:
            first = _first_packets(container, undecided)
            for index in undecided:
                if _works(kind, container.streams[index], first[index], format, options):
                    kinds[index] = kind
    return kinds


def _first_packets(container: av.container.InputContainer, indexes: Iterable[int]) -> dict[int, list[av.Packet]]:
    first: dict[int, list[av.Packet]] = {index: [] for index in indexes}
    with contextlib.suppress(av.FFmpegError):
        for number, packet in enumerate(container.demux()):
            if packet.stream.index in first and packet.size and not (packet.is_corrupt or packet.is_discard):
                first[packet.stream.index].append(packet)
            if number >= _LOOKED_AT or all(len(packets) >= _TRIED for packets in first.values()):
                break
    return {index: packets[:_TRIED] for index, packets in first.items()}


def _works(kind: Kind, source: av.stream.Stream, packets: list[av.Packet], format: str, options: dict) -> bool:
    """Whether a small file with only this stream can be written and decoded; damaged packets do not count."""
    file = io.BytesIO()
    before = _sampling(packets) if kind is Copied and source.type == "audio" and source.codec_context else None
    try:
        with av.open(file, "w", format=format, options=options) as container:
            other = kind(container, source)
            container.start_encoding()
            start = min((packet.dts for packet in packets if packet.dts is not None), default=0)
            for packet in packets:
                if packet.dts is not None and packet.pts is not None:
                    packet.dts, packet.pts = packet.dts - start, packet.pts - start
                with contextlib.suppress(av.FFmpegError):
                    container.mux(other.packets(packet))
            container.mux(other.rest())
        if not packets or source.type != "audio":
            return kind is Copied
        with av.open(io.BytesIO(file.getvalue())) as container:
            after = _sampling(container.demux(container.streams.audio[0]))
        return before in (None, after) if kind is Copied else after is not None
    except (av.FFmpegError, ValueError, LookupError, AttributeError):
        return False


def _sampling(packets: "Iterable[av.Packet[av.AudioStream]]") -> tuple[int, int] | None:
    """Sampling rate and number of channels of the first frame of sound that can be decoded, if there is one."""
    for packet in packets:
        with contextlib.suppress(av.FFmpegError):
            for frame in packet.decode():
                return frame.sample_rate, frame.layout.nb_channels
    return None


def _name_layout(decoder: av.AudioCodecContext) -> str:
    """The decoder's channel layout; if the source does not name it, set to the usual one for the number of channels."""
    if decoder.layout.name.endswith("channels") and decoder.channels in _LAYOUTS:
        decoder.layout = _LAYOUTS[decoder.channels]
    return decoder.layout.name


def _aac_rate(rate: int) -> int:
    return next((known for known in _AAC_RATES if known >= rate), 48000)


def _fitting_layout(codec: _Codec, rate: int, layout: str) -> str:
    """The layout itself if the encoder supports it; else 5.1, for more than 5 channels, or stereo."""
    layout = _SAME.get(layout, layout)
    for candidate in (layout, *(("5.1",) if av.AudioLayout(layout).nb_channels > 5 else ())):
        if candidate.endswith("channels"):
            continue
        encoder = av.CodecContext.create(codec, "w")
        encoder.layout, encoder.sample_rate, encoder.time_base = candidate, rate, Fraction(1, rate)
        if formats := av.Codec(codec, "w").audio_formats:
            encoder.format = formats[0]
        with contextlib.suppress(av.FFmpegError):
            encoder.open()
            return candidate
    return "stereo"
