"""`python -m bench figures`: what the project promises, measured here and now."""

from .golden_losses import GOLDEN, compare, golden_errors, gradients, load_golden

__all__ = ["GOLDEN", "compare", "golden_errors", "gradients", "load_golden"]
