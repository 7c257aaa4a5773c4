"""One clock for all streams of a video: it starts at 0, and where the source's own jumps, it goes on."""

from collections.abc import Iterable
from fractions import Fraction

import av

# Formats that hold what was sent, with the sender's clock: it may start anywhere, wrap around and begin anew.
SENT = ("mpegts", "mpegtsraw", "mpeg")
_GAP = 10  # seconds; a longer one is a jump of the clock
_OVERLAP = 1  # seconds by which the sound before a jump may be longer than the picture
_PRIMING = Fraction(1, 10)  # sound of an encoder's start, before 0 by design, is no longer than this
_REMEMBERED = 8  # jumps that late packets can still be of


class Clock:
    """Moves the time stamps of packets, those of all streams by the same, so that sound stays with its picture.

    In MPEG-TS and MPEG-PS a stream that goes back, or forward by more than 10 seconds, has a new clock: it continues at
    its last time and duration, and all other streams are moved equally as soon as they come to the same jump.

    Args:
        streams: those that are kept; the first time of any of them becomes 0.
        format: the source's, as FFmpeg names it.
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
        self._may_jump = format in SENT
        self._offsets = [-self.start]  # the newest at the end
        self._used: dict[int, Fraction] = {}  # of each stream
        self._ends: dict[int, tuple[Fraction, Fraction]] = {}  # of the last packet of each stream, and its duration

    def move(self, packet: av.Packet) -> bool:
        """Correct the time stamps of the next packet of the file.

        Returns whether it is to be kept: not where the sound before a jump was longer than the picture, and this is
        the sound after the jump that would be heard at the same time.
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
        """The offset, known or new, that puts a stream's next packet near the end of its last one."""
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
            # Another stream has come to the same jump before; the two need not have ended at the same time there.
            if (-_OVERLAP if newer else least) <= time + offset - end <= _GAP:
                return offset
        self._offsets = [*self._offsets[1 - _REMEMBERED :], end - time]
        self.jumps += 1
        return end - time
