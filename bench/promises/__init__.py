"""`python -m bench figures`: the numbers that the project promises, measured on this machine."""

from .golden_losses import GOLDEN, compare, golden_errors, gradients, load_golden

__all__ = ["GOLDEN", "compare", "golden_errors", "gradients", "load_golden"]
