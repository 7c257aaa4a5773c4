"""HEIC and HEIF pictures, as phones make them, read with pillow-heif; 10 and 12 bits become 16."""

from pathlib import Path

import numpy as np

from ...files import ImageError
from ..color_profiles import color_code_notes, fitting_profile
from ..exif import metadata_of, motion_notes, parse_exif
from ..optional_packages import need
from ..picture import Picture
from ..samples import check_pixels, picture_of, scaled


def heif_size(path: str | Path) -> tuple[int, int]:
    """Width and height. Raises ImageError, or anything if the file is damaged."""
    return _opened(path).size


def read_heif(path: Path) -> Picture:
    """The primary picture of a HEIF file; libheif turns it upright.

    Raises:
        ImageError: pillow-heif is missing, or the picture is too large or of an unsupported kind.
        Exception: anything, if the file is damaged.
    """
    file = _opened(path)
    check_pixels(path, *file.size)
    image = file[file.primary_index]
    notes = [f"{len(file)} frames, of which the main one is read"] if len(file) > 1 else []
    xmp = image.info.get("xmp")
    notes.extend(motion_notes(xmp))
    colors, _, bits = image.mode.partition(";")
    if colors.upper() not in ("L", "LA", "RGB", "RGBA"):
        raise ImageError(f"{path}: a HEIC picture of an unsupported kind ({image.mode}); save it as PNG")
    samples = _samples(image, len(colors), int(bits or 8))
    profile, nclx = image.info.get("icc_profile"), image.info.get("nclx_profile")
    if not profile and nclx:
        notes += color_code_notes(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    profile = fitting_profile(profile, len(colors) < 3, notes)
    exif = parse_exif(image.info.get("exif"), notes)
    size = (samples.shape[1], samples.shape[0])
    metadata = metadata_of(profile, exif, xmp, None, size, notes)
    return picture_of(samples, colors[-1] in "aA", metadata=metadata, notes=notes, premultiplied=colors.endswith("a"))


def _opened(path: str | Path):
    heif = need(path, "a HEIC picture", "pillow_heif", "pillow-heif")
    heif.options.THUMBNAILS = heif.options.DEPTH_IMAGES = heif.options.AUX_IMAGES = False
    return heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)


def _samples(image, channels: int, bits: int) -> np.ndarray:
    """The samples (H, W, channels), in the full range of their dtype."""
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    data = image.data  # first, as decoding may change the size
    width, height = image.size
    rows = np.frombuffer(data, np.uint8).reshape(height, image.stride)[:, : width * channels * dtype.itemsize]
    samples = rows.view(dtype).reshape(height, width, channels)
    return scaled(samples, (1 << bits) - 1)
