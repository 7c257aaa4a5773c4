"""Runs a loss, or a whole computation of one, before and after the exchange, on the user's own tensors."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .probes import foreign_code, relative, scalar

Batch = Tensor | Sequence[Tensor] | Mapping[str, Tensor] | Callable[[], Tensor]

# The rounding of the original, not ours: a network's gradient passes many layers, half precision has three digits.
_TOLERANCE, _HALF = 1e-3, 5e-2


@dataclass(frozen=True)
class Measured:
    """One way to a loss: its value, its gradient as one vector (None: there is none), and the seconds of both."""

    value: Tensor
    gradient: Tensor | None
    seconds: float
    half: bool  # whether a part of it is in half precision


@dataclass(frozen=True)
class Verification:
    """The same computation before and after; `name` is that of the loss, or "" of the whole network."""

    name: str
    before: float
    after: float
    difference: float  # of the values, relative
    gradient_difference: float  # in norm, relative
    seconds_before: float
    seconds_after: float
    passed: bool

    def __str__(self) -> str:
        return (
            f"{self.name or 'the network'}: on your tensors {self.before:.8g} before, {self.after:.8g} after (relative "
            f"difference {self.difference:.1e}, of the gradient {self.gradient_difference:.1e}); "
            f"{self.seconds_before * 1e3:.3g} ms before, {self.seconds_after * 1e3:.3g} ms after, "
            f"{self.seconds_before / self.seconds_after:.3g}x"
        )


def compared(name: str, before: Measured, after: Measured) -> Verification:
    """Both side by side; passed where they agree to what the original's rounding allows."""
    difference = relative(after.value, before.value)
    of_gradient = relative(after.gradient, before.gradient)
    bound = _HALF if before.half else _TOLERANCE
    values = (float(before.value), float(after.value), difference, of_gradient, before.seconds, after.seconds)
    return Verification(name, *values, max(difference, of_gradient) <= bound)


def whole(module: nn.Module, batch: Batch) -> Callable[[], Tensor] | None:
    """The computation of the whole network that `batch` stands for; None where it is arguments for each loss."""
    if isinstance(batch, Tensor):
        if not callable(getattr(module, "_loss", None)):
            raise ValueError(
                f"verify: a tensor alone is given to {type(module).__name__}._loss, which does not exist; expected the "
                "two tensors that the loss takes, as a tuple or a dict by name, or a function without arguments that "
                "returns your loss"
            )
        return lambda: module._loss(batch)
    if callable(batch):
        return batch
    if not isinstance(batch, (Sequence, Mapping)) or not all(isinstance(tensor, Tensor) for tensor in _values(batch)):
        raise TypeError(
            f"verify: expected a tensor, a tuple or dict of tensors, or a function without arguments; got "
            f"{type(batch).__name__}"
        )
    return None


def measure_loss(loss: nn.Module, batch: Sequence[Tensor] | Mapping[str, Tensor]) -> Measured:
    """A loss called with the user's tensors, of which those of floating point get a gradient."""
    device = next(iter(_values(batch))).device.type

    def leaves() -> list[Tensor]:
        return [tensor.detach().clone().requires_grad_(tensor.is_floating_point()) for tensor in _values(batch)]

    def call(tensors: list[Tensor]) -> Tensor:
        return loss(**dict(zip(batch, tensors, strict=True))) if isinstance(batch, Mapping) else loss(*tensors)

    with foreign_code(device):
        return _measured(call, leaves, device)


def measure_network(module: nn.Module, function: Callable[[], Tensor]) -> Measured:
    """The user's function and the gradient of the network's parameters; buffers and random state are put back."""
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device.type if tensors else "cpu"
    with _unchanged(module), torch.enable_grad():
        return _measured(lambda _: function(), lambda: [p for p in module.parameters() if p.requires_grad], device)


def _measured(call: Callable[[list[Tensor]], Tensor], leaves: Callable[[], list[Tensor]], device: str) -> Measured:
    """Run twice: what is compiled or set up at the first call is not timed."""
    for _ in range(2):
        inputs = leaves()
        _wait(device)
        start = time.perf_counter()
        value = scalar(call(inputs))
        grads = _gradients(value, inputs)
        _wait(device)
        seconds = time.perf_counter() - start
    vector = torch.cat([grad.detach().flatten().to(value) for grad in grads]) if grads else None
    half = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in (value, *inputs))
    return Measured(value.detach(), vector, seconds, half)


def _gradients(value: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """With zeros where the value does not depend on an input; empty where it depends on none."""
    if not value.requires_grad or not inputs:
        return []
    grads = torch.autograd.grad(value, inputs, allow_unused=True)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, grads, strict=True)]


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Whatever happens inside, buffers and random states are as before; BatchNorm's statistics move with each call."""
    saved = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in saved:
                    buffer.copy_(before)


def _values(batch: Sequence[Tensor] | Mapping[str, Tensor]) -> list[Tensor]:
    return list(batch.values()) if isinstance(batch, Mapping) else list(batch)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
