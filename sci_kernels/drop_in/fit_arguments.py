"""Finds the arguments with which a fused loss reproduces a foreign one, by running the foreign one.

Sigma is read from the original's attribute; without one, the published value is tried. The rest is measured. The
fidelity term is zero for x = y, and the smoothness term for a constant y:

    smooth_weight   = original(x, x) / smooth_loss(x, x)
    fidelity_weight = original(x, constant) / mean((constant - x)^2)

The color transform is the one that reproduces value and gradients on the probes.
"""

import copy
import inspect
import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..constants import COLORS, SIGMA
from ..functional import illumination_loss, smooth_loss
from ..modules import LossFunction, SmoothLoss
from .diagnosis import diagnosis
from .foreign_code import probing
from .probes import (
    CHANNELS,
    PARTS,
    Answer,
    NotScalarError,
    Probe,
    answer,
    devices,
    differences,
    probes,
    relative,
    told,
    value,
)

NAMES = (SmoothLoss.__name__, LossFunction.__name__)  # of the classes that may be replaced
_TOLERANCE = 1e-5  # an original in float32 is accurate to 2e-7 on a probe; the nearest wrong guess differs by 1e-3
_HALF_TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}  # for an original with its color matrix in that dtype
_IMPL = "blocked"  # the implementation that is compared: it runs on every device, without compilation


class Unlike(Exception):
    """The loss cannot be reproduced; the message says why. `nearest` is the most similar fused loss, if any."""

    def __init__(self, reason: str, nearest: SmoothLoss | LossFunction | None = None):
        super().__init__(reason)
        self.nearest = nearest


def is_loss(module: nn.Module) -> bool:
    """Whether a module has the class name of a loss that may be replaced."""
    return type(module).__name__ in NAMES


def sigma_owner(original: nn.Module) -> nn.Module | None:
    """The first SmoothLoss with an attribute sigma: the module itself or one inside it; None if there is none."""
    kind = SmoothLoss
    losses = (part for part in original.modules() if isinstance(part, kind) or type(part).__name__ == kind.__name__)
    return next((module for module in losses if hasattr(module, "sigma")), None)


def argument_names(original: nn.Module) -> list[str]:
    """The names of the first two arguments of its forward; Unlike if it cannot be called with two."""
    try:
        parameters = inspect.signature(original.forward).parameters.values()
    except (TypeError, ValueError):  # it is not written in Python
        return []
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needed = [p.name for p in named if p.default is p.empty]
    if len(needed) > 2:
        raise Unlike(f"its forward takes {len(needed)} arguments ({', '.join(needed)}); the fused one takes two")
    return [p.name for p in named[:2]] if len(named) >= 2 else []


def fit(original: nn.Module) -> SmoothLoss | LossFunction:
    """A `SmoothLoss` or `LossFunction` that reproduces `original`; Unlike if there is none.

    A copy of the original is run, because the official loss keeps its arguments as attributes.
    """
    sigma = _sigma(original)
    _refuse_what_would_be_lost(original)
    argument_names(original)
    failures: dict[str, str] = {}
    for device, channels in itertools.product(devices(), CHANNELS):
        with probing(device):
            loss, samples = copied(original, device), probes(sigma, device, channels)
            for start in (0, 1):  # some losses assert that values lie in [0, 1]
                try:
                    first = answer(loss, samples[start])
                except Exception as error:  # anything: it is somebody else's code, on tensors it was not made for
                    failures.setdefault(told(error), f"on {samples[start]}")
                    continue
                return _tried(_Trial(loss, sigma, _tolerance(original)), samples, start, first)
    tried = "; ".join(f"{where}: {error}" for error, where in failures.items())
    raise Unlike(f"it could not be run as loss(input, illumination), {tried}")


def _tried(trial: "_Trial", samples: list[Probe], start: int, first: Answer) -> SmoothLoss | LossFunction:
    try:
        return trial.fit(samples, start, first)
    except Unlike:
        raise
    except Exception as error:  # of the loss on other tensors, or of the fused one, which does not accept these
        raise Unlike(f"it runs on {samples[start]}, but cannot be compared: {told(error)}") from None


