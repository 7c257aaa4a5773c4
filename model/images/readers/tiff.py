"""TIFF pictures: read exactly if their tags leave no doubt about the values, otherwise refused with a reason."""

from pathlib import Path

import numpy as np
from PIL import Image

from ...files import ImageError, damaged
from .. import tiff_tags as tags
from ..color_profiles import fitting_profile, to_rgb
from ..exif import metadata_of, orientation_of, read_directory
from ..exif_tags import ORIENTATION
from ..optional_packages import install, read_at_8_bits
from ..picture import Picture
from ..samples import check_pixels, picture_of, scaled, to_bits
from ..tiff_tags import Layout, read_tags
from .pillow import read_with_pillow, to_rgb_by_bands
from .tiff_pixels import can_decode, check_segments, decode, needs_codec

_COMPRESSIONS = {6: "old JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 50002: "JPEG XL"}
_OF_PILLOW = {tags.UNCOMPRESSED, *tags.FAX, tags.LZW, tags.JPEG, tags.ADOBE_DEFLATE, tags.DEFLATE, tags.PACKBITS}
_ADVICE = "save it again as RGB or gray with 8 or 16 bits per channel"


def tiff_layout(path: str | Path) -> Layout:
    """The layout of the file according to its tags. Raises anything if they are damaged."""
    with open(path, "rb") as file:
        return read_tags(path, file)


def read_tiff(path: Path, layout: Layout) -> Picture:
    """The first full picture of a TIFF file.

    Raises:
        ImageError: the picture is too large, damaged, or of a kind whose values are not certain.
    """
    check_pixels(path, layout.width, layout.height)
    _check_kind(path, layout)
    check_segments(layout, path.stat().st_size)
    notes = _notes(layout)
    if exact_in_pillow(layout):
        return read_with_pillow(path, ["TIFF"], notes, layout)
    if not can_decode(layout):
        return _at_8_bits(path, layout, notes)
    check_pixels(path, *layout.segment)
    exif = _exif(path, layout)
    samples = decode(path, layout)
    profile = layout.profile
    if layout.photometric == tags.PALETTE:
        samples = _looked_up(path, samples[..., 0], layout)
        alpha = None
    elif layout.photometric == tags.CMYK:
        samples, profile = _of_inks(samples, layout, notes), None
        alpha = None
    else:
        samples, alpha = _ranged(samples, layout), layout.alpha
    gray = samples.shape[2] < 3
    profile = fitting_profile(profile, gray, notes)
    picture = picture_of(samples, alpha is not None, orientation_of(exif, layout.xmp), premultiplied=layout.associated)
    height, width = picture.pixels.shape[:2]
    metadata = metadata_of(profile, exif, layout.xmp, layout.dpi, (width, height), notes, from_tiff=True)
    return Picture(picture.pixels, picture.alpha, picture.gray, metadata, tuple(notes))


def exact_in_pillow(layout: Layout) -> bool:
    """Whether Pillow reads this kind exactly; found by comparison, see tests/model/test_tiff.py."""
    if layout.compression not in _OF_PILLOW or layout.reversed_bits or layout.predictor not in (1, 2):
        return False
    if layout.big and not layout.little:
        return False
    bits, kind, samples = layout.bits[0], layout.photometric, layout.samples
    if layout.predictor == 2 and bits < 8:
        return False
    if samples == 1 and kind in (tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO, tags.PALETTE):
        return bits in (1, 2, 4, 8) or (bits == 16 and kind == tags.BLACK_IS_ZERO)
    if bits != 8 or layout.extra not in ((), (tags.UNASSOCIATED,)):
        return False
    if kind == tags.BLACK_IS_ZERO:
        return not layout.planar
    if kind == tags.YCBCR:
        return layout.compression == tags.JPEG and not layout.planar and not layout.extra
    return kind == tags.RGB or (kind in (tags.CMYK, tags.LAB) and not layout.extra and not layout.planar)


def _check_kind(path: Path, layout: Layout) -> None:
    """Raises ImageError for every kind that no reader here is certain about."""
    reason = _wrong_values(layout) or _wrong_kind(layout)
    if reason:
        raise ImageError(f"{path}: a TIFF {reason}; {_ADVICE}")


def _wrong_values(layout: Layout) -> str | None:
    bits, formats = max(layout.bits, default=0), set(layout.sample_formats)
    if formats & {3, 6}:
        return f"with {bits}-bit floating point pixels, whose range is not known"
    if formats - {1}:
        return f"with signed {bits}-bit pixels, whose range is not known"
    if bits > 16:
        return f"with {bits}-bit pixels, whose range is not known"
    if len(set(layout.bits)) != 1 or len(layout.bits) < layout.samples or bits < 1:
        return f"with {', '.join(map(str, layout.bits[:8]))} bits in its {layout.samples} channels"
    return None


def _wrong_kind(layout: Layout) -> str | None:
    kind = layout.photometric
    if kind is None:
        return "that does not say what its values are (no PhotometricInterpretation)"
    if kind not in tags.CHANNELS:
        return f"of a kind that is not known (PhotometricInterpretation {kind})"
    if not 0 <= layout.samples - tags.CHANNELS[kind] <= 8:
        return f"with {layout.samples} channels, which do not fit its kind (PhotometricInterpretation {kind})"
    if kind == tags.CMYK and layout.ink_set != 1:
        return "of inks other than CMYK"
    if layout.compression in _COMPRESSIONS:
        return f"with {_COMPRESSIONS[layout.compression]} compression, which is not supported"
    if layout.predictor != 1 and layout.compression not in tags.PREDICTED:  # readers disagree about it
        return f"with a predictor for compression {layout.compression} (predictor {layout.predictor})"
    if kind == tags.PALETTE and layout.bits[0] > 8:
        return f"with a palette for {layout.bits[0]} bits"
    if kind == tags.YCBCR and layout.compression != tags.JPEG:
        return "with YCbCr colors that are not JPEG compressed"
    return None


def _notes(layout: Layout) -> list[str]:
    notes = []
    if layout.pages > 1:
        which = "first" if not layout.page else f"one at place {layout.page + 1}, the first that is not a thumbnail,"
        notes.append(f"{layout.pages} frames, of which the {which} is read")
    channels = len(layout.extra) - (layout.alpha is not None and layout.photometric not in (tags.PALETTE, tags.CMYK))
    if channels:
        notes.append(f"{channels} extra channel{'s' * (channels > 1)} besides the colors, left out")
    return notes


def _at_8_bits(path: Path, layout: Layout, notes: list[str]) -> Picture:
    """Read a kind that only Pillow can read here, at 8 bits. Raises ImageError for others."""
    plain = layout.photometric == tags.RGB and not layout.planar and layout.predictor in (1, 2)
    if plain and set(layout.bits) == {16} and layout.extra in ((), (2,)) and layout.compression in _OF_PILLOW:
        notes.append(read_at_8_bits(16))
        return read_with_pillow(path, ["TIFF"], notes, layout)
    if needs_codec(layout) and layout.predictor in (1, 2):
        raise ImageError(f"{path}: a TIFF of a kind that needs imagecodecs; {install('imagecodecs')}")
    what = f"{layout.bits[0]} bits, compression {layout.compression}, predictor {layout.predictor}"
    raise ImageError(f"{path}: a TIFF of an unsupported kind ({what}); {_ADVICE}")


def _ranged(samples: np.ndarray, layout: Layout) -> np.ndarray:
    """Gray or RGB, with alpha if there is one, in the full range of the dtype, where the maximum is white."""
    channels = [*range(layout.samples - len(layout.extra))]
    if layout.alpha is not None:
        channels.append(layout.alpha)
    if len(channels) != samples.shape[2]:
        samples = np.ascontiguousarray(samples[..., channels])
    maximum = (1 << layout.bits[0]) - 1
    if layout.photometric == tags.WHITE_IS_ZERO:
        np.subtract(samples.dtype.type(maximum), samples[..., 0], out=samples[..., 0])
    return scaled(samples, maximum)


def _looked_up(path: Path, indices: np.ndarray, layout: Layout) -> np.ndarray:
    entries = 1 << layout.bits[0]
    if len(layout.colors) < 3 * entries:
        raise damaged(path, "a palette is missing")
    table = (np.array(layout.colors[: 3 * entries]).reshape(3, entries).T >> 8).astype(np.uint8)
    return table[indices]


def _of_inks(samples: np.ndarray, layout: Layout, notes: list[str]) -> np.ndarray:
    """Convert CMYK to RGB, at 8 bits, which is all that Pillow's color management supports."""
    inks = scaled(samples[..., :4], (1 << layout.bits[0]) - 1)
    if inks.dtype == np.uint16:
        inks = to_bits(inks, 8)
        notes.append(f"{layout.bits[0]}-bit CMYK, converted at 8 bits")
    image = Image.fromarray(np.ascontiguousarray(inks), "CMYK")
    return to_rgb_by_bands(image, to_rgb(image, layout.profile, notes))


def _exif(path: Path, layout: Layout) -> Image.Exif:
    """The directory of the picture, read as EXIF data, with the directories that it refers to."""
    with open(path, "rb") as file:
        try:
            exif = read_directory(file, layout.address, layout.little, layout.big)
        except Exception:  # on damaged data the parser raises nearly anything
            exif = Image.Exif()
    if layout.orientation:
        exif[ORIENTATION] = layout.orientation
    return exif
