"""HEIC and HEIF pictures, as phones make them, by pillow-heif; 10 and 12 bits become 16."""

from pathlib import Path

import numpy as np

from ...files import ImageError
from ..color_profiles import coded, fitting
from ..exif import metadata_of, motion_notes, parsed
from ..optional_packages import need
from ..picture import Picture
from ..samples import check_pixels, picture_of, scaled


def heif_size(path: str | Path) -> tuple[int, int]:
    """Width and height. Raises ImageError, or anything where the file is damaged."""
    return _opened(path).size


def read_heif(path: Path) -> Picture:
    """The main picture of a HEIF file; libheif turns it upright.

    Raises:
        ImageError: pillow-heif is missing, or the picture is too large or of a kind that is not known.
        Exception: anything, where the file is damaged.
    """
    file = _opened(path)
    check_pixels(path, *file.size)
    image = file[file.primary_index]
    notes = [f"{len(file)} frames, of which the main one is read"] if len(file) > 1 else []
    xmp = image.info.get("xmp")
    notes.extend(motion_notes(xmp))
    colors, _, bits = image.mode.partition(";")
    if colors.upper() not in ("L", "LA", "RGB", "RGBA"):
        raise ImageError(f"{path}: a HEIC picture of a kind that is not known ({image.mode}); save it as PNG")
    samples = _samples(image, len(colors), int(bits or 8))
    profile, nclx = image.info.get("icc_profile"), image.info.get("nclx_profile")
    if not profile and nclx:
        notes += coded(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    profile = fitting(profile, len(colors) < 3, notes)
    exif = parsed(image.info.get("exif"), notes)
    size = (samples.shape[1], samples.shape[0])
    metadata = metadata_of(profile, exif, xmp, None, size, notes)
    return picture_of(samples, colors[-1] in "aA", metadata=metadata, notes=notes, premultiplied=colors.endswith("a"))


def _opened(path: str | Path):
    heif = need(path, "a HEIC picture", "pillow_heif", "pillow-heif")
    heif.options.THUMBNAILS = heif.options.DEPTH_IMAGES = heif.options.AUX_IMAGES = False
    return heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)


def _samples(image, channels: int, bits: int) -> np.ndarray:
    """Its samples (H, W, channels), in the whole range of their dtype."""
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    data = image.data  # the size may change as it is decoded
    width, height = image.size
    rows = np.frombuffer(data, np.uint8).reshape(height, image.stride)[:, : width * channels * dtype.itemsize]
    samples = rows.view(dtype).reshape(height, width, channels)
    return scaled(samples, (1 << bits) - 1)
