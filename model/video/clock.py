"""One clock for all streams of a video: it starts at 0, and runs on evenly if the source's clock jumps."""

from collections.abc import Iterable
from fractions import Fraction

import av

# Broadcast formats, recorded with the sender's clock, which may start anywhere, wrap around and restart.
BROADCAST = ("mpegts", "mpegtsraw", "mpeg")
_GAP = 10  # seconds; a longer gap is a jump of the clock
_OVERLAP = 1  # seconds by which the sound before a jump may outlast the picture
_PRIMING = Fraction(1, 10)  # seconds; the longest start of encoded sound that lies before 0 by design
_REMEMBERED = 8  # offsets to which late packets may still belong


class Clock:
    """Shifts the time stamps of packets, equally for all streams, so that sound and picture stay together.

    In MPEG-TS and MPEG-PS a stream whose time goes back, or forward by more than 10 seconds, has a new clock: the
    stream continues where its last packet ended, and all other streams are shifted equally when they reach the jump.

    Args:
        streams: the streams that are kept; the earliest start of them becomes 0.
        format: FFmpeg's name of the source's format.
    """

    def __init__(self, streams: Iterable[av.stream.Stream], format: str):
        starts = [
            stream.start_time * stream.time_base
            for stream in streams
            if stream.start_time is not None and stream.time_base is not None
        ]
        start = min(starts, default=Fraction(0))
        self.start = Fraction(0) if -_PRIMING <= start <= 0 else start
        self.jumps = 0
        self._may_jump = format in BROADCAST
        self._offsets = [-self.start]  # the newest last
        self._used: dict[int, Fraction] = {}  # the offset of each stream
        self._ends: dict[int, tuple[Fraction, Fraction]] = {}  # end and duration of the last packet of each stream

    def move(self, packet: av.Packet) -> bool:
        """Correct the time stamps of the next packet of the file; returns whether to keep the packet.

        If the sound before a jump outlasts the picture, the sound after the jump that would overlap it is not kept.
        """
        offset = self._offset(packet)
        if offset is None:
            return False
        ticks = round(offset / packet.time_base)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
        return True

    def _offset(self, packet: av.Packet) -> Fraction | None:
        index = packet.stream.index
        used = self._used.get(index, self._offsets[-1])
        if not self._may_jump or packet.dts is None or packet.stream.type not in ("video", "audio"):
            return used
        time, duration = packet.dts * packet.time_base, (packet.duration or 0) * packet.time_base
        if self._ends:
            used = self._fitting(index, used, time)
        self._used[index] = used
        if packet.stream.type == "audio" and index in self._ends:
            end, last = self._ends[index]
            if time + used <= end - last:
                return None
        self._ends[index] = (time + used + duration, duration)
        return used

    def _fitting(self, index: int, used: Fraction, time: Fraction) -> Fraction:
        """The offset, known or new, that places the next packet of a stream at the end of its last one."""
        if index in self._ends:
            end, duration = self._ends[index]
            least = -max(duration, Fraction(1, 100))
        else:
            end, least = max(end for end, _ in self._ends.values()), Fraction(-_GAP)
        if least <= time + used - end <= _GAP:
            return used
        newer = True
        for offset in self._offsets[::-1]:
            newer = newer and offset != used
            # Another stream has reached the same jump before; the two may have ended there at different times.
            if (-_OVERLAP if newer else least) <= time + offset - end <= _GAP:
                return offset
        self._offsets = [*self._offsets[1 - _REMEMBERED :], end - time]
        self.jumps += 1
        return end - time
