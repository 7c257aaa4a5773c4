"""The kernels of enhancing: exposure, the whole network with its gain, denoising."""

from .denoise import launch_denoise
from .enhance import launch_enhance
from .exposure import launch_exposure

__all__ = ["launch_denoise", "launch_enhance", "launch_exposure"]
