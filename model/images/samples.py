"""Turn the arrays that decoders give into pictures: range of values, transparency, orientation."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from ..files import ImageError, damaged
from .picture import NO_METADATA, Metadata, Picture

DTYPES = {8: np.uint8, 16: np.uint16}  # by bits per sample
BAND_PIXELS = 1 << 20  # converted at a time, as a copy of the whole would need as much memory again


def check_pixels(path: str | Path, width: int, height: int) -> None:
    """Raises ImageError if a header promises no pixels, or more than are allowed, see `allow_pixels`."""
    if width < 1 or height < 1:
        raise damaged(path, f"a size of {width} x {height}")
    if width * height > _limit():
        raise too_large(path)


def too_large(path: str | Path) -> ImageError:
    """The error for a picture with more pixels than are allowed."""
    advice = "allow them with --max-pixels, scale the picture down or cut it up"
    return ImageError(f"{path}: more than {_limit():,} pixels; {advice}")


def _limit() -> float:
    """The number of pixels above which Pillow refuses."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else int(2 * Image.MAX_IMAGE_PIXELS)


def scaled(samples: np.ndarray, maximum: int) -> np.ndarray:
    """Scale samples in [0, maximum] to the full range of uint8, or of uint16 if `maximum` is above 255, rounded."""
    dtype, top = (np.uint8, 255) if maximum <= 255 else (np.uint16, 65535)
    if maximum == top:
        return samples.astype(dtype, copy=False)
    table = np.rint(np.arange(maximum + 1) * top / maximum).astype(dtype)
    result = np.empty(samples.shape, dtype)
    for rows in bands(samples):
        np.take(table, samples[rows], out=result[rows], mode="clip")
    return result


def to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Convert uint8 or uint16 values to 8 or 16 bits: to the value of equal brightness, or the nearest one."""
    if values.dtype == DTYPES[bits]:
        return values
    if bits == 16:
        return values.astype(np.uint16) * np.uint16(257)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def picture_of(
    samples: np.ndarray,
    alpha: bool = False,
    orientation: int = 1,
    metadata: Metadata = NO_METADATA,
    notes: tuple[str, ...] | list[str] = (),
    premultiplied: bool = False,
) -> Picture:
    """The picture made of samples in the full range of their dtype, turned upright.

    Args:
        samples: (H, W) or (H, W, channels), gray or RGB.
        alpha: the last channel is transparency.
        orientation: as in EXIF, 1 to 8.
        premultiplied: the colors were multiplied by alpha, which is undone.
    """
    samples = samples if samples.ndim == 3 else samples[..., None]
    transparency = np.ascontiguousarray(samples[..., -1]) if alpha else None
    colors = samples[..., :-1] if alpha else samples
    gray = colors.shape[2] == 1
    if premultiplied and transparency is not None:
        colors = _divided(colors, transparency)
    if gray:
        colors = np.repeat(colors, 3, axis=2)
    if transparency is not None:
        transparency = np.ascontiguousarray(turned(transparency, orientation))
    return Picture(np.ascontiguousarray(turned(colors, orientation)), transparency, gray, metadata, tuple(notes))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An upright view of pixels (H, W, ...) that are stored in an EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    vertical, horizontal = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1]


def bands(pixels: np.ndarray, most: int = BAND_PIXELS) -> list[slice]:
    """Slices of rows that divide pixels (H, W, ...) into bands of about `most` pixels."""
    rows = max(1, most // max(1, pixels.shape[1]))
    return [slice(top, top + rows) for top in range(0, len(pixels), rows)]


def _divided(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colors divided by the alpha that they were multiplied by; black where alpha is 0 and they are unknown."""
    top = np.iinfo(colors.dtype).max
    result = np.empty_like(colors)
    for rows in bands(colors):
        weight = alpha[rows, :, None].astype(np.uint32)
        value = (colors[rows] * np.uint32(top) + weight // 2) // np.maximum(weight, 1)
        result[rows] = np.where(weight > 0, np.minimum(value, top), 0)
    return result
