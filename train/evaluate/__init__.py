"""Measures of enhanced pictures: `python -m train.evaluate`, and the metrics as functions."""

from .metrics import loe, psnr, ssim

__all__ = ["loe", "psnr", "ssim"]
