"""The training step of three stages by each provider, all from the same weights, and where its time goes.

`reference` is the plain network and loss, operator by operator; `compiled` is torch.compile of both as one graph;
`ours` is the trainer's default. All of them use the trainer's own `training_step`, with clipping and Adam.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from model import Network
from sci_kernels import LossFunction
from train import PlannedStep, plan
from train.step import make_optimizer, training_step

from ..measure import interleave, loss_inputs, synchronize

STAGES, SEED, LR = 3, 2, 3e-4
PARTS = ("network", "loss", "backward", "optimizer")


class _WithLoss(nn.Module):
    """A network that returns its loss, so that both are one graph. It returns (loss, None), like a single stage."""

    def __init__(self, network: Network, criterion: nn.Module):
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        stages = self.network(image)
        losses = map(self.criterion, stages.inputs, stages.illuminations)
        return torch.stack(list(losses)).sum(), None


class _Given(nn.Module):
    """The criterion for a network that has computed its loss itself."""

    def forward(self, image: Tensor, loss: Tensor) -> Tensor:
        return loss


class _Made(NamedTuple):
    """What a provider trains, and the weights it starts from."""

    model: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    start: dict[str, Tensor]
    key: tuple[torch.device, torch.dtype]  # that it was made for


class TrainingStep:
    """One provider's network, loss and optimizer, made for the device and dtype of the first image.

    Called with an image `(N, 3, H, W)` in [0, 1], it makes the first step, from the weights with which all providers
    start, and returns the loss and the clipped gradients before the update. `step` makes the next steps.
    """

    def __init__(self, provider: str):
        self._provider = provider
        self._made: _Made | None = None

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        made = self._for(image)
        made.model.load_state_dict(made.start)
        made.optimizer.state.clear()
        loss = torch.tensor(self.step(image), dtype=image.dtype)
        noise = _without_gradient(made.model)
        kept = (p.grad for p in made.model.parameters() if id(p) not in noise)
        return loss, *(grad.clone() for grad in kept if grad is not None)

    def step(self, image: Tensor) -> float:
        """Makes one training step; returns the loss before it."""
        made = self._for(image)
        return training_step(made.model, made.criterion, made.optimizer, image).loss

    def breakdown(self, image: Tensor) -> dict[str, float]:
        """Seconds that each part of one more step takes, each waiting for the device. Clipping counts as backward."""
        made = self._for(image)
        marks: list[float] = []

        def mark(*_) -> None:
            synchronize(image.device.type)
            marks.append(time.perf_counter())

        hooks = [made.model.register_forward_pre_hook(mark), made.model.register_forward_hook(mark)]
        hooks += [made.criterion.register_forward_hook(mark)]  # once a stage; the last counts
        hooks += [made.optimizer.register_step_pre_hook(mark), made.optimizer.register_step_post_hook(mark)]
        try:
            self.step(image)
        finally:
            for hook in hooks:
                hook.remove()
        begin, network, *_, loss, backward, end = marks
        return {
            name: b - a for name, (a, b) in zip(PARTS, pairwise((begin, network, loss, backward, end)), strict=True)
        }

    def _for(self, image: Tensor) -> _Made:
        key = (image.device, image.dtype)
        if self._made is None or self._made.key != key:
            model, criterion = make_model(self._provider, image)
            start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            self._made = _Made(model, criterion, make_optimizer(model, LR), start, key)
        return self._made


def make_model(provider: str, image: Tensor) -> tuple[nn.Module, nn.Module]:
    """Network and criterion; every provider gets the same weights."""
    ours = provider.startswith("ours")
    impl, convolutions = "auto" if ours else "reference", "triton" if provider == "ours-convolutions" else "auto"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        # The reference computes everything that the official code computes, ours only what training needs.
        network = Network(stage=STAGES, impl=impl, exact=not ours, convolutions=convolutions)
    network, criterion = network.to(image).train(), LossFunction(impl=impl)
    if provider != "compiled":
        return network, criterion
    compiled = torch.compile(_WithLoss(network, criterion), fullgraph=True, dynamic=False)
    return cast(nn.Module, compiled), _Given()  # compiled modules are modules, which torch.compile does not declare


def _without_gradient(model: nn.Module) -> set[int]:
    """Ids of the biases that a BatchNorm right after them cancels, so that their gradient is rounding noise."""
    parts = [part for part in model.modules() if isinstance(part, nn.Sequential)]
    pairs = [pair for part in parts for pair in pairwise(part)]
    return {id(conv.bias) for conv, after in pairs if isinstance(after, nn.BatchNorm2d)}


def step_call(provider: str, size: tuple[int, int], device: str = "cpu") -> Callable[[], float]:
    """A call that makes one training step of three stages and returns its loss."""
    training = TrainingStep(provider)
    image = loss_inputs(*size)[0].detach().to(device)
    return lambda: training.step(image)


def step_times(size: tuple[int, int], repeats: int, device: str = "cpu") -> tuple[float, float, float]:
    """Seconds per step by `ours` and `reference`, measured in turns; the relative difference of their first losses."""
    calls = {provider: step_call(provider, size, device) for provider in ("ours", "reference")}
    fused, reference = (call() for call in calls.values())
    times = interleave(calls, repeats, warm=False, device=device)  # the first steps were the warm-up
    return times["ours"].median, times["reference"].median, abs(fused - reference) / abs(reference)


def planned_largest(provider: str, memory: int) -> dict[str, int] | None:
    """The largest 16:9 image for a step on a GPU with `memory` bytes, as `python -m train plan` finds it.

    None for a compiled step, which the planner does not know.
    """
    if provider == "compiled":
        return None
    step = (
        PlannedStep(stage=STAGES) if provider.startswith("ours") else PlannedStep(STAGES, exact=True, impl="reference")
    )
    height, width = plan(step).largest(memory)
    return {"memory_bytes": memory, "width": width, "height": height}
