"""One training step, which never waits for the device it runs on."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.network import Stages

if TYPE_CHECKING:
    from .cuda_graphs import Graphs

BETAS = (0.9, 0.999)
WEIGHT_DECAY = 3e-4
CLIP_NORM = 5.0
# Devices with Adam's fused kernel, which changes nothing where a flag on the device says so.
_FUSED = ("cpu", "cuda")


class NotFinite(ArithmeticError):
    """The loss or the gradient is NaN or infinite; the step has changed no weight."""


class StepResult:
    """The numbers of a step: the loss before it, by stage, and the norm of its gradient before clipping.

    They are read from the device when one is first asked for. That waits for this step, but for nothing that was
    begun after it.

    Raises:
        NotFinite: on reading, where the loss or the gradient is NaN or infinite.
    """

    def __init__(self, values: Tensor):
        """`values` are those of `step_values`; copying begins here, so that the next step may overwrite them."""
        self._event = torch.cuda.Event() if values.is_cuda else None
        self._values = values.to("cpu", non_blocking=True, copy=True)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(values.device))

    def read(self) -> list[float]:
        """Loss, norm of the gradient, losses of the stages."""
        if self._event is not None:
            self._event.synchronize()
        loss, norm, *stages = self._values.tolist()
        if not math.isfinite(loss):
            raise NotFinite(f"the loss is {loss}")
        if not math.isfinite(norm):
            raise NotFinite(f"the norm of the gradient is {norm}")
        return [loss, norm, *stages]

    @property
    def loss(self) -> float:
        return self.read()[0]

    @property
    def gradient_norm(self) -> float:
        return self.read()[1]

    @property
    def stage_losses(self) -> list[float]:
        return self.read()[2:]


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam with the published settings, fused into one kernel where the device has it."""
    fused = next(model.parameters()).device.type in _FUSED
    return torch.optim.Adam(model.parameters(), lr=lr, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=fused)


def stage_losses(model: nn.Module, criterion: nn.Module, images: Tensor, amp: str = "off") -> Tensor:
    """`criterion(stage_input, illumination)` of each stage, `(stages,)`: the part of a step that can be compiled."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=amp == "bf16"):
        stages = _stages(model, images)
    return torch.stack([criterion(stage_input, illumination) for stage_input, illumination in stages])


def losses_function(compiled: bool, model: nn.Module, replica: nn.Module) -> Callable[..., Tensor]:
    """`stage_losses`, or compiled by torch.compile: one graph for images of any size.

    A replica other than the model itself is DistributedDataParallel, which the compiler cannot trace: then the model
    alone is compiled, in place.
    """
    if compiled and replica is model:
        return torch.compile(stage_losses, fullgraph=True, dynamic=True)
    if compiled:
        model.compile(fullgraph=True, dynamic=True)
    return stage_losses


def training_step(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    amp: str = "off",
    losses: Callable[..., Tensor] = stage_losses,
    graphs: "Graphs | None" = None,
) -> StepResult:
    """Forward, loss, backward, gradients clipped at norm 5, one step of the optimizer.

    The loss is the sum of `criterion(stage_input, illumination)` over the stages. Where it or the gradient is NaN or
    infinite, no weight changes and the optimizer counts no step; reading the result then raises NotFinite.

    Args:
        model: `Network` (the losses of its stages are summed) or `FinetuneNetwork`; it is put into train mode.
        criterion: of a stage's input and illumination, a scalar.
        optimizer: over the parameters of the model, from `make_optimizer`.
        images: `(N, 3, H, W)` in [0, 1], the device and dtype of the model.
        amp: "off", or "bf16" to run the network under autocast.
        losses: from `losses_function`.
        graphs: replays the steps of sizes that it has recorded; only for steps that differ in nothing but the images.
    """
    step = partial(step_values, model, criterion, optimizer, amp=amp, losses=losses)
    return StepResult(step(images) if graphs is None else graphs(step, images))


def step_values(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    amp: str = "off",
    losses: Callable[..., Tensor] = stage_losses,
) -> Tensor:
    """A step as `training_step` describes it: loss, norm of the gradient and losses of the stages, `(2 + stages,)`.

    The host waits for no number from the device, so that a graph can record the whole step.
    """
    model.train()
    optimizer.zero_grad(set_to_none=True)
    by_stage = losses(model, criterion, images, amp)
    loss = by_stage.sum()
    loss.backward()
    with torch.no_grad():
        foreach = optimizer.defaults.get("fused") or None  # devices with the fused kernel have foreach kernels, too
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM, foreach=foreach)
        values = torch.stack([loss, norm.to(loss.dtype), *by_stage.unbind()])
        _step_where_finite(optimizer, values)
    return values


def _step_where_finite(optimizer: torch.optim.Optimizer, values: Tensor) -> None:
    """One step of the optimizer if all values are finite; where its kernel is fused, the device decides."""
    # 0 times a number is 0; 0 times NaN or an infinity is NaN, which differs from 0.
    found_inf = values.mul(0).sum().ne_(0).float()  # 1 or 0
    if optimizer.defaults.get("fused"):
        # The two attributes by which a GradScaler tells a fused optimizer the same; no class declares them.
        told = vars(optimizer)
        told |= {"grad_scale": None, "found_inf": found_inf}
        try:
            optimizer.step()
        finally:
            del told["grad_scale"], told["found_inf"]
    elif not found_inf:
        optimizer.step()


def _stages(model: nn.Module, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Input and illumination of each stage."""
    output = model(images)
    if isinstance(output, Stages):
        return list(zip(output.inputs, output.illuminations, strict=True))
    illumination, _ = output
    return [(images, illumination)]
