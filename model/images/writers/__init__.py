"""Pictures to files, a format a file where Pillow does not write what is wanted."""

from .choose_writer import DEEP_EXTENSIONS, OUTPUT_EXTENSIONS, grey_of, quantize, to_pil, write_image

__all__ = ["DEEP_EXTENSIONS", "OUTPUT_EXTENSIONS", "grey_of", "quantize", "to_pil", "write_image"]
