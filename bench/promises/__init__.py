"""`python -m bench figures`: the numbers that the project promises, measured on this machine."""

from .golden_losses import compare, golden_errors, gradients

__all__ = ["compare", "golden_errors", "gradients"]
