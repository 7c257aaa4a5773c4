"""SCI's networks, their weights, and pictures from files and back."""

from .images import ImageError, Picture, find_images, quantize, read_image, write_image

__all__ = ["ImageError", "Picture", "find_images", "quantize", "read_image", "write_image"]
