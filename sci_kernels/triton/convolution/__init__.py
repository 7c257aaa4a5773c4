"""The 16-to-16 convolutions of training on tensor cores."""

from .images import launch_convolution, launch_convolution_input_gradient
from .weights import launch_convolution_weight_gradient

__all__ = ["launch_convolution", "launch_convolution_input_gradient", "launch_convolution_weight_gradient"]
