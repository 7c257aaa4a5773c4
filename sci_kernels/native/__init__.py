"""Kernels for the CPU in C, compiled when first needed: the functions of `blocked`, and BatchNorm."""

from .build import compiler_error
from .launch_batch_norm import batch_norm_relu, batch_norm_relu_gradient, batch_norm_statistics, channel_sums
from .launch_denoise import denoise
from .launch_enhance import enhance
from .launch_exposure import find_exposure
from .launch_loss import loss
from .launch_retinex import retinex, retinex_gradient

__all__ = [
    "batch_norm_relu",
    "batch_norm_relu_gradient",
    "batch_norm_statistics",
    "channel_sums",
    "compiler_error",
    "denoise",
    "enhance",
    "find_exposure",
    "loss",
    "retinex",
    "retinex_gradient",
]
