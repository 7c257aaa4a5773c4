"""What `accelerate` did, as objects that print as lines of text."""

from dataclasses import dataclass, field

from torch import nn

from .verify import Verification


@dataclass(frozen=True)
class Replacement:
    """A loss that was replaced: its name in the network, its class, and the new module."""

    name: str
    original: str
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.name}: {self.original} -> sci_kernels.{self.module._get_name()}({self.module.extra_repr()})"


@dataclass(frozen=True)
class Refusal:
    """A loss that was not replaced, and the reason."""

    name: str
    original: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.original} kept: {self.reason}"


@dataclass
class Acceleration:
    """What `accelerate` did; as text one line for each loss."""

    replaced: list[Replacement] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    fused: list[str] = field(default_factory=list)  # names of losses that were fused before
    verified: list[Verification] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)  # losses that cannot be run on the user's tensors, and why

    def __str__(self) -> str:
        lines = [*self.replaced, *self.refused, *self.verified, *self.unverified]
        if self.fused:
            lines.append(f"fused before, left as they are: {', '.join(self.fused)}")
        if not lines:
            return "no SmoothLoss or LossFunction found; only submodules, by these class names, are searched"
        return "\n".join(map(str, lines))
