"""Read and write pictures.

A new format to read is a file in `readers`, chosen in `readers/choose_reader.py`; one to write is an entry or a file in
`writers`, chosen in `writers/choose_writer.py`. Extensions to search for are in `model.files`.
"""

from .picture import NO_METADATA, Metadata, Picture
from .readers import allow_pixels, from_pil, pixel_count, read_image
from .samples import to_bits
from .writers import DEEP_EXTENSIONS, OUTPUT_EXTENSIONS, gray_of, quantize, to_pil, write_image

__all__ = [
    "DEEP_EXTENSIONS",
    "NO_METADATA",
    "OUTPUT_EXTENSIONS",
    "Metadata",
    "Picture",
    "allow_pixels",
    "from_pil",
    "gray_of",
    "pixel_count",
    "quantize",
    "read_image",
    "to_bits",
    "to_pil",
    "write_image",
]
