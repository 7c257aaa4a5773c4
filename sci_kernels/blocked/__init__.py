"""The implementation for devices without Triton, by plain torch calls. `native` has the same functions."""

from ..reference import find_exposure
from .denoise_filter import denoise
from .enhance_network import enhance
from .retinex_step import retinex, retinex_gradient
from .smooth_loss import loss

__all__ = ["denoise", "enhance", "find_exposure", "loss", "retinex", "retinex_gradient"]
