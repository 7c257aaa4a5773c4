"""The fused losses in somebody else's network: put in where the numbers agree, compared, taken out again."""

from .replace_losses import accelerate, restore
from .report import Acceleration, Refusal, Replacement
from .verify import Verification

__all__ = ["Acceleration", "Refusal", "Replacement", "Verification", "accelerate", "restore"]
