"""Checks that a loss that was not replaced gives the same results with a fused loss inside it."""

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .fit_arguments import Unlike, copied
from .foreign_code import probing
from .probes import CHANNELS, devices, probes, relative, told
from .report import Refusal
from .stand_in import StandIn

_TOLERANCE = 1e-4  # relative; the outer loss may add up much else


def require_outer_alike(module: nn.Module, name: str, new: StandIn, refused: list[Refusal]) -> None:
    """Unlike, if a refused loss around `name` can be run, and its results differ with `new` inside.

    An outer loss that cannot be run even with the original is no reason against the replacement.
    """
    for outer in refused:
        if name.startswith(outer.name + "."):
            changed = _change(module.get_submodule(outer.name), name.removeprefix(outer.name + "."), new)
            if changed:
                raise Unlike(f"the loss around it, {outer.name}, was kept, and with the fused one inside {changed}")


def _change(outer: nn.Module, name: str, new: StandIn) -> str | None:
    """How the results of a loss change when the one inside is replaced, tried on a copy; None if they do not."""
    for device in devices():
        for channels in CHANNELS:
            with probing(device):
                sample = probes(1.0, device, channels)[1]
                try:
                    loss = copied(outer, device)
                    before = _outputs(loss, sample.input, sample.illumination)
                except Exception:  # it takes other arguments, or cannot be copied
                    continue
                old = loss.get_submodule(name)
                impl, new.impl = new.impl, "blocked"  # which needs no compilation
                loss.set_submodule(name, new)
                try:
                    after = _outputs(loss, sample.input, sample.illumination)
                except Exception as error:
                    return f"it raises {told(error)}"
                finally:
                    loss.set_submodule(name, old)
                    new.impl = impl
                worst = max(map(relative, after, before), default=0.0) if len(before) == len(after) else float("inf")
                return f"its results differ by {worst:.1e} on {sample}" if worst > _TOLERANCE else None
    return None


def _outputs(loss: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """All tensors that a loss returns, and the gradients of their sum; random numbers are the same at every call."""
    torch.manual_seed(0)
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    results = [leaf for leaf in pytree.tree_leaves(loss(x, y)) if isinstance(leaf, Tensor)]
    total = sum(result.sum() for result in results if result.requires_grad)
    grads = torch.autograd.grad(total, (x, y), allow_unused=True) if isinstance(total, Tensor) else ()
    return [result.detach() for result in results] + [grad for grad in grads if grad is not None]
