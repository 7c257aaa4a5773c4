"""Read pictures from files: one module per format.

To add a format, write its module; in `choose_reader.py`, let `_kind` recognize its first bytes, and `_read` and `_size`
call the module.
"""

from .choose_reader import allow_pixels, from_pil, pixel_count, read_image

__all__ = ["allow_pixels", "from_pil", "pixel_count", "read_image"]
