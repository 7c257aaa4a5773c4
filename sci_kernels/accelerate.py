"""Puts the fused losses into somebody else's network, after proving on small tensors that the numbers agree.

A loss is found by its class name, `SmoothLoss` or `LossFunction`, and keeps the sigma it carries. The rest is
measured on the original itself. With x = y the fidelity term is zero, with a constant y the smoothness term is:

    smooth_weight   = original(x, x) / smooth_loss(x, x)
    fidelity_weight = original(x, constant) / mean((constant - x)^2)

and the colour mode is the one that reproduces values and gradients on further tensors. Some probes are scaled by
sigma, so that the weights of the neighbours vary over most of (0, 1]: at the usual sigma = 10 and values in
[0, 1] they hardly differ from 1, and any colour mode would pass. Others lie in [0, 1], where images do.
"""

import contextlib
import logging
import unittest.mock
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .constants import COLORS, IMPLS
from .functional import illumination_loss, smooth_loss
from .modules import LossFunction, SmoothLoss

_TOLERANCE = 1e-4  # float32 of an original on a probe is good for about 1e-6; the nearest wrong guess is 1e-2 away
_SHAPES = ((2, 11, 13), (1, 9, 12), (1, 7, 10))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replacement:
    """A loss that was replaced: its name in the network, its class, and what stands there now."""

    name: str
    original: str
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.name}: {self.original} -> sci_kernels.{self.module}"


@dataclass(frozen=True)
class Refusal:
    """A loss that was left as it is, and why."""

    name: str
    original: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.original} kept: {self.reason}"


@dataclass
class Acceleration:
    """What `accelerate` did; printing it says so a line each."""

    replaced: list[Replacement] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(map(str, [*self.replaced, *self.refused])) or "no SmoothLoss or LossFunction found"


class _Unlike(Exception):
    """The loss cannot be reproduced; the message says why."""


