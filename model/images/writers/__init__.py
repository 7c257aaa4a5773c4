"""Write pictures to files: most formats with Pillow, others with a module of their own.

To add a format, add it to `_OUTPUTS` in `choose_writer.py`.
"""

from .choose_writer import DEEP_EXTENSIONS, OUTPUT_EXTENSIONS, gray_of, quantize, to_pil, write_image

__all__ = ["DEEP_EXTENSIONS", "OUTPUT_EXTENSIONS", "gray_of", "quantize", "to_pil", "write_image"]
