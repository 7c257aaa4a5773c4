"""Replaces the losses inside a network if the numbers agree on small tensors, and restores them."""

import contextlib
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..constants import IMPLS
from ..modules import LossFunction, SmoothLoss
from . import verify as verification
from .fit_arguments import NAMES, Unlike, argument_names, by_hand, duplicate, fit, is_loss, sigma_owner
from .outer_loss import require_outer_alike
from .probes import told
from .report import Acceleration, Refusal, Replacement
from .stand_in import StandIn, original_of, stand_in
from .verify import Arguments, Batch, Measured

_log = logging.getLogger(__name__)


class _Exchange(NamedTuple):
    """A loss by its name in the network: what stands there, and what is to stand there."""

    name: str
    old: nn.Module
    new: StandIn


_Fitted = dict[bytes | None, SmoothLoss | LossFunction]  # by what the original holds


def accelerate(module: nn.Module, impl: str = "auto", verify: Batch | None = None) -> Acceleration:
    """Replaces, in place, every `SmoothLoss` and `LossFunction` inside `module` by the fused one.

    Losses are found among all submodules by their class name, and run on small tensors. A loss is replaced if value and
    gradients agree to 1e-5 (relative, in norm) on all of these. The new module has the old one's attributes, buffers,
    state-dict keys and argument names; `restore` puts the old one back.

    Args:
        module: a network of SCI or one of its forks that holds its losses as submodules.
        impl: the implementation of the new losses.
        verify: also compare values and gradients on your own tensors, and time both losses. One of: the two arguments
            of the loss, as a tuple or as a dict by name, for which each loss is run; a function without arguments that
            returns your loss, which is run before and after the replacement; or one tensor, for which
            `module._loss(tensor)` of the official code is run so. Parameters, their gradients, buffers such as
            BatchNorm's statistics, and random states are restored. A loss that does not agree is not replaced.

    Returns:
        The losses that were replaced; those that were not, with the reason and what to construct by hand; and what was
        verified. Each loss that was not replaced is also a `UserWarning`. A loss inside such a loss is still replaced,
        unless the outer one can be run as `loss(input, illumination)` and would give other results.

    Raises:
        TypeError: `module` is not an nn.Module, or `verify` is none of the above.
        ValueError: `module` is itself such a loss, so there is no network to put the new one into; `impl` is unknown;
            the function `verify` calls none of the losses, or its value is not finite.

    After any exception, also one raised by your function, `module` is as it was. Without CUDA an original that calls
    `.cuda()` is run as if it did not.
    """
    _check(module, impl)
    function, arguments = (None, None) if verify is None else verification.understood(module, verify)
    report = Acceleration()
    planned: list[_Exchange] = []
    fitted: _Fitted = {}
    for name, place, loss in _losses(module, report):
        try:
            known = (new for _, old, new in planned if old is place)
            new = next(known, None) or _replacement(place, loss, impl, fitted)
            require_outer_alike(module, name, new, report.refused)
            if arguments is not None:
                _verify_loss(name, loss, new, arguments, report)
        except Unlike as reason:
            report.refused.append(Refusal(name, _class_name(loss), str(reason)))
            continue
        planned.append(_Exchange(name, place, new))
        report.replaced.append(Replacement(name, _class_name(loss), new))
    report.refused += _out_of_reach(module)
    before = verification.measure_network(module, function) if function is not None and planned else None
    with _all_or_none(module, planned):
        if function is not None and before is not None:
            _verify_network(module, function, before, planned, report)
        for refusal in report.refused:
            warnings.warn(str(refusal), stacklevel=2)
    for _, old, _ in planned:
        _let_go(old)
    for replacement in report.replaced:
        _log.info("%s", replacement)
    return report


