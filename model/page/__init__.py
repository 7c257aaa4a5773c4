"""The page: one HTML file that enhances pictures and videos in a browser, with the weights in it."""

from .build import page

__all__ = ["page"]
