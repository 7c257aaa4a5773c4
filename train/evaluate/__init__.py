"""Enhanced pictures measured: `python -m train.evaluate`; the metrics are for others, too."""

from .metrics import loe, psnr, ssim

__all__ = ["loe", "psnr", "ssim"]
