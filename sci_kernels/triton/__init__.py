"""Launchers of the Triton kernels; importing this package imports Triton.

Raises UnsupportedVersionError, before anything is asked of it, where it or PyTorch is too old.
"""

import torch
import triton

from .. import versions

versions.check(versions.TORCH, torch.__version__)
versions.check(versions.TRITON, getattr(triton, "__version__", ""))

from .batch_norm import launch_batch_norm_relu, launch_batch_norm_relu_gradient, launch_batch_norm_statistics
from .config import INTERPRETED
from .convolution import (
    launch_convolution,
    launch_convolution_input_gradient,
    launch_convolution_weight_gradient,
)
from .loss_backward import launch_loss_backward
from .loss_forward import launch_loss_forward
from .pictures import launch_denoise, launch_enhance, launch_exposure
from .retinex import launch_retinex_backward, launch_retinex_forward

__all__ = [
    "INTERPRETED",
    "launch_batch_norm_relu",
    "launch_batch_norm_relu_gradient",
    "launch_batch_norm_statistics",
    "launch_convolution",
    "launch_convolution_input_gradient",
    "launch_convolution_weight_gradient",
    "launch_denoise",
    "launch_enhance",
    "launch_exposure",
    "launch_loss_backward",
    "launch_loss_forward",
    "launch_retinex_backward",
    "launch_retinex_forward",
]
