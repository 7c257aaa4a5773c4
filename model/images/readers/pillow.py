"""Pictures that Pillow decodes, such as JPEG, WebP and GIF: every mode becomes RGB, and the metadata are collected."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ...files import ImageError
from ..color_profiles import fitting_profile, to_rgb
from ..exif import UNREADABLE, metadata_of, motion_notes, orientation_of
from ..exif_tags import INTEROPERABILITY
from ..picture import Picture
from ..samples import bands, picture_of, turned
from ..tiff_tags import Layout

# A short list on purpose: for some formats Pillow starts other programs (EPS), and others hold no photographs.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "AVIF", "JPEG2000")


def pillow_formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow was built with; opening a file with others would raise KeyError."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def read_with_pillow(
    path: Path,
    formats: list[str],
    notes: list[str],
    layout: Layout | None = None,
    deep: np.ndarray | None = None,
    late: bool = False,
) -> Picture:
    """The first frame of a file.

    Args:
        formats: Pillow's names of the formats that the file may have.
        notes: the notes on the file so far, to which others are added.
        layout: of a TIFF file; says which page to read.
        deep: the samples (H, W, channels) from another decoder, if Pillow would give only 8 of their 16 bits.
        late: the metadata follow the pixels, so that Pillow has to decode these first.

    Raises:
        ImageError: the picture has 32 bits per channel, whose range is not known.
        Exception: anything, if the file is damaged.
    """
    with Image.open(path, formats=formats) as image:
        if layout is None:
            notes.extend(_frames(image))
        elif layout.page:
            image.seek(layout.page)
        if late:
            image.load()
        return picture_of_image(path, image, notes, layout, deep, done=image.close)


def picture_of_image(
    path: Path | str,
    image: Image.Image,
    notes: list[str],
    layout: Layout | None = None,
    deep: np.ndarray | None = None,
    done: Callable[[], None] = lambda: None,
) -> Picture:
    """The picture in a PIL image of any mode; the image is not changed.

    Args:
        done: called when the image is no longer needed, before the pixels are turned upright.
        others: as for `read_with_pillow`, which also lists the exceptions.
    """
    if layout is not None:
        _fetch_directories(image)
    if deep is None:
        image.load()
    if layout is not None:  # from the tags, as Pillow changes what it reports when it turns a TIFF file upright
        profile, xmp, dpi = layout.profile, layout.xmp, layout.dpi
    else:
        profile, xmp, dpi = image.info.get("icc_profile"), _xmp(image), image.info.get("dpi")
    notes.extend(motion_notes(xmp))
    exif = _exif(image, notes, deep is not None)
    # Pillow turns a TIFF file upright while it decodes it.
    orientation = 1 if layout is not None else orientation_of(exif, xmp)
    if deep is not None:
        done()
        picture = picture_of(deep, deep.ndim == 3 and deep.shape[2] in (2, 4), orientation)
        pixels, alpha, gray = picture.pixels, picture.alpha, picture.gray
    else:
        gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
        convert = None
        if image.mode in ("CMYK", "LAB"):
            convert, profile = to_rgb(image, profile, notes), None
        pixels, alpha = _arrays(path, image, convert)
        done()
        pixels = np.ascontiguousarray(turned(pixels, orientation))
        alpha = None if alpha is None else np.ascontiguousarray(turned(alpha, orientation))
    profile = fitting_profile(profile, gray, notes)
    size = (pixels.shape[1], pixels.shape[0])
    metadata = metadata_of(profile, exif, xmp, dpi, size, notes, from_tiff=layout is not None)
    return Picture(pixels, alpha, gray, metadata, tuple(notes))


def to_rgb_by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply a conversion of PIL images band by band, without a copy of the whole image."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows in bands(pixels):
        band = image.crop((0, rows.start, image.width, min(rows.stop, image.height)))
        pixels[rows] = np.asarray(convert(band))
    return pixels


def _arrays(path: Path | str, image: Image.Image, convert: Callable | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The RGB and alpha arrays of a decoded image of any mode."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        plane = np.asarray(image).astype(np.uint16)  # also from big-endian
        alpha = None if key is None else (plane != key) * np.uint16(65535)
        return np.repeat(plane[..., None], 3, axis=2), alpha
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{path}: 32-bit pixels (mode {image.mode}), whose range is not known; convert it to 8 or 16 bits"
        )
    if convert is not None:
        return to_rgb_by_bands(image, convert), None
    if key is None and not image.mode.endswith(("A", "a")):
        return to_rgb_by_bands(image, lambda band: band.convert("RGB")), None
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8)
    # Band by band, as each conversion by Pillow, to an array too, copies the whole image.
    for rows in bands(pixels):
        band = image.crop((0, rows.start, image.width, min(rows.stop, image.height)))
        band = band.convert("LA") if band.mode == "La" else band
        values = np.asarray(band.convert("RGBA"))
        pixels[rows], alpha[rows] = values[..., :3], values[..., 3]
    return pixels, alpha


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp


def _frames(image: Image.Image) -> list[str]:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format == "MPO":  # a second view, a preview or a gain map
        return [f"{frames} pictures in one file (MPO), of which the first is read"]
    return [f"{frames} frames, of which the first is read"] if frames > 1 else []


def _fetch_directories(image: Image.Image) -> None:
    """Read the directories inside the EXIF data of a TIFF file before Pillow closes it; `_exif` reports damage."""
    with contextlib.suppress(Exception):
        image.getexif().get_ifd(INTEROPERABILITY)


def _exif(image: Image.Image, notes: list[str], header: bool) -> Image.Exif:
    """EXIF data, only from the `header` if the pixels are not decoded; damaged EXIF data is no reason to fail."""
    try:
        return Image.Image.getexif(image) if header else image.getexif()
    except Exception:  # the parser raises SyntaxError, struct.error, KeyError and others
        notes.append(UNREADABLE)
        return Image.Exif()