def accelerate(module: nn.Module, impl: str = "auto") -> Acceleration:
    """Replaces every `SmoothLoss` and `LossFunction` inside `module`, in place, by the fused one.

    Args:
        module: a network of SCI or one of its forks that holds its losses as submodules.
        impl: implementation of the new losses.

    Returns:
        What was replaced, and what was not and why: a loss whose value or gradients differ from ours by more than
        1e-4 on the probes, that cannot be run on them, that has parameters, hooks or no sigma. Each refusal is also a
        `UserWarning`. Inside a refused `LossFunction` a `SmoothLoss` is still replaced, if the whole does the same.

    Raises:
        TypeError: `module` is not an nn.Module.
        ValueError: `module` is itself such a loss: there is no network to put the new one into; `impl` is unknown.

    On a machine without CUDA an original that calls `.cuda()` is probed with that call left out.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module; got {type(module).__name__}")
    if _is_candidate(module):
        raise ValueError(f"module: is itself a {_kind(module)}; construct sci_kernels.{_kind(module)} instead")
    if impl not in IMPLS:
        raise ValueError(f"impl: expected one of {', '.join(IMPLS)}; got {impl!r}")
    report, made = Acceleration(), {}
    for name, child in list(module.named_modules(remove_duplicate=False)):
        inside_new = any(name.startswith(done.name + ".") for done in report.replaced)
        if inside_new or not _is_candidate(child):
            continue
        original = f"{type(child).__module__}.{type(child).__qualname__}"
        try:
            if child not in made:
                made[child] = _replacement(child, impl)
            _put(module, name, made[child], [refusal.name for refusal in report.refused])
        except _Unlike as reason:
            report.refused.append(Refusal(name, original, str(reason)))
            warnings.warn(str(report.refused[-1]), stacklevel=2)
            continue
        report.replaced.append(Replacement(name, original, made[child]))
        _log.info("%s", report.replaced[-1])
    return report


def _put(module: nn.Module, name: str, new: nn.Module, refused: list[str]) -> None:
    """Sets the submodule, or raises _Unlike if a refused loss around it no longer does what it did."""
    old = module.get_submodule(name)
    outer = [module.get_submodule(other) for other in refused if name.startswith(other + ".")]
    before = [_behaviour(loss) for loss in outer]
    module.set_submodule(name, new)
    for loss, was in zip(outer, before, strict=True):
        now = _behaviour(loss)
        if was is None or now is None or any(difference > _TOLERANCE for _, difference in _compare(was, now)):
            module.set_submodule(name, old)
            raise _Unlike(f"the {_kind(loss)} around it, which was kept, does not work the same with the fused one")


def _behaviour(loss: nn.Module) -> tuple[Tensor, ...] | None:
    """Value and gradients of a loss on probes in [0, 1], or None where it cannot be run."""
    for device, channels in _settings():
        with contextlib.suppress(Exception), _probing():
            return _gradients(loss, *_Probes(1.0, device, channels).pairs[0])
    return None


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _is_candidate(module: nn.Module) -> bool:
    ours = isinstance(module, (SmoothLoss, LossFunction))
    return not ours and _kind(module) in (SmoothLoss.__name__, LossFunction.__name__)


def _replacement(original: nn.Module, impl: str) -> nn.Module:
    """The fused module that reproduces `original`, or _Unlike."""
    sigma = _sigma(original)
    if any(True for _ in original.parameters()):
        raise _Unlike("it has parameters, which the fused one would not train")
    if any(part._forward_hooks or part._forward_pre_hooks for part in original.modules()):
        raise _Unlike("it has forward hooks, which would be lost")
    failures = []
    for device, channels in _settings():
        try:
            with _probing():
                return _fit(original, sigma, _Probes(sigma, device, channels), impl)
        except _Unlike:
            raise
        except Exception as error:  # whatever somebody else's code raises on tensors it was not made for
            failures.append(f"{channels} channels on {device}: {' '.join(str(error).split())[:120]}")
    raise _Unlike(f"it cannot be run on a probe ({'; '.join(failures)})")


def _settings() -> Iterator[tuple[str, int]]:
    for device in ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",):
        for channels in (3, 1):
            yield device, channels


def _sigma(original: nn.Module) -> float:
    for module in original.modules():
        if _kind(module) == SmoothLoss.__name__ and hasattr(module, "sigma"):
            try:
                return float(module.sigma)
            except (TypeError, ValueError, RuntimeError):
                raise _Unlike(f"its sigma is no number but {module.sigma!r}") from None
    raise _Unlike("it has no attribute sigma, nor has a SmoothLoss inside it")


class _Probes:
    """Random inputs and illuminations, the same at every call: three pairs in [0, 2 sigma], then two in [0, 1]."""

    def __init__(self, sigma: float, device: str, channels: int):
        generator = torch.Generator(device="cpu").manual_seed(0)

        def draw(shape: tuple[int, int, int], low: float, high: float) -> Tensor:
            n, h, w = shape
            uniform = torch.rand(n, channels, h, w, generator=generator, device="cpu", dtype=torch.float32)
            return (low + (high - low) * uniform).to(device)

        self.pairs = [(draw(shape, 0.0, 2 * sigma), draw(shape, 0.0, 2 * sigma)) for shape in _SHAPES]
        self.pairs.append((draw(_SHAPES[0], 0.0, 1.0), draw(_SHAPES[0], 0.0, 1.0)))
        self.pairs.append((draw(_SHAPES[1], 0.0, 0.2), draw(_SHAPES[1], 0.0, 1.0)))  # a dark image
        self.channels = channels


def _fit(original: nn.Module, sigma: float, probes: _Probes, impl: str) -> nn.Module:
    """Tries the colour modes; the probes decide."""
    nearest = None
    for color in COLORS:
        if color == "ycbcr" and probes.channels == 1:
            continue
        candidate = _candidate(original, sigma, color, probes)
        differences = [_difference(original, candidate, *pair) for pair in probes.pairs]
        worst = max(differences, key=lambda difference: difference[1])
        if worst[1] <= _TOLERANCE:
            candidate.impl = impl
            return candidate
        if nearest is None or worst[1] < nearest[1]:
            nearest = (*worst, color)
    what, size, color = nearest
    raise _Unlike(
        f"its {what} differs by {size:.1e} (relative) from the nearest fit, sigma {sigma:g} and color {color}"
    )


def _candidate(original: nn.Module, sigma: float, color: str, probes: _Probes) -> nn.Module:
    x, y = probes.pairs[0]
    detach_input = _gradients(original, x, y)[1] is None
    if _kind(original) == SmoothLoss.__name__:
        return SmoothLoss(sigma, color, "blocked", detach_input)
    constant = torch.full_like(x, sigma)
    smooth_weight = float(_value(original, x, x)) / float(smooth_loss(x, x, sigma, color, "blocked"))
    fidelity_weight = float(_value(original, x, constant)) / float(
        illumination_loss(x, constant, 1.0, 0.0, impl="blocked")
    )
    return LossFunction(_rounded(fidelity_weight), _rounded(smooth_weight), sigma, color, "blocked", detach_input)


def _rounded(weight: float) -> float:
    """What somebody typed, if that is within float32 of what was measured; otherwise what was measured."""
    if abs(weight) < 1e-6:
        return 0.0
    typed = float(f"{weight:.4g}")
    return typed if abs(typed / weight - 1) < 1e-6 else weight


def _value(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    value = loss(x, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise _Unlike(f"it returns {type(value).__name__}, not a scalar tensor")
    return value


def _gradients(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Value and both gradients; None for an argument that the value does not depend on."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = _value(loss, x, y)
    return value.detach(), *torch.autograd.grad(value, (x, y), allow_unused=True)


def _difference(original: nn.Module, candidate: nn.Module, x: Tensor, y: Tensor) -> tuple[str, float]:
    """What differs most, value or a gradient, and by how much relative to the original's norm."""
    return max(_compare(_gradients(original, x, y), _gradients(candidate, x, y)), key=lambda pair: pair[1])


def _compare(theirs: tuple[Tensor, ...], ours: tuple[Tensor, ...]) -> Iterator[tuple[str, float]]:
    names = ("value", "gradient of the first argument", "gradient of the second argument")
    for name, a, b in zip(names, theirs, ours, strict=True):
        if a is None or b is None:
            yield name, 0.0 if a is b else float("inf")
        else:
            size = float((b - a).norm() / a.norm().clamp_min(1e-30))
            yield name, size if size == size else float("inf")


@contextlib.contextmanager
def _probing() -> Iterator[None]:
    """Gradients on, autocast off; where there is no CUDA, `tensor.cuda()` returns the tensor."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            stack.enter_context(torch.autocast("cuda", enabled=False))
        else:
            stack.enter_context(unittest.mock.patch.object(Tensor, "cuda", lambda self, *args, **kwargs: self))
        yield
