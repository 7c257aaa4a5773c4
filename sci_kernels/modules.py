"""The functions of training as modules, with the signatures of the official classes."""

from typing import TYPE_CHECKING, NoReturn

from torch import Tensor, nn

from . import functional
from .constants import FIDELITY_WEIGHT, SIGMA, SMOOTH_WEIGHT


class _Operator(nn.Module):
    """A module around an operator. TorchScript cannot compile it, and an error names the alternatives."""

    def __prepare_scriptable__(self) -> NoReturn:
        raise RuntimeError(
            f"torch.jit.script cannot compile sci_kernels.{self._get_name()}; use torch.export or torch.compile, which "
            "know its operators, or torch.jit.trace"
        )


class SmoothLoss(_Operator):
    """`smooth_loss` as a module: replaces the class of this name in SCI, ZERO-IG, STEPS and their forks.

    Args:
        sigma, color, impl: as for `smooth_loss`.
        detach_input: give `input` no gradient, as ZERO-IG does, and skip the work for it.
    """

    def __init__(
        self, sigma: float = SIGMA, color: str = "reference", impl: str = "auto", detach_input: bool = False
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.color = color
        self.impl = impl
        self.detach_input = detach_input

    if TYPE_CHECKING:  # of nn.Module, whose own declaration returns Any

        def __call__(self, input: Tensor, output: Tensor) -> Tensor: ...

    def forward(self, input: Tensor, output: Tensor) -> Tensor:
        """The smoothness of `output`, the illumination `(N, C, H, W)`, given the image `input`."""
        input = input.detach() if self.detach_input else input
        return functional.smooth_loss(input, output, self.sigma, self.color, self.impl)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, color={self.color!r}, impl={self.impl!r}, detach_input={self.detach_input}"


class LossFunction(_Operator):
    """`illumination_loss` as a module: replaces the official class of this name.

    Args:
        fidelity_weight, smooth_weight, sigma, color, impl: as for `illumination_loss`.
        detach_input: give `input` no gradient.
    """

    def __init__(
        self,
        fidelity_weight: float = FIDELITY_WEIGHT,
        smooth_weight: float = SMOOTH_WEIGHT,
        sigma: float = SIGMA,
        color: str = "reference",
        impl: str = "auto",
        detach_input: bool = False,
    ) -> None:
        super().__init__()
        self.fidelity_weight = fidelity_weight
        self.smooth_weight = smooth_weight
        self.sigma = sigma
        self.color = color
        self.impl = impl
        self.detach_input = detach_input

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, illu: Tensor) -> Tensor: ...

    def forward(self, input: Tensor, illu: Tensor) -> Tensor:
        """The loss of `illu`, the illumination `(N, C, H, W)`, given the input of the stage."""
        input = input.detach() if self.detach_input else input
        return functional.illumination_loss(
            input, illu, self.fidelity_weight, self.smooth_weight, self.sigma, self.color, self.impl
        )

    def extra_repr(self) -> str:
        return (
            f"fidelity_weight={self.fidelity_weight}, smooth_weight={self.smooth_weight}, sigma={self.sigma}, "
            f"color={self.color!r}, impl={self.impl!r}, detach_input={self.detach_input}"
        )


class Retinex(_Operator):
    """`retinex` as a module.

    Args:
        impl, sigmoid: as for `retinex`.
    """

    def __init__(self, impl: str = "auto", sigmoid: bool = False) -> None:
        super().__init__()
        self.impl = impl
        self.sigmoid = sigmoid

    if TYPE_CHECKING:

        def __call__(self, residual: Tensor, stage_input: Tensor, image: Tensor) -> tuple[Tensor, Tensor]: ...

    def forward(self, residual: Tensor, stage_input: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """`(illumination, reflectance)`."""
        return functional.retinex(residual, stage_input, image, self.impl, sigmoid=self.sigmoid)

    def extra_repr(self) -> str:
        return f"impl={self.impl!r}, sigmoid={self.sigmoid}"
