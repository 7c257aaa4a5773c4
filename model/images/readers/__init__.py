"""Read pictures from files: one module per format.

To add a format, write its module, then let `_kind` in `choose_reader.py` recognize it by its first bytes.
"""

from .choose_reader import allow_pixels, from_pil, pixel_count, read_image

__all__ = ["allow_pixels", "from_pil", "pixel_count", "read_image"]