def copied(original: nn.Module, device: str) -> nn.Module:
    """A copy in float32 on `device`; Unlike if that cannot be made."""
    loss = duplicate(original)
    try:
        return loss.to(device, torch.float32)
    except Exception as error:
        raise Unlike(f"what it holds cannot be moved to {device}: {told(error)}") from None


def duplicate(module: nn.Module) -> nn.Module:
    """A copy; Unlike if that cannot be made.

    The official loss keeps its last arguments as attributes. If they are results of autograd, which deepcopy refuses,
    they become empty tensors in the copy.
    """
    held = (tensor for part in module.modules() for tensor in pytree.tree_leaves(dict(vars(part))))
    graph = [tensor for tensor in held if isinstance(tensor, Tensor) and not tensor.is_leaf]
    try:
        return copy.deepcopy(module, {id(tensor): tensor.new_empty(0) for tensor in graph})
    except Exception as error:
        raise Unlike(f"it cannot be copied, and only a copy may be run: {told(error)}") from None


def by_hand(loss: nn.Module, nearest: SmoothLoss | LossFunction | None) -> str:
    """The fused loss that the user may construct, as text."""
    kind = type(loss).__name__
    if nearest is None:
        sigma = getattr(sigma_owner(loss), "sigma", "...")
        return f"by hand, should it be this loss: sci_kernels.{kind}(sigma={sigma})"
    weights = ""
    if isinstance(nearest, LossFunction):
        weights = f"fidelity_weight={nearest.fidelity_weight:.4g}, smooth_weight={nearest.smooth_weight:.4g}, "
    detached = ", detach_input=True" if nearest.detach_input else ""
    arguments = f"{weights}sigma={nearest.sigma:g}, color={nearest.color!r}{detached}"
    return f"the nearest by hand: sci_kernels.{kind}({arguments})"


def _sigma(original: nn.Module) -> float:
    held = getattr(sigma_owner(original), "sigma", SIGMA)
    try:
        sigma = float(held)
    except (TypeError, ValueError, RuntimeError):
        raise Unlike(f"its sigma is no number but {held!r}") from None
    if not 0 < sigma < float("inf"):
        raise Unlike(f"its sigma is {sigma:g}; expected a positive number")
    return sigma


def _refuse_what_would_be_lost(original: nn.Module) -> None:
    if any(parameter.requires_grad for parameter in original.parameters()):
        raise Unlike("it has parameters, which the fused one would not train")
    if any(type(part).get_extra_state is not nn.Module.get_extra_state for part in original.modules()):
        raise Unlike("it has an extra state in state dicts, which would be lost")
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(part, kind) for part in original.modules() for kind in kinds):
        raise Unlike("it has hooks, which would be lost; remove them, accelerate, and register them on the new one")


def _tolerance(original: nn.Module) -> float:
    return max([_TOLERANCE, *(_HALF_TOLERANCE.get(buffer.dtype, 0.0) for buffer in original.buffers())])