def restore(module: nn.Module) -> list[str]:
    """Puts back, in place, every loss that `accelerate` replaced in `module`. Works on a copy of the network, too.

    Returns:
        Their names; empty if none had been replaced.

    Raises:
        TypeError: `module` is not an nn.Module.
        ValueError: `module` is itself such a loss.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module; got {type(module).__name__}")
    if isinstance(module, StandIn):
        raise ValueError("module: is itself a replaced loss; expected the network that holds it")
    stands = [(name, child) for name, child in _named(module) if isinstance(child, StandIn)]
    for name, child in stands:
        module.set_submodule(name, original_of(child))
    return [name for name, _ in stands]


def _check(module: nn.Module, impl: str) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module; got {type(module).__name__}")
    if is_loss(_unwrapped(module)) or isinstance(module, (SmoothLoss, LossFunction)):
        kind = _unwrapped(module)._get_name()
        raise ValueError(f"module: is itself a {kind}; construct sci_kernels.{kind} instead")
    if impl not in IMPLS:
        raise ValueError(f"impl: expected one of {', '.join(IMPLS)}; got {impl!r}")


def _named(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """All submodules, with each of their names, outer ones first."""
    return list(module.named_modules(remove_duplicate=False))


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module that was given to torch.compile, if `module` is the result; else `module` itself."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


def _class_name(loss: nn.Module) -> str:
    return f"{type(loss).__module__}.{type(loss).__qualname__}"


def _losses(module: nn.Module, report: Acceleration) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """For each loss its name, the module of that name, and the loss, which differ if the loss is compiled.

    Skips what is inside a loss that was replaced: as a generator, it sees in the report what was replaced meanwhile.
    """
    for name, child in _named(module):
        done = [*report.fused, *(replacement.name for replacement in report.replaced)]
        if any(name.startswith(outer + ".") for outer in done):
            continue
        if isinstance(child, (SmoothLoss, LossFunction)):
            report.fused.append(name)
        elif is_loss(_unwrapped(child)) and not (name.endswith("._orig_mod") and is_loss(child)):
            yield name, child, _unwrapped(child)


def _replacement(place: nn.Module, loss: nn.Module, impl: str, fitted: _Fitted) -> StandIn:
    """The fused module that reproduces `loss`, to replace `place`, or Unlike. Equal losses are fitted only once."""
    try:
        same = _content(loss)
        if same is None or same not in fitted:
            fitted[same] = fit(loss)
        return stand_in(fitted[same], place, sigma_owner(loss), argument_names(loss), impl)
    except Unlike as reason:
        raise Unlike(f"{reason}; {by_hand(loss, reason.nearest)}") from None


def _content(loss: nn.Module) -> bytes | None:
    """The class and the content of a loss, for comparison; None if it cannot be serialized."""
    try:
        return pickle.dumps(duplicate(loss))
    except Exception:
        return None


def _verify_loss(name: str, loss: nn.Module, new: nn.Module, batch: Arguments, report: Acceleration) -> None:
    """Unlike, if both losses can be run on the user's tensors and do not agree."""
    try:
        before = verification.measure_loss(duplicate(loss), batch)
    except Exception as error:
        report.unverified.append(f"{name}: not verified, it cannot be run on these tensors: {told(error)}")
        return
    result = verification.compared(name, before, verification.measure_loss(new, batch))
    report.verified.append(result)
    if not result.passed:
        raise Unlike(f"the fused one does not agree: {result}")


def _verify_network(
    module: nn.Module, function: Callable[[], Tensor], before: Measured, planned: list[_Exchange], report: Acceleration
) -> None:
    """Compares the user's own loss; puts the originals back if it has changed."""
    calls: list[nn.Module] = []
    hooks = [new.register_forward_hook(lambda loss, *_: calls.append(loss)) for _, _, new in planned]
    try:
        after = verification.measure_network(module, function)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise ValueError(
            "verify: your function called none of the losses that were replaced, so nothing was compared; expected a "
            f"function that computes the loss by calling {planned[0].name}"
        )
    report.verified.append(verification.compared("", before, after))
    if not report.verified[-1].passed:
        _put_back(module, planned)
        reason = f"your own loss differs with the fused ones: {report.verified[-1]}"
        report.refused += [Refusal(each.name, each.original, reason) for each in report.replaced]
        report.replaced.clear()
        planned.clear()


@contextlib.contextmanager
def _all_or_none(module: nn.Module, planned: list[_Exchange]) -> Iterator[None]:
    """Puts in the new losses; if anything is raised meanwhile, puts the old ones back."""
    try:
        for name, _, new in planned:
            module.set_submodule(name, new)
        yield
    except BaseException:
        _put_back(module, planned)
        raise


def _put_back(module: nn.Module, planned: list[_Exchange]) -> None:
    for name, old, _ in planned:
        module.set_submodule(name, old)


def _let_go(original: nn.Module) -> None:
    """Detaches what a loss keeps of its last call, as the official one does, for it holds the graph of a whole step."""

    def detached(value: object) -> object:
        return value.detach() if isinstance(value, Tensor) and not value.is_leaf else value

    for part in original.modules():
        for name, value in vars(part).items():
            if isinstance(value, list):
                value[:] = map(detached, value)
            elif isinstance(value, dict) and not name.startswith("_"):
                value.update({key: detached(item) for key, item in value.items()})
            else:
                vars(part)[name] = detached(value)


def _out_of_reach(module: nn.Module) -> list[Refusal]:
    """Refusals of losses that are found but cannot be replaced: scripted ones, and those in plain containers."""
    found = []
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule) and child.original_name in NAMES:
            reason = "it is scripted; accelerate the network before torch.jit.script"
            found.append(Refusal(name, child.original_name, reason))
        for attribute, value in vars(child).items():
            if attribute.startswith("_") or not isinstance(value, (list, tuple, dict)):
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value)
            found += [
                Refusal(
                    f"{name}.{attribute}[{key!r}]".lstrip("."),
                    _class_name(item),
                    f"only submodules are searched, and it is in a plain {type(value).__name__}; use nn.ModuleList or "
                    "nn.ModuleDict",
                )
                for key, item in items
                if isinstance(item, nn.Module) and is_loss(item)
            ]
    return found
