"""TIFF files, judged by their tags: read to the value, or refused in one line."""

from pathlib import Path

import numpy as np
from PIL import Image

from ...files import ImageError, damaged
from .. import tiff_tags as tags
from ..color_profiles import fitting, to_rgb
from ..exif import ORIENTATION, metadata_of, of_directory, orientation_of
from ..optional_packages import install
from ..picture import Picture
from ..samples import check_pixels, picture_of, scaled, to_bits
from ..tiff_tags import Layout, read_tags
from .pillow import read_with_pillow, to_rgb_by_bands
from .tiff_pixels import can_decode, check_segments, decode, needs_codec

_COMPRESSIONS = {6: "old JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 50002: "JPEG XL"}
_OF_PILLOW = {tags.UNCOMPRESSED, *tags.FAX, tags.LZW, tags.JPEG, tags.ADOBE_DEFLATE, tags.DEFLATE, tags.PACKBITS}
_ADVICE = "save it again as RGB or gray with 8 or 16 bits a channel"


def tiff_layout(path: str | Path) -> Layout:
    """What the tags say. Raises anything where they are damaged."""
    with open(path, "rb") as file:
        return read_tags(path, file)


def read_tiff(path: Path, layout: Layout) -> Picture:
    """The first full picture of a TIFF file.

    Raises:
        ImageError: it is of a kind that is not known for certain, too large, or damaged.
    """
    check_pixels(path, layout.width, layout.height)
    _judge(path, layout)
    check_segments(layout, path.stat().st_size)
    notes = _notes(layout)
    if exact_in_pillow(layout):
        return read_with_pillow(path, ["TIFF"], notes, layout)
    if not can_decode(layout):
        return _less(path, layout, notes)
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
    grey = samples.shape[2] < 3
    profile = fitting(profile, grey, notes)
    picture = picture_of(samples, alpha is not None, orientation_of(exif, layout.xmp), premultiplied=layout.associated)
    height, width = picture.pixels.shape[:2]
    metadata = metadata_of(profile, exif, layout.xmp, layout.dpi, (width, height), notes, from_tiff=True)
    return Picture(picture.pixels, picture.alpha, picture.grey, metadata, tuple(notes))


def exact_in_pillow(layout: Layout) -> bool:
    """Whether Pillow reads this kind to the value; found by comparing, see tests/test_tiff.py."""
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


def _judge(path: Path, layout: Layout) -> None:
    """Raises ImageError for everything that no reader here knows for certain."""
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
        return f"with {_COMPRESSIONS[layout.compression]} compression, which is not read"
    if layout.predictor != 1 and layout.compression not in tags.PREDICTED:  # of which readers think differently
        return f"with a predictor for compression {layout.compression} (predictor {layout.predictor})"
    if kind == tags.PALETTE and layout.bits[0] > 8:
        return f"with a palette for {layout.bits[0]} bits"
    if kind == tags.YCBCR and layout.compression != tags.JPEG:
        return "with YCbCr colors that are not JPEG compressed"
    return None


def _notes(layout: Layout) -> list[str]:
    notes = []
    if layout.pages > 1:
        which = "first" if not layout.page else f"one at place {layout.page + 1}, the first that is no thumbnail,"
        notes.append(f"{layout.pages} frames, of which the {which} is read")
    channels = len(layout.extra) - (layout.alpha is not None and layout.photometric not in (tags.PALETTE, tags.CMYK))
    if channels:
        notes.append(f"{channels} extra channel{'s' * (channels > 1)} beside the colors, left out")
    return notes


def _less(path: Path, layout: Layout, notes: list[str]) -> Picture:
    """A kind that only Pillow can read here, at 8 bits; or a refusal."""
    plain = layout.photometric == tags.RGB and not layout.planar and layout.predictor in (1, 2)
    missing = f"imagecodecs; {install('imagecodecs')}"
    if plain and set(layout.bits) == {16} and layout.extra in ((), (2,)) and layout.compression in _OF_PILLOW:
        notes.append(f"16-bit color, read at 8 bits; all 16 need {missing}")
        return read_with_pillow(path, ["TIFF"], notes, layout)
    if needs_codec(layout) and layout.predictor in (1, 2):
        raise ImageError(f"{path}: a TIFF of a kind which needs {missing}")
    what = f"{layout.bits[0]} bits, compression {layout.compression}, predictor {layout.predictor}"
    raise ImageError(f"{path}: a TIFF of a kind that is not read ({what}); {_ADVICE}")


def _ranged(samples: np.ndarray, layout: Layout) -> np.ndarray:
    """Gray or RGB, and alpha, in the whole range of their dtype; white is bright."""
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
    """RGB of CMYK, by way of 8 bits, all that color management has."""
    inks = scaled(samples[..., :4], (1 << layout.bits[0]) - 1)
    if inks.dtype == np.uint16:
        inks = to_bits(inks, 8)
        notes.append(f"{layout.bits[0]}-bit CMYK, converted at 8 bits")
    image = Image.fromarray(np.ascontiguousarray(inks), "CMYK")
    return to_rgb_by_bands(image, to_rgb(image, layout.profile, notes))


def _exif(path: Path, layout: Layout) -> Image.Exif:
    """The directory of the picture, read as EXIF data, with what it refers to."""
    with open(path, "rb") as file:
        try:
            exif = of_directory(file, layout.address, layout.little, layout.big)
        except Exception:  # of damaged data the parser raises nearly anything
            exif = Image.Exif()
    if layout.orientation:
        exif[ORIENTATION] = layout.orientation
    return exif