class _Trial(NamedTuple):
    """A foreign loss that runs, to be compared with candidates."""

    loss: nn.Module
    sigma: float
    tolerance: float  # of every difference, relative

    def fit(self, samples: list[Probe], start: int, first: Answer) -> SmoothLoss | LossFunction:
        """The fused loss that agrees on every probe; `first` is the foreign one's answer to the probe `start`."""
        sample = samples[start]
        again = relative(value(self.loss, sample.input, sample.illumination), first.value)
        if again > _TOLERANCE / 10:
            raise Unlike(f"it is random: its value differs by {again:.1e} between two calls on {sample}")
        fitted = self._nearest(sample, first)
        self._require_alike(fitted, sample, first)
        for other in samples:
            if other is not sample:
                self._require_alike(fitted, other, self._answer_if_run(other))
        self._require_alike_in_other_mode(fitted, sample)
        self._require_other_channels(fitted, sample)
        return fitted

    def _nearest(self, sample: Probe, theirs: Answer) -> SmoothLoss | LossFunction:
        """The candidate that differs least; those whose value agrees come before all others."""
        candidates = {}
        for color in COLORS:
            if color == "ycbcr" and sample.input.shape[1] != 3:
                continue
            candidate = _candidate(self.loss, self.sigma, color, sample, theirs.input is None)
            found = differences(theirs, answer(candidate, sample))
            candidates[found[0] > self.tolerance, max(found)] = candidate
            if max(found) <= self.tolerance:
                break
        return candidates[min(candidates)]

    def _answer_if_run(self, sample: Probe) -> Answer | None:
        """The answer; None if the loss does not accept such tensors, for example a batch of two."""
        try:
            return answer(self.loss, sample)
        except NotScalarError as error:
            raise Unlike(f"on {sample} {error}") from None
        except Exception:
            return None

    def _require_alike_in_other_mode(self, fitted: SmoothLoss | LossFunction, sample: Probe) -> None:
        training = self.loss.training
        self.loss.train(not training)
        try:
            self._require_alike(
                fitted, sample, self._answer_if_run(sample), f" in {'eval' if training else 'train'} mode"
            )
        finally:
            self.loss.train(training)

    def _require_other_channels(self, fitted: SmoothLoss | LossFunction, like: Probe) -> None:
        """Unlike, if both losses also run on other numbers of channels and differ there."""
        for channels in CHANNELS:
            if channels != (like.input.shape[1], like.illumination.shape[1]):
                sample = probes(self.sigma, like.input.device.type, channels)[0]
                try:
                    answer(fitted, sample)
                except ValueError:
                    continue
                self._require_alike(fitted, sample, self._answer_if_run(sample))

    def _require_alike(
        self, fitted: SmoothLoss | LossFunction, sample: Probe, theirs: Answer | None, where: str = ""
    ) -> None:
        if theirs is None:
            return
        ours = answer(fitted, sample)
        if theirs.value.dtype != ours.value.dtype:
            raise Unlike(f"on {sample} it returns {theirs.value.dtype}, where the fused one returns {ours.value.dtype}")
        found = differences(theirs, ours)
        if max(found) <= self.tolerance:
            return
        part = max(range(len(found)), key=found.__getitem__) if found[0] <= self.tolerance else 0
        reasons = [f"its {PARTS[part]} differs by {_size(found[part])} on {sample}{where}"]
        if part == 1 and found[2] <= self.tolerance:
            reasons.append("all else agrees, as if a part of it took its first argument detached")
        elif isinstance(fitted, SmoothLoss):
            reasons += diagnosis(self.loss, fitted, sample)
        raise Unlike("; ".join(reasons), fitted)


def _size(difference: float) -> str:
    if difference == float("inf"):
        return "an infinite amount (NaN, or a gradient that only one of the two has)"
    return f"{difference:.1%}" if 0.01 <= difference < 10 else f"{difference:.1e} times its size"


def _candidate(
    loss: nn.Module, sigma: float, color: str, sample: Probe, detach_input: bool
) -> SmoothLoss | LossFunction:
    if type(loss).__name__ == SmoothLoss.__name__:
        return SmoothLoss(sigma, color, _IMPL, detach_input)
    x, constant = sample.input, torch.full_like(sample.input, sigma)
    smoothness = smooth_loss(x, x, sigma, color, _IMPL)
    fidelity = illumination_loss(x, constant, 1.0, 0.0, impl=_IMPL)
    smooth_weight = float(value(loss, x, x) / smoothness)
    fidelity_weight = float(value(loss, x, constant) / fidelity)
    weights = (_typed(fidelity_weight), _typed(smooth_weight))
    return LossFunction(*weights, sigma, color, _IMPL, detach_input)


def _typed(weight: float) -> float:
    """The weight rounded to what somebody may have typed, if that differs by no more than float32's rounding."""
    if abs(weight) < 1e-6:
        return 0.0
    typed = float(f"{weight:.4g}")
    return typed if abs(typed / weight - 1) < 1e-6 else weight
