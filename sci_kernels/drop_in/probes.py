"""Small tensors that a foreign loss is run on, and its answers.

Some probes are scaled by sigma, so that the weights of the neighbors vary over most of (0, 1]: with the usual sigma =
10 and values in [0, 1] they hardly differ from 1, and any color transform would agree. Others lie in [0, 1], as images
do. All sides are 12 pixels or more, since some losses pad by 10 with reflection. The number of elements is a multiple
of 3, even with one channel, as the official color transform needs it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CHANNELS = ((3, 3), (1, 1), (2, 2), (3, 1), (1, 3))  # of input and illumination; most forks take three, some one


class Probe(NamedTuple):
    """Arguments for a loss, and their description."""

    what: str
    input: Tensor
    illumination: Tensor

    def __str__(self) -> str:
        return f"{self.what}, {'x'.join(map(str, self.input.shape))} on {self.input.device.type}"


class NotScalarError(TypeError):
    """A loss returned something other than a scalar tensor."""


class Answer(NamedTuple):
    """Value and gradients of a loss; None for an argument that the value does not depend on."""

    value: Tensor
    input: Tensor | None
    illumination: Tensor | None


PARTS = ("value", "gradient of the first argument", "gradient of the second argument")


def probes(sigma: float, device: str, channels: tuple[int, int]) -> list[Probe]:
    """Random inputs and illuminations, the same at every call: single images, and last a batch of two."""
    generator = torch.Generator(device="cpu").manual_seed(0)

    def draw(n: int, channels: int, size: tuple[int, int], low: float, high: float, levels: int = 0) -> Tensor:
        uniform = torch.rand((n, channels, *size), generator=generator, device="cpu", dtype=torch.float32)
        return low + (high - low) * ((uniform * levels).floor() / levels if levels else uniform).to(device)

    def probe(what: str, size: tuple[int, int], *ranges: tuple[float, float], n: int = 1, levels: int = 0) -> Probe:
        pair = zip(channels, ranges, strict=True)
        return Probe(what, *(draw(n, count, size, low, high, levels) for count, (low, high) in pair))

    scaled, image = (0.0, 2 * sigma), (0.0, 1.0)
    return [
        probe("values in [0, 2 sigma]", (15, 14), scaled, scaled),
        probe("values in [0, 1]", (13, 15), image, image),
        probe("values in [0, 2 sigma]", (12, 16), scaled, scaled),
        probe("a dark image", (12, 14), (0.0, 0.2), image),
        probe("a nearly black image", (12, 14), (0.0, 0.03), (0.0, 0.05)),
        probe("an illumination beyond [0, 1]", (12, 13), image, (-0.2, 1.3)),
        probe("four levels, with ties", (12, 13), scaled, scaled, levels=4),
        probe("a larger image", (66, 64), image, image),
        probe("a wide image", (12, 516), image, image),
        probe("a batch of two", (12, 13), scaled, scaled, n=2),
    ]


def answer(loss: Callable[[Tensor, Tensor], Tensor], probe: Probe) -> Answer:
    """Value and gradients of a loss for a probe; NotScalarError if it returns no scalar."""
    x, y = probe.input.clone().requires_grad_(), probe.illumination.clone().requires_grad_()
    value = scalar(loss(x, y))
    if not value.requires_grad:
        return Answer(value, None, None)
    return Answer(value.detach(), *torch.autograd.grad(value, (x, y), allow_unused=True))


def value(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The value of a loss, without its gradients."""
    with torch.no_grad():
        return scalar(loss(x.clone(), y.clone()))


def scalar(value: object) -> Tensor:
    """`value`, if it is a scalar tensor; else NotScalarError."""
    if not isinstance(value, Tensor) or value.dim():
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise NotScalarError(f"it returns {found}, not a scalar tensor")
    return value


def differences(theirs: Answer, ours: Answer) -> list[float]:
    """`relative` of each part, in the order of PARTS."""
    return [relative(b, a) for a, b in zip(theirs, ours, strict=True)]


def relative(ours: Tensor | None, theirs: Tensor | None) -> float:
    """|ours - theirs| / |theirs|, with norms over the tensors; infinite if that is NaN, or if only one is None."""
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return 0.0 if ours is theirs else float("inf")
    exact = theirs.double()
    difference, size = (float(tensor.norm()) for tensor in (ours.to(exact) - exact, exact))
    if difference == 0:
        return 0.0
    return difference / size if size and difference == difference else float("inf")


def devices() -> tuple[str, ...]:
    """Where to run a loss: on a GPU first, since some losses move their tensors there."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def told(error: BaseException) -> str:
    """An exception as one line of text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
