"""The module that replaces a foreign loss: the fused one, with all attributes of the original.

The original stays inside, unregistered, for its attributes, for calls with more than two arguments, and to be restored.
Both share the original's dictionaries of submodules, buffers and hooks. So the keys of a state dict stay, `.to()`,
deepcopy and pickle include both, and what is registered on one is registered on the other.
"""

import inspect
import numbers
import warnings

import torch
from torch import Tensor, nn

from ..modules import LossFunction, SmoothLoss

_SHARED = [name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set))]


class StandIn(nn.Module):
    """What both losses have in common: sigma, attributes and argument names are those of the original."""

    impl: str
    _original: nn.Module  # set by _replace
    _owner: nn.Module | None = None
    _argument_names: dict[str, str]  # of the original's first two arguments, the fused loss's names
    _sigma: float
    _read: tuple[tuple[int, int] | None, float]  # of a sigma that is a tensor: identity and version, and its value

    def _replace(self, original: nn.Module, owner: nn.Module | None, names: list[str]) -> None:
        """Takes the place of `original`, whose sigma is read from `owner` and whose arguments are called `names`."""
        self.training = original.training
        ours = inspect.signature(super().forward).parameters
        self._argument_names = dict(zip(names, ours, strict=False))
        shared = {attribute: original.__dict__[attribute] for attribute in _SHARED}
        # Not by assignment: nn.Module would register both as submodules.
        self.__dict__.update(shared, _owner=owner, _original=original)

    @property
    def sigma(self) -> float:
        """The original's sigma, as a number, also after it was changed there."""
        value = self._sigma if self._owner is None else self._owner.sigma
        if isinstance(value, Tensor):
            # Read only if it has changed, since that waits for a GPU.
            now = (id(value), value._version)
            if self._read[0] != now:
                self._read = (now, float(value))
            return self._read[1]
        return float(value) if isinstance(value, numbers.Real) else self._sigma

    @sigma.setter
    def sigma(self, value: float) -> None:
        number = float(value)
        if self._owner is not None:
            held = self._owner.sigma
            if isinstance(held, Tensor) and not isinstance(value, Tensor):
                with torch.no_grad():
                    held.fill_(value)
            else:
                self._owner.sigma = value  # type: ignore[assignment]  # nn.Module declares tensors and modules alone
        self._sigma, self._read = number, (None, 0.0)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        kwargs = {self._argument_names.get(name, name): value for name, value in kwargs.items()} if kwargs else kwargs
        if len(args) + len(kwargs) > 2:
            back = {ours: theirs for theirs, ours in self._argument_names.items()}
            return self._original(*args, **{back.get(name, name): value for name, value in kwargs.items()})
        return super().forward(*args, **kwargs)

    def __getattr__(self, name: str) -> Tensor | nn.Module:  # declared as by nn.Module, which returns anything, too
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A protocol's method, such as __deepcopy__, would be applied to the original alone.
            if "_original" not in self.__dict__ or name.startswith("__"):
                raise
        return getattr(self._original, name)

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:  # likewise
        original = self.__dict__.get("_original")
        if name == "sigma":
            object.__setattr__(self, name, value)  # not by nn.Module, which may know a buffer of that name
            return
        if original is None or name in self.__dict__ or hasattr(type(self), name):
            super().__setattr__(name, value)
            return
        known = hasattr(original, name)
        setattr(original, name, value)
        if known:
            warnings.warn(
                f"{name}: set on a loss that sci_kernels.accelerate replaced; the fused one keeps the weights and "
                "colors measured before; if the loss depends on it: sci_kernels.restore(network), set it, accelerate "
                "again",
                stacklevel=2,
            )

    def __delattr__(self, name: str) -> None:
        if "_original" not in self.__dict__ or name in self.__dict__:
            super().__delattr__(name)
        else:
            delattr(self._original, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._original)})


class SmoothLossStandIn(StandIn, SmoothLoss):
    """`SmoothLoss` in place of a foreign loss of that class name."""

    def _get_name(self) -> str:
        return SmoothLoss.__name__


class LossFunctionStandIn(StandIn, LossFunction):
    """`LossFunction` in place of a foreign loss of that class name."""

    def _get_name(self) -> str:
        return LossFunction.__name__


def stand_in(
    fitted: SmoothLoss | LossFunction, original: nn.Module, owner: nn.Module | None, names: list[str], impl: str
) -> StandIn:
    """The module that replaces `original`.

    Args:
        fitted: a `SmoothLoss` or `LossFunction` with the numbers of the original.
        original: the loss to be replaced.
        owner: the module whose attribute sigma the original reads; None if it reads none.
        names: the names of the original's first two arguments; empty if they are not known.
        impl: the implementation of the new loss.
    """
    sigma, color, detach_input = fitted.sigma, fitted.color, fitted.detach_input
    new: StandIn
    if isinstance(fitted, LossFunction):
        weights = fitted.fidelity_weight, fitted.smooth_weight
        new = LossFunctionStandIn(*weights, sigma, color, impl, detach_input)
    else:
        new = SmoothLossStandIn(sigma, color, impl, detach_input)
    new._replace(original, owner, names)
    return new


def original_of(module: StandIn) -> nn.Module:
    """The original, set to the mode (train or eval) of the module that replaced it."""
    original = module._original
    original.training, original._is_full_backward_hook = module.training, module._is_full_backward_hook
    return original
