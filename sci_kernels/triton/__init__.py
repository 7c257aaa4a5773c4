"""Launchers of the Triton kernels; importing this package imports Triton.

Raises UnsupportedVersionError, before Triton is used, if Triton or PyTorch is too old.

How to read the kernels: every one has a one-dimensional grid. The loss, the enhance network, the denoising filter and
the convolutions march, as `strips` describes: a tensor [N] holds one number for each thread, so what a comment says of
a thread's pixel is one element of such tensors. The other kernels are elementwise, or reduce blocks.
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
from .enhancing import launch_denoise, launch_enhance, launch_exposure
from .loss_backward import launch_loss_backward
from .loss_forward import launch_loss_forward
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
