"""One optimisation step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.networks import Stages

from .config import BETAS, CLIP_NORM, WEIGHT_DECAY


class NotFinite(ArithmeticError):
    """Loss or gradient is NaN or infinite; the weights have not been touched."""


@dataclass(frozen=True)
class StepResult:
    """What a step saw: the loss before it, by stage, and the norm of its gradient before clipping."""

    loss: float
    stage_losses: list[float]
    gradient_norm: float


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam as published."""
    return torch.optim.Adam(model.parameters(), lr=lr, betas=BETAS, weight_decay=WEIGHT_DECAY)


def training_step(
    model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, amp: str = "off"
) -> StepResult:
    """Forward, loss, backward, gradients clipped at norm 5, one step of the optimizer.

    The loss is the sum of `criterion(stage_input, illumination)` over the stages.

    Args:
        model: `Network` (its stages are summed) or `FinetuneNetwork`, put into train mode.
        criterion: of a stage's input and illumination, a scalar.
        optimizer: over the parameters of the model.
        images: `(N, 3, H, W)` in [0, 1], the device and dtype of the model.
        amp: "off", or "bf16" to run the network under autocast.

    Raises:
        NotFinite: the loss or the gradient is NaN or infinite; then no weight has changed.
    """
    model.train()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=amp == "bf16"):
        stages = _stages(model, images)
    losses = torch.stack([criterion(stage_input, illumination) for stage_input, illumination in stages])
    loss = losses.sum()
    if not math.isfinite(value := loss.item()):
        raise NotFinite(f"the loss is {value}")
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM).item()
    if not math.isfinite(norm):
        raise NotFinite(f"the norm of the gradient is {norm}")
    optimizer.step()
    return StepResult(value, losses.tolist(), norm)


def _stages(model: nn.Module, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Input and illumination of each stage."""
    output = model(images)
    if isinstance(output, Stages):
        return list(zip(output.inputs, output.illuminations, strict=True))
    illumination, _ = output
    return [(images, illumination)]
