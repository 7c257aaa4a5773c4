"""SCI's networks, their weights, and pictures from files and back."""

from .enhancer import Enhanced, Enhancer
from .fold import fold
from .image_output import quantize, write_image
from .images import read_image
from .networks import CalibrateNetwork, EnhanceNetwork, FinetuneNetwork, Network, Stages, enhance_image
from .picture import ImageError, Metadata, Picture
from .search import find_images
from .weights import DEFAULT_WEIGHTS, WeightsError, load_weights, save_weights

__all__ = [
    "DEFAULT_WEIGHTS",
    "CalibrateNetwork",
    "EnhanceNetwork",
    "Enhanced",
    "Enhancer",
    "FinetuneNetwork",
    "ImageError",
    "Metadata",
    "Network",
    "Picture",
    "Stages",
    "WeightsError",
    "enhance_image",
    "find_images",
    "fold",
    "load_weights",
    "quantize",
    "read_image",
    "save_weights",
    "write_image",
]
