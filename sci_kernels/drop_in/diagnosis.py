"""Finds out how a foreign smoothness loss differs from this library's, from its values on a few synthetic
illuminations.

Take illuminations that are 0 except for a 1 at p, or at q, or at both, and an input of one color, so that all weights
are 1. Then, if p and q are compared, by the mean over the pixels of a direction,

    value(p) + value(q) - value(p and q) - value(none) = 4 / pixels compared,
    pixels compared = (H - |dy|) (W - |dx|)

and it is 0 if they are not.
"""

import functools
import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from ..constants import OFFSETS, RADIUS
from ..modules import SmoothLoss
from .probes import Probe

_SIDE = 15  # pixels; a multiple of 3, and wide enough for neighbors twice as far away as those of this loss
_REACH = RADIUS + 2
_NAMED = 5  # neighbors that a message names at most
_CLOSE = 1e-3  # relative
_DIFFERENCES = (0.5, 1.0, 2.0)  # of the input, in units of sigma

Loss = Callable[[Tensor, Tensor], Tensor]


def diagnosis(loss: Loss, fitted: SmoothLoss, like: Probe) -> list[str]:
    """The differences, a clause each; empty if no experiment shows any, or if none can be run.

    Each experiment is made with both losses and compares the results, rather than the foreign one's with an expected
    value: with "reference" colors, for example, a constant input has more than one color.
    """
    canvas, ours = (_Canvas(each, like, fitted.sigma) for each in (loss, fitted))
    findings = []
    for experiment in (_neighbors, _norm, _law, _batch, _weights):
        try:
            finding = experiment(canvas, ours)
        except Exception:  # somebody else's code, on tensors it was not made for
            continue
        findings += [finding] if finding else []
    return findings


class _Canvas:
    """Values of a loss on small images with a constant input."""

    def __init__(self, loss: Loss, like: Probe, sigma: float):
        self.loss, self.device, self.sigma = loss, like.input.device, sigma
        self.channels, self.lights = like.input.shape[1], like.illumination.shape[1]

    def value(self, *points: tuple[int, int], height: float = 1.0, channels: int = 1, batch: int = 1) -> float:
        """The value for an illumination that is 0 except for `height` at these points of the first channels."""
        illumination = self._full(batch, 0.0, self.lights)
        for dy, dx in points:
            illumination[:, :channels, _SIDE // 2 + dy, _SIDE // 2 + dx] = height
        return float(self.loss(self._full(batch, 0.5, self.channels), illumination))

    @functools.cached_property
    def alone(self) -> float:
        """The value for one bright point."""
        return self.value((0, 0))

    @functools.cached_property
    def dark(self) -> float:
        """The value for no bright point."""
        return self.value()

    def interaction(self, offset: tuple[int, int]) -> float:
        """How much less the value for two bright points is than that for each alone: 0 if they are not compared."""
        return self.alone + self.value(offset) - self.value((0, 0), offset) - self.dark

    def weighed(self, difference: float) -> float:
        """The value for one bright point whose input differs from that of all other pixels by `difference`."""
        image, illumination = self._full(1, 0.5, self.channels), self._full(1, 0.0, self.lights)
        for tensor, step in ((image, difference), (illumination, 1.0)):
            tensor[:, :, _SIDE // 2, _SIDE // 2] += step
        return float(self.loss(image, illumination))

    def _full(self, batch: int, value: float, channels: int) -> Tensor:
        return torch.full((batch, channels, _SIDE, _SIDE), value, device=self.device)


def _neighbors(canvas: _Canvas, ours: _Canvas) -> str | None:
    near = [(dy, dx) for dy in range(_REACH + 1) for dx in range(-_REACH, _REACH + 1) if (dy, dx) > (0, 0)]
    found = {offset: canvas.interaction(offset) for offset in near}
    largest = max(map(abs, found.values()))
    compared = {offset for offset in near if abs(found[offset]) > _CLOSE * largest}
    usual = {offset for offset in OFFSETS if offset > (0, 0)}
    if compared != usual:
        without, also = _offsets(usual - compared), _offsets(compared - usual)
        named = " and ".join(filter(None, (without and f"without {without}", also and f"with {also} besides")))
        return f"it compares each pixel with {2 * len(compared)} others: {named}"
    pixels = {(dy, dx): (_SIDE - dy) * (_SIDE - abs(dx)) for dy, dx in usual}
    shares = {offset: found[offset] / ours.interaction(offset) for offset in usual}
    sums = [found[offset] / 4 for offset in usual], [shares[offset] / pixels[offset] for offset in usual]
    if any(map(_equal, sums)) and not _equal(list(shares.values())):
        divisor = 1 / sums[0 if _equal(sums[0]) else 1][0]
        return (
            f"it divides the sum of every direction by {divisor:.4g}, where this loss takes the mean over the pixels "
            "compared"
        )
    middle = statistics.median(shares.values())
    odd = max(usual, key=lambda offset: abs(shares[offset] / middle - 1))
    if abs(shares[odd] / middle - 1) > _CLOSE:
        return f"the neighbors at {_both(odd)} count {shares[odd] / middle:.4g} times as much as others"
    return f"it is {middle:.4g} times this loss where the input is constant" if abs(middle - 1) > _CLOSE else None


def _norm(canvas: _Canvas, ours: _Canvas) -> str | None:
    if canvas.lights == 1:
        return None
    ratio, usual = (each.value((0, 0), channels=2) / each.alone for each in (canvas, ours))
    if abs(ratio - usual) < 2 * _CLOSE:
        return None
    order = f" (a norm of order {1 / math.log2(ratio):.3g})" if ratio > 1 + _CLOSE else ""
    return f"a difference in two channels counts {ratio:.4g} times that in one{order}; here channels are added, p = 1"


def _law(canvas: _Canvas, ours: _Canvas) -> str | None:
    ratio, usual = (each.alone / each.value((0, 0), height=0.1) for each in (canvas, ours))
    if abs(ratio - usual) < 10 * _CLOSE:
        return None
    return f"a difference ten times as large counts {ratio:.4g} times as much; here differences are absolute values"


def _batch(canvas: _Canvas, ours: _Canvas) -> str | None:
    ratio = canvas.value((0, 0), batch=2) / canvas.alone
    if abs(ratio - 1) < _CLOSE:
        return None
    return f"the same image twice gives {ratio:.4g} times its value; here a batch gives the mean"


def _weights(canvas: _Canvas, ours: _Canvas) -> str | None:
    steps = [step * ours.sigma for step in _DIFFERENCES]
    theirs, usual = ([each.weighed(step) / each.weighed(0.0) for step in steps] for each in (canvas, ours))
    found = max(zip(steps, theirs, usual, strict=True), key=lambda values: abs(values[1] - values[2]))
    if abs(found[1] - found[2]) < _CLOSE:
        return None
    return (
        "where the input of a pixel differs by {:.3g}, its neighbors weigh {:.4g}; by exp(-|Y(p) - Y(q)|^2 / "
        "(2 sigma^2)), as here, {:.4g}".format(*found)
    )


def _equal(values: list[float]) -> bool:
    return max(values) - min(values) < _CLOSE * abs(max(values))


def _offsets(some: set[tuple[int, int]]) -> str:
    """The first few of these offsets, as text."""
    return ", ".join([*map(_both, sorted(some)[:_NAMED]), *(["..."] if len(some) > _NAMED else [])])


def _both(offset: tuple[int, int]) -> str:
    return f"+-({offset[0]}, {offset[1]})"
