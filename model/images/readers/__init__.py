"""Pictures from files, a format a file; `read_image` finds out which one a file needs."""

from .choose_reader import allow_pixels, from_pil, pixel_count, read_image

__all__ = ["allow_pixels", "from_pil", "pixel_count", "read_image"]
