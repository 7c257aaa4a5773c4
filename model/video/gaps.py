"""Pictures that are missing in the middle of a video: gaps between its times, where its source was harmed."""

from array import array
from collections.abc import Callable

import numpy as np

_AROUND = 8  # steps on each side of a gap that tell the usual one
_EVEN = 0.6  # of them, the part that must be the usual one
_SLACK = 0.1  # of the usual step, by which times may be off
_DELAY = 16  # steps, at most, between the time of a packet and those of the pictures it was needed for


class Gaps:
    """The times of a video's pictures, and where its packets were harmed. All in seconds of one clock.

    A gap alone is no damage: rates vary, and who records may pause. It counts where the pictures around come at an even
    rate, it has room for a whole number of them, and the source was harmed there.
    """

    def __init__(self):
        self._times, self._durations = array("d"), array("d")
        self._harmed, self._jumps = array("d"), array("d")

    def add(self, time: float, duration: float) -> None:
        """A picture, later than the one before."""
        self._times.append(time)
        self._durations.append(duration)

    def harmed(self, time: float) -> None:
        """Something is missing before, in or after the packet of that decoding time."""
        self._harmed.append(time)

    def jumped(self, time: float) -> None:
        """The source's clock began anew there, and the gap is not the source's."""
        self._jumps.append(time)

    def missing(self, is_harmed: Callable[[], bool]) -> int:
        """How many pictures are missing.

        Args:
            is_harmed: whether the source is harmed anywhere; asked only if there is a gap that no packet explains.
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
        """How many pictures a gap has room for, 0 where that is uncertain, and the usual step around it."""
        around = np.concatenate([steps[max(place - _AROUND, 0) : place], steps[place + 1 : place + 1 + _AROUND]])
        usual = float(np.median(around))
        if len(around) < 3 or (np.abs(around - usual) <= _SLACK * usual).mean() < _EVEN:
            return 0, usual
        count = (steps[place] - max(self._durations[place], usual)) / usual
        if abs(count - round(count)) > _SLACK:
            return 0, usual
        # Pictures that a harmed decoder gives too late have been moved to the ones before, and are not missing.
        before = steps[max(place - _AROUND, 0) : place]
        since = int(np.flatnonzero(np.append(True, before > 1.5 * usual))[-1])  # the gap before
        return max(round(count) - int((before[since:] < 0.5 * usual).sum()), 0), usual


def _any(times: array, begin: float, end: float) -> bool:
    found = np.frombuffer(times) if times else np.empty(0)
    return bool(((begin <= found) & (found <= end)).any())
