"""`write_image`: choose the writer by the extension, Pillow for 8 bits per channel, `png` and `tiff` for 16."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ...files import ImageError, reason_of, write_atomically
from ...streams import quiet
from ..picture import NO_METADATA, Metadata
from ..samples import DTYPES, bands, to_bits
from .metadata import held, profile_fits
from .png import write_deep_png, xmp_text
from .tiff import write_tiff

# By extension: Pillow's name of the format, its options, and whether it keeps transparency.
_OUTPUTS: dict[str, tuple[str, dict[str, object], bool]] = {
    ".png": ("PNG", {}, True),
    ".jpg": ("JPEG", {"quality": 95}, False),
    ".jpeg": ("JPEG", {"quality": 95}, False),
    ".webp": ("WEBP", {"lossless": True, "exact": True}, True),  # exact: keeps colors that are fully transparent
    ".tif": ("TIFF", {}, True),
    ".tiff": ("TIFF", {}, True),
    ".bmp": ("BMP", {}, False),
}
OUTPUT_EXTENSIONS = tuple(_OUTPUTS)
# The ones that can hold 16 bits per channel.
DEEP_EXTENSIONS = (".png", ".tif", ".tiff")
# Pixels of a band, which is converted to the file's order of bytes and channels at once.
_BAND_PIXELS = 1 << 18


def to_pil(
    pixels: np.ndarray, alpha: np.ndarray | None = None, gray: bool = False, metadata: Metadata = NO_METADATA
) -> Image.Image:
    """Eight-bit `(H, W, 3)` pixels as a PIL image; arguments as for `write_image`.

    The metadata are in `image.info`, as if Pillow had read a file, for `image.save(path, exif=image.info["exif"])`.
    """
    image = Image.fromarray(pixels)
    if gray:
        image = image.convert("L")
    if alpha is not None:
        image.putalpha(Image.fromarray(to_bits(alpha, 8)))
    parts = {"icc_profile": metadata.icc_profile, "exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    if metadata.icc_profile and not profile_fits(metadata.icc_profile, gray):
        del parts["icc_profile"]
    image.info.update((name, part) for name, part in parts.items() if part)
    return image


def gray_of(pixels: np.ndarray) -> np.ndarray:
    """The luma `(H, W)` of pixels `(H, W, 3)`, in their dtype; integers are rounded to the nearest.

    For uint8 and uint16 these are the values that `write_image` writes for a gray picture.
    """
    if pixels.dtype == np.uint8:
        return np.asarray(to_pil(pixels, gray=True))
    red, green, blue = np.moveaxis(pixels.astype(np.promote_types(pixels.dtype, np.float32)), -1, 0)
    # 0.299 R + 0.587 G + 0.114 B, as Pillow computes it, but exact if the three are equal.
    luma = green + 0.299 * (red - green) + 0.114 * (blue - green)
    return (np.rint(luma) if pixels.dtype.kind == "u" else luma).astype(pixels.dtype)


def quantize(values: Tensor, rounded: bool = False, bits: int = 8) -> np.ndarray:
    """Convert a `(3, H, W)` tensor in [0, 1] to pixels `(H, W, 3)`: clip(255 x, 0, 255), truncated or `rounded`.

    The official code truncates, and so does the published division here; pictures with an exposure are rounded. With
    16 `bits` the pixels are uint16, and 65535 takes the place of 255.

    Raises:
        ValueError: the shape is wrong, or a value is NaN.
    """
    if values.dim() != 3 or values.shape[0] != 3:
        raise ValueError(f"values: expected shape (3, H, W); got {tuple(values.shape)}")
    most = float(np.iinfo(DTYPES[bits]).max)
    values = values.float() if bits == 16 and values.dtype.itemsize < 4 else values  # float16 cannot hold 65535
    scaled = values.detach().cpu().numpy().transpose(1, 2, 0) * most
    if np.isnan(scaled).any():
        raise ValueError("values: expected numbers in [0, 1]; got NaN")
    return np.clip(np.rint(scaled) if rounded else scaled, 0.0, most).astype(DTYPES[bits])


def write_image(
    path: str | Path,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    gray: bool = False,
    metadata: Metadata = NO_METADATA,
    exclusive: bool = False,
) -> tuple[str, ...]:
    """Write `(H, W, 3)` pixels of 8 or 16 bits, whole or not at all; the extension chooses the format.

    Args:
        pixels: uint8, or uint16 if the extension is one of `DEEP_EXTENSIONS`.
        alpha: transparency `(H, W)`, uint8 or uint16, written with the bits of the pixels. If the format has no
            transparency, it has to be opaque and is left out.
        gray: write one channel, the luma.
        metadata: the metadata of the source, written as far as the format can hold them.
        exclusive: never replace an existing file.

    Returns:
        Notes for the user on the metadata that the file does not hold.

    Raises:
        ImageError: the extension is unknown, or the format cannot hold transparency, 16 bits, or a picture of this
            size.
        ValueError: the arrays have another dtype or shape.
        FileExistsError: the file exists, and `exclusive` is set.
        OSError: the file cannot be written.
    """
    path = Path(path)
    _check_arrays(pixels, alpha)
    if path.suffix.lower() not in _OUTPUTS:
        raise ImageError(f"{path}: cannot write this format; use one of {' '.join(OUTPUT_EXTENSIONS)}")
    name, options, keeps_alpha = _OUTPUTS[path.suffix.lower()]
    if pixels.dtype == np.uint16 and path.suffix.lower() not in DEEP_EXTENSIONS:
        raise ImageError(f"{path}: {name} cannot hold 16 bits per channel; use .png, .tif or 8 bits")
    if alpha is not None and not keeps_alpha:
        if not _opaque(alpha):
            raise ImageError(f"{path}: the picture has transparency, which {name} cannot hold; use .png")
        alpha = None
    metadata, notes = held(metadata, name, gray)
    encoded = io.BytesIO()
    try:
        with quiet:  # libjpeg prints what it cannot do
            _encode(encoded, name, options, (pixels, alpha, gray), metadata)
    except MemoryError:
        raise
    except Exception as error:  # for example a side longer than the format allows
        raise ImageError(f"{path}: {name} cannot hold this picture ({reason_of(error)}); use .png") from None
    write_atomically(path, encoded.getbuffer(), exclusive)
    return notes


def _check_arrays(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    dtypes = tuple(DTYPES.values())
    if pixels.dtype not in dtypes or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels: expected uint8 or uint16 (H, W, 3); got {pixels.dtype} {pixels.shape}")
    if alpha is not None and (alpha.dtype not in dtypes or alpha.shape != pixels.shape[:2]):
        raise ValueError(f"alpha: expected uint8 or uint16 {pixels.shape[:2]}; got {alpha.dtype} {alpha.shape}")


def _opaque(alpha: np.ndarray) -> bool:
    return bool((alpha == np.iinfo(alpha.dtype).max).all())


def _encode(
    file: BinaryIO,
    name: str,
    options: dict[str, object],
    picture: tuple[np.ndarray, np.ndarray | None, bool],
    metadata: Metadata,
) -> None:
    pixels, alpha, gray = picture
    shape = (*pixels.shape[:2], (1 if gray else 3) + (alpha is not None))
    if name == "TIFF":
        write_tiff(file, _bands(*picture), shape, 8 * pixels.dtype.itemsize, metadata)
    elif pixels.dtype == np.uint16:
        write_deep_png(file, _bands(*picture), shape, metadata)
    else:
        image = to_pil(*picture)
        image.save(file, format=name, icc_profile=metadata.icc_profile, **_pillow_metadata(name, metadata), **options)


def _bands(pixels: np.ndarray, alpha: np.ndarray | None, gray: bool) -> Iterator[np.ndarray]:
    """The channels to write `(rows, W, C)`, band by band from the top, without a copy of the whole picture."""
    for rows in bands(pixels, _BAND_PIXELS):
        band = pixels[rows]
        band = gray_of(band)[..., None] if gray else band
        if alpha is not None:
            transparency = to_bits(alpha[rows], 8 * pixels.dtype.itemsize)
            band = np.concatenate([band, transparency[..., None]], axis=2)
        yield band


def _pillow_metadata(name: str, metadata: Metadata) -> dict[str, object]:
    """The metadata, except for the profile, as arguments for Pillow's `save`."""
    parts: dict[str, object] = {"exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    if name == "PNG" and metadata.xmp:
        chunks = PngInfo()
        chunks.add(b"iTXt", xmp_text(metadata.xmp))
        del parts["xmp"]
        parts["pnginfo"] = chunks
    return {part: value for part, value in parts.items() if value}
