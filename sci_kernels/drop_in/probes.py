"""Small tensors that a foreign loss is run on, and the running.

Some probes are scaled by sigma, so that the weights of the neighbors vary over most of (0, 1]: at the usual sigma = 10
and values in [0, 1] they hardly differ from 1, and any color transform would pass. Others lie in [0, 1], where images
do. All sides are 12 pixels or more, for losses that pad by 10 with reflection, and the elements of every probe can be
grouped in threes, as the official color transform does it, with one channel as well.
"""

import contextlib
import unittest.mock
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

CHANNELS = (3, 1, 2)  # most forks take images, some one plane


class Probe(NamedTuple):
    """Arguments for a loss, and what they are in words."""

    what: str
    input: Tensor
    illumination: Tensor

    def __str__(self) -> str:
        return f"{self.what}, {'x'.join(map(str, self.input.shape))} on {self.input.device.type}"


class Answer(NamedTuple):
    """Value and gradients of a loss; None for an argument that the value does not depend on."""

    value: Tensor
    input: Tensor | None
    illumination: Tensor | None


PARTS = ("value", "gradient of the first argument", "gradient of the second argument")


def probes(sigma: float, device: str, channels: int) -> list[Probe]:
    """Random inputs and illuminations, the same at every call; the last is a batch of two, others are of one image."""
    generator = torch.Generator(device="cpu").manual_seed(0)

    def draw(n: int, height: int, width: int, high: float, levels: int = 0) -> Tensor:
        shape = (n, channels, height, width)
        uniform = torch.rand(shape, generator=generator, device="cpu", dtype=torch.float32)
        return high * ((uniform * levels).floor() / levels if levels else uniform).to(device)

    def probe(what: str, *size: int, high: tuple[float, float], levels: int = 0) -> Probe:
        return Probe(what, *(draw(*size, each, levels) for each in high))

    scaled, image = (2 * sigma, 2 * sigma), (1.0, 1.0)
    return [
        probe("values in [0, 2 sigma]", 1, 15, 14, high=scaled),
        probe("values in [0, 2 sigma]", 1, 12, 16, high=scaled),
        probe("values in [0, 1]", 1, 13, 15, high=image),
        probe("a dark image", 1, 12, 14, high=(0.2, 1.0)),
        probe("four levels, with ties", 1, 12, 13, high=scaled, levels=4),
        probe("a batch of two", 2, 12, 13, high=scaled),
    ]


def answer(loss: Callable[[Tensor, Tensor], Tensor], probe: Probe) -> Answer:
    """What a loss says of a probe; TypeError where it gives no scalar."""
    x, y = probe.input.clone().requires_grad_(), probe.illumination.clone().requires_grad_()
    value = scalar(loss(x, y))
    if not value.requires_grad:
        return Answer(value, None, None)
    return Answer(value.detach(), *torch.autograd.grad(value, (x, y), allow_unused=True))


def value(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of a loss, without its gradients."""
    with torch.no_grad():
        return scalar(loss(x.clone(), y.clone()))


def scalar(value: object) -> Tensor:
    """`value`, if it is a loss; TypeError otherwise."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise TypeError(f"it returns {found}, not a scalar tensor")
    return value


def differences(theirs: Answer, ours: Answer) -> list[float]:
    """By part: |ours - theirs| / |theirs|, norms over the tensor; infinite where one is NaN or has no gradient."""
    return [relative(b, a) for a, b in zip(theirs, ours, strict=True)]


def relative(ours: Tensor | None, theirs: Tensor | None) -> float:
    """|ours - theirs| / |theirs|; infinite where that is no number, or one of them alone is missing."""
    if ours is None or theirs is None:
        return 0.0 if ours is theirs else float("inf")
    difference, size = (float(tensor.double().norm()) for tensor in (ours.to(theirs) - theirs, theirs))
    if difference == 0:
        return 0.0
    return difference / size if size and difference == difference else float("inf")


@contextlib.contextmanager
def foreign_code(device: str) -> Iterator[None]:
    """Gradients on, autocast off, float32 products in float32, new tensors on `device`, random state put back.

    Where there is no CUDA, `tensor.cuda()` returns the tensor: the official color transform calls it.
    """
    cuda = torch.cuda.is_available()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([torch.cuda.current_device()] if cuda else []))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type not in (
            "cpu",
            device,
        ):  # as the mode it is, it costs something at every call
            stack.enter_context(torch.device(device))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        if cuda:
            stack.enter_context(torch.autocast("cuda", enabled=False))
        else:
            stack.enter_context(unittest.mock.patch.object(Tensor, "cuda", lambda self, *args, **kwargs: self))
        yield


@contextlib.contextmanager
def probing(device: str) -> Iterator[None]:
    """`foreign_code`, in one thread: on tensors as small as a probe, waiting for a second takes most of the time."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(foreign_code(device))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        yield


def devices() -> tuple[str, ...]:
    """Where to try a loss: a GPU first, since some move their tensors there."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def told(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
