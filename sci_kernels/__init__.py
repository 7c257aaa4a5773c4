"""Fused operators for self-calibrated illumination: losses, Retinex step, drop-in modules."""

from .accelerate import accelerate
from .functional import illumination_loss, retinex, smooth_loss
from .modules import LossFunction, Retinex, SmoothLoss

__version__ = "0.1.0"
__all__ = ["LossFunction", "Retinex", "SmoothLoss", "accelerate", "illumination_loss", "retinex", "smooth_loss"]
