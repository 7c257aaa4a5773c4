"""Runs a loss, or the user's computation of one, before and after the replacement, on the user's own tensors."""

import functools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .foreign_code import foreign_code, random_states_kept
from .probes import NotScalarError, relative, scalar

Arguments = Sequence[Tensor] | Mapping[str, Tensor]  # of a loss, in order or by name
Batch = Tensor | Arguments | Callable[[], Tensor]

# Relative. The original's rounding decides: a network's gradient passes many layers, and half precision has 3 digits.
_TOLERANCE, _HALF = 1e-3, 5e-2


@dataclass(frozen=True)
class Measured:
    """One computation of a loss: value, gradient as one vector (None if there is none), and the seconds of both."""

    value: Tensor
    gradient: Tensor | None
    seconds: float
    half: bool  # whether a tensor of it is in half precision


@dataclass(frozen=True)
class Verification:
    """The same computation before and after the replacement; `name` is that of the loss, or "" for the network."""

    name: str
    before: float
    after: float
    difference: float  # of the values, relative
    gradient_difference: float | None  # relative, in norm; None if no gradient was compared
    seconds_before: float
    seconds_after: float
    passed: bool

    def __str__(self) -> str:
        gradient = "no gradient compared"
        if self.gradient_difference is not None:
            gradient = f"of the gradient {self.gradient_difference:.1e}"
        return (
            f"{self.name or 'the network'}: on your tensors {self.before:.8g} before, {self.after:.8g} after (relative "
            f"difference {self.difference:.1e}, {gradient}); "
            f"{self.seconds_before * 1e3:.3g} ms before, {self.seconds_after * 1e3:.3g} ms after, "
            f"{self.seconds_before / self.seconds_after:.3g}x"
        )


def compared(name: str, before: Measured, after: Measured) -> Verification:
    """Compares both; passed if they agree within the original's rounding."""
    difference = relative(after.value, before.value)
    of_gradient = None if before.gradient is None else relative(after.gradient, before.gradient)
    bound = _HALF if before.half else _TOLERANCE
    values = (float(before.value), float(after.value), difference, of_gradient, before.seconds, after.seconds)
    return Verification(name, *values, max(difference, of_gradient or 0.0) <= bound)


def understood(module: nn.Module, batch: Batch) -> tuple[Callable[[], Tensor] | None, Arguments | None]:
    """What `batch` is: a computation of the user's loss, or else arguments for each loss; the other one is None."""
    if isinstance(batch, Tensor):
        if not callable(getattr(module, "_loss", None)):
            raise ValueError(
                f"verify: a tensor alone is given to {type(module).__name__}._loss, which does not exist; expected the "
                "two tensors that the loss takes, as a tuple or a dict by name, or a function without arguments that "
                "returns your loss"
            )
        return functools.partial(operator.methodcaller("_loss", batch), module), None
    if callable(batch):
        return batch, None
    held = list(_values(batch)) if isinstance(batch, (Sequence, Mapping)) else []
    if not held or not all(isinstance(tensor, Tensor) for tensor in held):
        found = f"{type(batch).__name__} of {', '.join(type(item).__name__ for item in held) or 'nothing'}"
        raise TypeError(
            "verify: expected a tensor, a tuple or dict of tensors, or a function without arguments; got "
            f"{found if isinstance(batch, (Sequence, Mapping)) else type(batch).__name__}"
        )
    return None, batch


def measure_loss(loss: nn.Module, batch: Arguments) -> Measured:
    """Runs a loss on the user's tensors; those of floating point get a gradient."""
    device = next(iter(_values(batch))).device.type

    def leaves() -> list[Tensor]:
        return [tensor.detach().clone().requires_grad_(tensor.is_floating_point()) for tensor in _values(batch)]

    def call(tensors: list[Tensor]) -> Tensor:
        return loss(**dict(zip(batch, tensors, strict=True))) if isinstance(batch, Mapping) else loss(*tensors)

    with foreign_code(device):
        return _measured(call, leaves, device)


def measure_network(module: nn.Module, function: Callable[[], Tensor]) -> Measured:
    """Runs the user's function and the gradients of the network's parameters; restores what it changes in `module`.

    Raises ValueError if the function does not return a loss that can be compared.
    """
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device.type if tensors else "cpu"
    with _unchanged(module), torch.inference_mode(False), torch.enable_grad():
        try:
            found = _measured(lambda _: function(), lambda: [p for p in module.parameters() if p.requires_grad], device)
        except NotScalarError as error:
            raise ValueError(f"verify: expected your function to return the loss; {error}") from None
        except RuntimeError as error:
            if "backward through the graph a second time" in str(error):
                raise ValueError("verify: expected your function to return the loss before its backward()") from None
            raise
    if not torch.isfinite(found.value):
        raise ValueError(f"verify: your loss is {float(found.value)}, which cannot be compared; give other tensors")
    return found


def _measured(call: Callable[[list[Tensor]], Tensor], leaves: Callable[[], list[Tensor]], device: str) -> Measured:
    """Runs twice and times the second run: the first may compile or set up something."""
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
    """The gradients, zeros for an input that the value does not depend on; empty if it depends on none."""
    if not value.requires_grad or not inputs:
        return []
    grads = torch.autograd.grad(value, inputs, allow_unused=True)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, grads, strict=True)]


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Restores parameters, their gradients, buffers, modes and random states: a user's function may do a whole step."""
    # A parameter is written to only if it has changed, since autograd may need it; of a buffer that cannot be told.
    saved: list[tuple[Tensor, int | None, Tensor]] = []
    saved += [(tensor, _version(tensor), tensor.detach().clone()) for tensor in module.parameters()]
    saved += [(tensor, None, tensor.clone()) for tensor in module.buffers()]
    grads = [(parameter, parameter.grad) for parameter in module.parameters()]
    parts = [(part, part.training, dict(part._buffers)) for part in module.modules()]
    for parameter, _ in grads:
        parameter.grad = None
    with random_states_kept():
        try:
            yield
        finally:
            for part, training, buffers in parts:
                part.training = training
                part._buffers.update(buffers)
            with torch.no_grad():
                for tensor, version, before in saved:
                    if version is None or tensor._version != version:
                        tensor.copy_(before)
            for parameter, grad in grads:
                parameter.grad = grad


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _values(batch: Arguments) -> list[Tensor]:
    return list(batch.values()) if isinstance(batch, Mapping) else list(batch)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
