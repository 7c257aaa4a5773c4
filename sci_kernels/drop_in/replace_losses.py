"""Exchanges the losses inside a network, after proving on small tensors that the numbers agree, and puts them back."""

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
from .fit import NAMES, Unlike, argument_names, by_hand, duplicate, fit, is_loss, sigma_owner
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
    """Replaces every `SmoothLoss` and `LossFunction` inside `module`, in place, by the fused one.

    A loss is found by its class name, wherever in `module` it is a submodule, and run on small tensors. It is
    replaced if value and gradients agree to 1e-5 (relative, in norm) on all of them. The new module answers to the
    old one's attributes, buffers, state-dict keys and argument names; `restore` puts the old one back.

    Args:
        module: a network of SCI or one of its forks that holds its losses as submodules.
        impl: implementation of the new losses.
        verify: also compare before and after on tensors of your own, and time both: what the loss takes, as a tuple
            or as a dict by name, for each loss; or a function without arguments that returns your loss, run with the
            network as it was and as it is; or one tensor, for `module._loss(tensor)`, the official code's. Buffers,
            such as BatchNorm's statistics, and random states are put back. What does not agree is not replaced.

    Returns:
        What was replaced, what was not, with the reason and what to construct by hand, and what was verified. Each
        refusal is also a `UserWarning`. A loss within a refused one is still replaced, unless the outer one can be run
        as `loss(input, illumination)` and then no longer does the same.

    Raises:
        TypeError: `module` is not an nn.Module, or `verify` is none of the above.
        ValueError: `module` is itself such a loss: there is no network to put the new one into; `impl` is unknown; the
            function given as `verify` calls none of the losses, or its value is not finite.

    Whatever is raised, by your function too, `module` is as it was. On a machine without CUDA an original that calls
    `.cuda()` is run with that call left out.
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
    """Puts back, in place, every loss that `accelerate` replaced in `module`, also in a copy of it.

    Returns:
        Their names; none where there was nothing to put back.

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
    """Every submodule under each of its names, outer ones first."""
    return list(module.named_modules(remove_duplicate=False))


def _unwrapped(module: nn.Module) -> nn.Module:
    """What torch.compile was given, if it made `module`."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


def _class_name(loss: nn.Module) -> str:
    return f"{type(loss).__module__}.{type(loss).__qualname__}"


def _losses(module: nn.Module, report: Acceleration) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Name, what stands there and the loss, which differ for a compiled loss; nothing inside of what is replaced.

    Lazy: the report tells what has been replaced by then.
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
    """The fused module that reproduces `loss` and stands where `place` did, or Unlike; equal losses are fitted once."""
    try:
        same = _content(loss)
        if same is None or same not in fitted:
            fitted[same] = fit(loss)
        return stand_in(fitted[same], place, sigma_owner(loss), argument_names(loss), impl)
    except Unlike as reason:
        raise Unlike(f"{reason}; {by_hand(loss, reason.nearest)}") from None


def _content(loss: nn.Module) -> bytes | None:
    """The class and all that a loss holds; None where that cannot be told."""
    try:
        return pickle.dumps(duplicate(loss))
    except Exception:
        return None


def _verify_loss(name: str, loss: nn.Module, new: nn.Module, batch: Arguments, report: Acceleration) -> None:
    """Unlike, where both can be run on the user's tensors and do not agree."""
    try:
        before = verification.measure_loss(duplicate(loss), batch)
    except Exception as error:
        report.unverified.append(f"{name}: not verified, it cannot be run on these tensors: {told(error)}")
        return
    result = verification.compared(name, before, verification.measure_loss(new, batch))
    report.verified.append(result)
    if not result.passed:
        raise Unlike(f"with the fused one it is not the same {result}")


def _verify_network(
    module: nn.Module, function: Callable[[], Tensor], before: Measured, planned: list[_Exchange], report: Acceleration
) -> None:
    """Compares the user's own loss; puts the originals back where it is another one now."""
    calls: list[nn.Module] = []
    hooks = [new.register_forward_hook(lambda loss, *_: calls.append(loss)) for _, _, new in planned]
    try:
        after = verification.measure_network(module, function)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise ValueError(
            "verify: your function called none of the losses that were replaced, so nothing was compared; expected one "
            f"that computes the loss, by way of {planned[0][0]}"
        )
    report.verified.append(verification.compared("", before, after))
    if not report.verified[-1].passed:
        _put_back(module, planned)
        reason = f"your own loss is another with the fused ones: {report.verified[-1]}"
        report.refused += [Refusal(each.name, each.original, reason) for each in report.replaced]
        report.replaced.clear()
        planned.clear()


@contextlib.contextmanager
def _all_or_none(module: nn.Module, planned: list[_Exchange]) -> Iterator[None]:
    """With the new losses in their places; whatever is raised meanwhile, the old ones are there again."""
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
    """Detach what it keeps of its last call, as the official loss does: it holds the graph of a whole step."""

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
    """Losses in plain lists, tuples and dicts of a submodule, and scripted ones: seen, but not to be exchanged."""
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
