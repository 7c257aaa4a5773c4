"""Kernels for the CPU in C, compiled when first needed; the functions of `blocked`."""

from .build import compiler_error
from .launch_enhance import enhance
from .launch_loss import loss
from .launch_retinex import retinex, retinex_gradient

__all__ = ["compiler_error", "enhance", "loss", "retinex", "retinex_gradient"]
