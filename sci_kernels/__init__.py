"""Fused operators for self-calibrated illumination: losses, Retinex step, drop-in modules."""

from . import batch_norm, convolution
from .arguments import default_impl
from .drop_in import accelerate, restore
from .enhance_weights import EnhanceWeights
from .functional import illumination_loss, retinex, smooth_loss
from .modules import LossFunction, Retinex, SmoothLoss
from .pictures import denoise, enhance, exposure

__version__ = "0.2.0"
__all__ = [
    "EnhanceWeights",
    "LossFunction",
    "Retinex",
    "SmoothLoss",
    "accelerate",
    "batch_norm",
    "convolution",
    "default_impl",
    "denoise",
    "enhance",
    "exposure",
    "illumination_loss",
    "restore",
    "retinex",
    "smooth_loss",
]
