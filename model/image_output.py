"""Pictures to files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from .files import write_atomically
from .picture import NO_METADATA, ImageError, Metadata, one_line

# What can be written: Pillow's format, its options, and whether it keeps transparency.
_OUTPUTS = {
    ".png": ("PNG", {}, True),
    ".jpg": ("JPEG", {"quality": 95}, False),
    ".jpeg": ("JPEG", {"quality": 95}, False),
    ".webp": ("WEBP", {"lossless": True}, True),
    ".tif": ("TIFF", {}, True),
    ".tiff": ("TIFF", {}, True),
    ".bmp": ("BMP", {}, False),
}
OUTPUT_EXTENSIONS = tuple(_OUTPUTS)


def to_pil(
    pixels: np.ndarray, alpha: np.ndarray | None = None, grey: bool = False, metadata: Metadata = NO_METADATA
) -> Image.Image:
    """Eight-bit `(H, W, 3)` pixels as a PIL image; arguments as for `write_image`."""
    image = Image.fromarray(pixels)
    if grey:
        image = image.convert("L")
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    if metadata.icc_profile and not grey:
        image.info["icc_profile"] = metadata.icc_profile
    return image


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """The luma of pixels `(H, W, 3)`, `(H, W)` in their dtype; of uint8 what `write_image` writes for grey."""
    if pixels.dtype == np.uint8:
        return np.asarray(to_pil(pixels, grey=True))
    red, green, blue = np.moveaxis(pixels.astype(np.promote_types(pixels.dtype, np.float32)), -1, 0)
    # 0.299 R + 0.587 G + 0.114 B, as Pillow has it, but exact where the three are equal.
    return (green + 0.299 * (red - green) + 0.114 * (blue - green)).astype(pixels.dtype)


def quantize(values: Tensor, rounded: bool = False) -> np.ndarray:
    """Eight-bit pixels `(H, W, 3)` of a `(3, H, W)` tensor in [0, 1]: clip(255 x, 0, 255), truncated or `rounded`.

    The official code truncates, and so does what stands for it; exposed pictures are rounded.

    Raises:
        ValueError: the shape is another, or a value is NaN.
    """
    if values.dim() != 3 or values.shape[0] != 3:
        raise ValueError(f"values: expected shape (3, H, W); got {tuple(values.shape)}")
    scaled = values.detach().cpu().numpy().transpose(1, 2, 0) * 255.0
    if np.isnan(scaled).any():
        raise ValueError("values: expected numbers in [0, 1]; got NaN")
    return np.clip(np.rint(scaled) if rounded else scaled, 0.0, 255.0).astype(np.uint8)


def write_image(
    path: str | Path,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    grey: bool = False,
    metadata: Metadata = NO_METADATA,
    exclusive: bool = False,
) -> None:
    """Write eight-bit `(H, W, 3)` pixels, whole or not at all; the extension chooses the format.

    Args:
        alpha: transparency, uint8 `(H, W)`.
        grey: write the luminance as one channel.
        metadata: of the source.
        exclusive: never replace a file that is there.

    Raises:
        ImageError: the extension is unknown, the format holds no transparency, or not a picture of this size.
        FileExistsError: the file is there, and `exclusive` is set.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels: expected uint8 (H, W, 3); got {pixels.dtype} {pixels.shape}")
    if path.suffix.lower() not in _OUTPUTS:
        raise ImageError(f"{path}: cannot write this format; use one of {' '.join(OUTPUT_EXTENSIONS)}")
    name, options, keeps_alpha = _OUTPUTS[path.suffix.lower()]
    if alpha is not None and not keeps_alpha:
        raise ImageError(f"{path}: the picture has transparency, which {name} cannot hold; use .png")
    image = to_pil(pixels, alpha, grey, metadata)
    encoded = io.BytesIO()
    try:
        image.save(encoded, format=name, icc_profile=image.info.get("icc_profile"), **options)
    except Exception as error:  # for example a side longer than the format allows
        raise ImageError(f"{path}: {name} cannot hold this picture ({one_line(error)}); use .png") from None
    del image
    write_atomically(path, encoded.getbuffer(), exclusive)
