"""A training script like those of the official code and its forks, rewritten: network, losses, loop.

The operations and their order are those of the official code. So are class names, attributes and signatures, so that
`sci_kernels.accelerate` finds what it will find in a fork.
"""

import torch
from torch import Tensor, nn

from model import Network
from sci_kernels.constants import FIDELITY_WEIGHT, SIGMA
from train.step import BETAS, CLIP_NORM, WEIGHT_DECAY

from ..baselines import written_out


class SmoothLoss(nn.Module):
    """The smoothness loss, direction by direction."""

    def __init__(self):
        super().__init__()
        self.sigma = SIGMA

    def forward(self, input: Tensor, output: Tensor) -> Tensor:
        return written_out(input, output, self.sigma)


class LossFunction(nn.Module):
    """Fidelity and smoothness."""

    def __init__(self):
        super().__init__()
        self.l2_loss = nn.MSELoss()
        self.smooth_loss = SmoothLoss()

    def forward(self, input: Tensor, illu: Tensor) -> Tensor:
        return FIDELITY_WEIGHT * self.l2_loss(illu, input) + self.smooth_loss(input, illu)


class OfficialNetwork(Network):
    """The network, computed layer by layer, with its loss as an attribute."""

    def __init__(self, stage: int = 3):
        super().__init__(stage, impl="reference")
        self._criterion = LossFunction()

    def _loss(self, input: Tensor) -> Tensor:
        stages = self(input)
        return sum(map(self._criterion, stages.inputs, stages.illuminations))


def make_optimizer(network: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam with the script's settings."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=BETAS, weight_decay=WEIGHT_DECAY)


def step(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """What the loop does with a loss; returns the loss and the norm of the gradient."""
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
    optimizer.step()
    return loss.item(), float(norm)
