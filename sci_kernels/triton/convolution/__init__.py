"""The 3 x 3 convolutions of training, of up to 16 channels, on tensor cores."""

from .images import launch_convolution, launch_convolution_input_gradient
from .weights import launch_convolution_weight_gradient

__all__ = ["launch_convolution", "launch_convolution_input_gradient", "launch_convolution_weight_gradient"]
