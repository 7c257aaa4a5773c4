"""Replaces the losses in somebody else's network by the fused ones, if the numbers agree, and restores them."""

from .replace_losses import accelerate, restore
from .report import Acceleration, Refusal, Replacement
from .verify import Verification

__all__ = ["Acceleration", "Refusal", "Replacement", "Verification", "accelerate", "restore"]
