"""Says in what a foreign smoothness loss differs from this one, from its values on a few made-up illuminations.

With a constant input all weights are 1. Of an illumination that is 0 but for a 1 at p, or at q, or at both,

    value(p) + value(q) - value(p and q) = 4 / pixels compared,  pixels compared = (H - |dy|) (W - |dx|)

if p and q are compared, by the mean over the pixels of a direction, and 0 if they are not.
"""

import itertools
import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from ..constants import OFFSETS, RADIUS
from ..modules import SmoothLoss

_SIDE = 15  # pixels; a multiple of 3, and wide enough for neighbors twice as far as this loss has them
_REACH = RADIUS + 2
_CLOSE = 1e-3  # relative
_DIFFERENCES = (0.5, 1.0, 2.0)  # of the input, in units of sigma

Loss = Callable[[Tensor, Tensor], Tensor]


def diagnosis(loss: Loss, fitted: SmoothLoss, channels: int, device: str) -> list[str]:
    """What differs, a clause each; none where no experiment shows it or can be run."""
    canvas = _Canvas(loss, channels, device)
    findings = [finding for experiment in (_neighbors, _norm, _law, _batch) for finding in _tried(experiment, canvas)]
    return findings + _tried(_weights, canvas, _Canvas(fitted, channels, device), fitted.sigma)


def _tried(experiment: Callable[..., str | None], *arguments: object) -> list[str]:
    try:
        finding = experiment(*arguments)
    except Exception:  # somebody else's code, on tensors it was not made for
        return []
    return [finding] if finding else []


class _Canvas:
    """Values of a loss on small images with a constant input."""

    def __init__(self, loss: Loss, channels: int, device: str):
        self.loss, self.channels, self.device = loss, channels, device

    def value(self, *points: tuple[int, int], height: float = 1.0, channels: int = 1, batch: int = 1) -> float:
        """Of an illumination that is 0 but for `height` at these points of the first channels."""
        illumination = self._full(batch, 0.0)
        for dy, dx in points:
            illumination[:, :channels, _SIDE // 2 + dy, _SIDE // 2 + dx] = height
        return float(self.loss(self._full(batch, 0.5), illumination))

    def weighed(self, difference: float) -> float:
        """Of one bright point whose input differs from that of all others by `difference`."""
        image, illumination = self._full(1, 0.5), self._full(1, 0.0)
        for tensor, step in ((image, difference), (illumination, 1.0)):
            tensor[:, :, _SIDE // 2, _SIDE // 2] += step
        return float(self.loss(image, illumination))

    def _full(self, batch: int, value: float) -> Tensor:
        return torch.full((batch, self.channels, _SIDE, _SIDE), value, device=self.device)


def _neighbors(canvas: _Canvas) -> str | None:
    alone = canvas.value((0, 0))
    raw, counted = {}, {}
    for dy, dx in itertools.product(range(_REACH + 1), range(-_REACH, _REACH + 1)):
        if (dy, dx) > (0, 0):
            raw[dy, dx] = alone + canvas.value((dy, dx)) - canvas.value((0, 0), (dy, dx))
            counted[dy, dx] = raw[dy, dx] * (_SIDE - dy) * (_SIDE - abs(dx)) / 4
    largest = max(map(abs, counted.values()))
    theirs = {offset for offset, share in counted.items() if abs(share) > _CLOSE * largest}
    ours = {offset for offset in OFFSETS if offset > (0, 0)}
    if theirs != ours:
        without, also = (_offsets(*some) for some in ((ours, theirs), (theirs, ours)))
        named = " and ".join(filter(None, (without and f"without {without}", also and f"with {also} besides")))
        return f"it compares each pixel with {2 * len(theirs)} others: {named}"
    if _equal([raw[offset] for offset in ours]):
        return (
            f"it divides the sum of every direction by {4 / raw[0, 1]:.4g}, where this loss takes the mean over the "
            "pixels compared"
        )
    usual = statistics.median(counted[offset] for offset in ours)
    odd = max(ours, key=lambda offset: abs(counted[offset] / usual - 1))
    if abs(counted[odd] / usual - 1) > _CLOSE:
        return f"the neighbors at {_both(odd)} count {counted[odd] / usual:.4g} times as much as others"
    return f"it is {usual:.4g} times this loss where the input is constant" if abs(usual - 1) > _CLOSE else None


def _norm(canvas: _Canvas) -> str | None:
    if canvas.channels == 1:
        return None
    ratio = canvas.value((0, 0), channels=2) / canvas.value((0, 0))
    if abs(ratio - 2) < 2 * _CLOSE:
        return None
    order = f" (a norm of order {1 / math.log2(ratio):.3g})" if ratio > 1 + _CLOSE else ""
    return f"a difference in two channels counts {ratio:.4g} times that in one{order}; here channels are added, p = 1"


def _law(canvas: _Canvas) -> str | None:
    ratio = canvas.value((0, 0), height=1.0) / canvas.value((0, 0), height=0.1)
    if abs(ratio - 10) < 10 * _CLOSE:
        return None
    return f"a difference ten times as large counts {ratio:.4g} times as much; here differences are absolute values"


def _batch(canvas: _Canvas) -> str | None:
    ratio = canvas.value((0, 0), batch=2) / canvas.value((0, 0))
    if abs(ratio - 1) < _CLOSE:
        return None
    return f"the same image twice gives {ratio:.4g} times its value; here a batch gives the mean"


def _weights(canvas: _Canvas, ours: _Canvas, sigma: float) -> str | None:
    steps = [step * sigma for step in _DIFFERENCES]
    theirs, expected = ([each.weighed(step) / each.weighed(0.0) for step in steps] for each in (canvas, ours))
    found = max(zip(steps, theirs, expected, strict=True), key=lambda values: abs(values[1] - values[2]))
    if abs(found[1] - found[2]) < _CLOSE:
        return None
    return (
        "where the input of a pixel differs by {:.3g}, its neighbors weigh {:.4g}; by exp(-|Y(p) - Y(q)|^2 / "
        "(2 sigma^2)), as here, {:.4g}".format(*found)
    )


def _equal(values: list[float]) -> bool:
    return max(values) - min(values) < _CLOSE * abs(max(values))


def _offsets(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> str:
    """Those of one set alone, as (dy, dx)."""
    return ", ".join(map(_both, sorted(some - others)))


def _both(offset: tuple[int, int]) -> str:
    return f"+-({offset[0]}, {offset[1]})"
