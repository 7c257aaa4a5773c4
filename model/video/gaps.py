"""Count the frames that are missing in the middle of a video: gaps in its time stamps where the source is damaged."""

from array import array
from collections.abc import Callable

import numpy as np

_AROUND = 8  # steps on each side of a gap, whose median is the usual step
_EVEN = 0.6  # the share of these steps that has to equal the usual one
_SLACK = 0.1  # tolerance of times, in usual steps
_DELAY = 16  # the most steps between the time of a packet and those of the frames that need it


class Gaps:
    """The times of a video's frames and of its damaged packets, all in seconds of one clock.

    A gap alone is not damage: rates vary, and recordings pause. A gap counts if the frames around it come at an even
    rate, a whole number of frames fits into it, and the source is damaged there.
    """

    def __init__(self):
        self._times, self._durations = array("d"), array("d")
        self._harmed, self._jumps = array("d"), array("d")

    def add(self, time: float, duration: float) -> None:
        """Add a frame, later than the one before."""
        self._times.append(time)
        self._durations.append(duration)

    def harmed(self, time: float) -> None:
        """Add the decoding time of a packet in or next to which something is missing."""
        self._harmed.append(time)

    def jumped(self, time: float) -> None:
        """Add a time at which the source's clock restarts, so that a gap there is not damage."""
        self._jumps.append(time)

    def missing(self, is_harmed: Callable[[], bool]) -> int:
        """How many frames are missing.

        Args:
            is_harmed: tells whether the source is damaged anywhere; called only if no packet explains a gap.
        """
        times = np.frombuffer(self._times) if self._times else np.empty(0)
        steps, known, unknown = np.diff(times), 0, 0
        if not len(steps):
            return 0
        smaller = np.minimum(np.append(steps[1:], np.inf), np.insert(steps[:-1], 0, np.inf))
        for place in np.flatnonzero(steps > 1.5 * smaller).tolist():
            count, usual = self._count(steps, place)
            begin, end = times[place] - _DELAY * usual, times[place + 1]
            if not count or _any(self._jumps, begin, end):
                continue
            if _any(self._harmed, begin, end + _DELAY * usual):
                known += count
            else:
                unknown += count
        return known + (unknown if unknown and is_harmed() else 0)

    def _count(self, steps: np.ndarray, place: int) -> tuple[int, float]:
        """How many frames fit into a gap, 0 if that is uncertain, and the usual step around it."""
        around = np.concatenate([steps[max(place - _AROUND, 0) : place], steps[place + 1 : place + 1 + _AROUND]])
        usual = float(np.median(around))
        if len(around) < 3 or (np.abs(around - usual) <= _SLACK * usual).mean() < _EVEN:
            return 0, usual
        count = (steps[place] - max(self._durations[place], usual)) / usual
        if abs(count - round(count)) > _SLACK:
            return 0, usual
        # Frames that came too late from a disturbed decoder crowd before the gap: they are not missing.
        before = steps[max(place - _AROUND, 0) : place]
        since = int(np.flatnonzero(np.append(True, before > 1.5 * usual))[-1])  # the last gap before
        return max(round(count) - int((before[since:] < 0.5 * usual).sum()), 0), usual


def _any(times: array, begin: float, end: float) -> bool:
    found = np.frombuffer(times) if times else np.empty(0)
    return bool(((begin <= found) & (found <= end)).any())
