"""Pictures from files and back: every colour mode to RGB in, eight bits out, one clear line for what is no picture."""

import io
import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .files import write_atomically

# Searched for in folders. A file named by itself is opened whatever its extension.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".webp", ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pnm"),
)
# A short list on purpose: Pillow also opens formats that start other programs (EPS) or hold no photographs.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")
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
_BAND_PIXELS = 1 << 20


class ImageError(ValueError):
    """A file that cannot be read or written as a picture; the message is one line that says which and why."""


@dataclass(frozen=True)
class Picture:
    """A picture as read: upright, RGB, with what is needed to write its enhanced version."""

    pixels: np.ndarray  # (H, W, 3), uint8, or uint16 where the file's 16 bits could be read
    alpha: np.ndarray | None = None  # (H, W), uint8
    grey: bool = False  # the file held one channel, repeated in `pixels`
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()  # what could not be kept, for the user

    def tensor(self) -> Tensor:
        """The pixels as float32 `(3, H, W)` in [0, 1], without alpha."""
        planes = np.ascontiguousarray(self.pixels.transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(planes).div_(float(np.iinfo(self.pixels.dtype).max))


def read_image(path: str | Path) -> Picture:
    """The picture in a file, turned upright by its EXIF orientation.

    Grey, palette, CMYK and other colour modes become RGB; transparency is kept apart. 16-bit grey keeps its 16 bits.
    16-bit colour is read at 8, all that Pillow gives; of several frames the first is read; both are in `notes`.

    Raises:
        ImageError: the file is missing, empty, no picture, truncated, of an unknown range, or too large.
    """
    path = Path(path)
    if not os.path.isfile(path):
        reason = "not a file" if os.path.exists(path) else "no such file, or not readable"
        raise ImageError(f"{path}: {reason}; expected a picture")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); replace it with a whole copy")
        with _quiet, Image.open(path, formats=_formats()) as image:
            profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
            notes = _notes(image)
            image.load()
            return _to_picture(path, _upright(image, notes), profile, tuple(notes))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        limit = int(2 * Image.MAX_IMAGE_PIXELS)
        raise ImageError(
            f"{path}: more than {limit:,} pixels; allow them by --max-pixels, scale the picture down or cut it up"
        ) from None
    except Image.UnidentifiedImageError:
        if _is_tiff(path):
            raise ImageError(
                f"{path}: a TIFF that is truncated or damaged, or of a kind that Pillow cannot read, as float colours; "
                "save it whole, with 8 or 16 bits a channel"
            ) from None
        raise ImageError(f"{path}: not a picture in a known format ({', '.join(_formats())})") from None
    except MemoryError:
        raise ImageError(f"{path}: not enough memory to read it; scale the picture down or cut it up") from None
    except Exception as error:  # damaged files make decoders raise nearly anything: OSError, SyntaxError, IndexError
        raise ImageError(f"{path}: truncated or damaged ({_one_line(error)}); replace it with a whole copy") from None


def _is_tiff(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*")


def pixel_count(path: str | Path) -> int:
    """Pixels of a picture by its header alone; 0 where that cannot be read, which `read_image` will explain."""
    try:
        with _quiet, Image.open(path, formats=_formats()) as image:
            return image.width * image.height
    except Exception:  # see `read_image`
        return 0


def allow_pixels(limit: int) -> None:
    """Read pictures of up to `limit` pixels, in this process; Pillow refuses more than 178,956,970 by itself."""
    Image.MAX_IMAGE_PIXELS = limit / 2  # it warns above this and refuses above twice as much


def from_pil(image: Image.Image) -> Picture:
    """A PIL image of any mode as `read_image` would read it from a file, turned upright.

    Raises:
        ImageError: its range is not known: 32 bits a channel.
    """
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    notes: list[str] = []
    return _to_picture("image", _upright(image.copy(), notes), profile, tuple(notes))


def to_pil(
    pixels: np.ndarray, alpha: np.ndarray | None = None, grey: bool = False, icc_profile: bytes | None = None
) -> Image.Image:
    """Eight-bit `(H, W, 3)` pixels as a PIL image; arguments as for `write_image`."""
    image = Image.fromarray(pixels)
    if grey:
        image, icc_profile = image.convert("L"), None
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    if icc_profile:
        image.info["icc_profile"] = icc_profile
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
    icc_profile: bytes | None = None,
) -> None:
    """Write eight-bit `(H, W, 3)` pixels, whole or not at all; the extension chooses the format.

    Args:
        alpha: transparency, uint8 `(H, W)`.
        grey: write the luminance as one channel.

    Raises:
        ImageError: the extension is unknown, the format holds no transparency, or not a picture of this size.
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
    image = to_pil(pixels, alpha, grey, icc_profile)
    encoded = io.BytesIO()
    try:
        image.save(encoded, format=name, icc_profile=image.info.get("icc_profile"), **options)
    except Exception as error:  # for example a side longer than the format allows
        raise ImageError(f"{path}: {name} cannot hold this picture ({_one_line(error)}); use .png") from None
    del image
    write_atomically(path, encoded.getbuffer())


class _Quiet:
    """No warnings while any thread is within: of two threads, `warnings.catch_warnings` mixes up the filters.

    Pillow warns at half the size at which it refuses, where photographs lie, and before most of its errors.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._filters.__exit__()


_quiet = _Quiet()


def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow was built with; it raises KeyError for others."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _notes(image: Image.Image) -> list[str]:
    """What reading will lose. To be asked before the pixels are decoded: the raw mode is forgotten then."""
    notes = []
    args = image.tile[0][3] if image.tile else ""
    raw_mode = args[0] if isinstance(args, tuple) and args else args
    if ";16" in str(raw_mode) and not image.mode.startswith("I;16"):
        notes.append("16-bit colour, read at 8 bits")
    frames = getattr(image, "n_frames", 1)
    # A second frame of a JPEG (MPO) is a preview or a gain map, not another photograph.
    if frames > 1 and image.format != "MPO":
        notes.append(f"{frames} frames, of which the first is read")
    return notes


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """The image turned as its EXIF orientation says; broken EXIF data is no reason to refuse good pixels."""
    try:
        ImageOps.exif_transpose(image, in_place=True)  # a copy of a large picture would be as large
    except Exception:  # the EXIF parser raises SyntaxError, struct.error, KeyError and others
        notes.append("unreadable EXIF data, orientation not applied")
    return image


def _to_picture(path: Path | str, image: Image.Image, icc_profile: bytes | None, notes: tuple[str, ...]) -> Picture:
    """RGB and alpha of a decoded image of any mode."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        plane = np.asarray(image).astype(np.uint16)  # also from big-endian
        alpha = None if key is None else np.where(plane == key, 0, 255).astype(np.uint8)
        return Picture(np.repeat(plane[..., None], 3, axis=2), alpha, True, None, notes)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{path}: 32-bit pixels (mode {image.mode}), whose range is not known; convert it to 8 or 16 bits"
        )
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = key is not None or image.mode.endswith(("A", "a"))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if transparent else None
    # Band by band: Pillow's own conversions, to arrays too, make copies of the whole.
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        values = np.asarray(band.convert("RGBA" if transparent else "RGB"))
        pixels[top : top + rows] = values[..., :3]
        if alpha is not None:
            alpha[top : top + rows] = values[..., 3]
    return Picture(pixels, alpha, grey, icc_profile, notes)


def _one_line(error: Exception) -> str:
    """The message of an error, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
