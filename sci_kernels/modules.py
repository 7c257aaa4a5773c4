"""Drop-in modules."""

from torch import Tensor, nn

from . import functional
from .constants import FIDELITY_WEIGHT, SIGMA, SMOOTH_WEIGHT


class SmoothLoss(nn.Module):
    """`smooth_loss` as a module."""

    def __init__(self, sigma: float = SIGMA, color: str = "reference", impl: str = "auto", detach_input: bool = False):
        super().__init__()
        self.sigma, self.color, self.impl, self.detach_input = sigma, color, impl, detach_input

    def forward(self, input: Tensor, output: Tensor) -> Tensor:
        if self.detach_input:
            input = input.detach()
        return functional.smooth_loss(input, output, self.sigma, self.color, self.impl)


class LossFunction(nn.Module):
    """`illumination_loss` as a module."""

    def __init__(
        self,
        fidelity_weight: float = FIDELITY_WEIGHT,
        smooth_weight: float = SMOOTH_WEIGHT,
        sigma: float = SIGMA,
        color: str = "reference",
        impl: str = "auto",
    ):
        super().__init__()
        self.fidelity_weight, self.smooth_weight = fidelity_weight, smooth_weight
        self.sigma, self.color, self.impl = sigma, color, impl

    def forward(self, input: Tensor, illu: Tensor) -> Tensor:
        return functional.illumination_loss(
            input, illu, self.fidelity_weight, self.smooth_weight, self.sigma, self.color, self.impl
        )


class Retinex(nn.Module):
    """`retinex` as a module."""

    def __init__(self, impl: str = "auto"):
        super().__init__()
        self.impl = impl

    def forward(self, residual: Tensor, stage_input: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return functional.retinex(residual, stage_input, image, self.impl)
