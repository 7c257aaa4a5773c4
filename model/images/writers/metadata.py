"""Which metadata each format can hold, and notes on those that it cannot."""

import math
from dataclasses import fields, replace

from ..picture import Metadata

_NAMES = {"icc_profile": "color profile", "exif": "EXIF data", "xmp": "XMP data", "dpi": "resolution"}
# By Pillow's name of the format. Everything not named here can be held.
_LACKS = {"WEBP": ("dpi",), "BMP": ("icc_profile", "exif", "xmp")}
# The most bytes. A JPEG segment has at most 65,533, some of which its name takes; a profile may have 255 segments.
_MOST = {"JPEG": {"icc_profile": 255 * 65519, "exif": 65533, "xmp": 65504}}
# What programs write if they know of no resolution.
_NO_RESOLUTION = 72
_GRAY = b"GRAY"


def held(metadata: Metadata, format: str, gray: bool) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata that a file of this format will hold, and a note for the user on each part that is left out.

    Args:
        metadata: the metadata of the source; `exif` is returned with its header "Exif" in any case.
        format: Pillow's name of the format.
        gray: the picture has one channel, and so needs a gray profile; others need one for colors.
    """
    metadata = _clean(metadata)
    label, dropped = "WebP" if format == "WEBP" else format, {}
    for part in (field.name for field in fields(metadata)):
        value, most = getattr(metadata, part), _MOST.get(format, {}).get(part, math.inf)
        if value is None:
            continue
        if part in _LACKS.get(format, ()):
            known = part != "dpi" or {round(number) for number in value} != {_NO_RESOLUTION}
            dropped[part] = f"{label} holds no {_NAMES[part]}, which is left out" if known else ""
        elif part == "icc_profile" and not profile_fits(value, gray):
            kinds = ("color", "gray") if gray else ("gray", "in color")
            dropped[part] = "the color profile is for {} and the picture is {}, so it is left out".format(*kinds)
        elif part != "dpi" and len(value) > most:
            dropped[part] = f"{label} holds at most {most:,} bytes of {_NAMES[part]}; {len(value):,} are left out"
    return replace(metadata, **dict.fromkeys(dropped)), tuple(note for note in dropped.values() if note)


def profile_fits(profile: bytes, gray: bool) -> bool:
    """Whether a color profile suits a picture that is gray, or one in color."""
    return (profile[16:20] == _GRAY) == gray


def exif_directories(exif: bytes) -> bytes:
    """EXIF data from its TIFF header on, without the name in front that JPEG needs."""
    return exif.removeprefix(b"Exif\0\0")


def _clean(metadata: Metadata) -> Metadata:
    """The metadata without empty parts and impossible resolutions, and with the header of the EXIF data."""
    exif = b"Exif\0\0" + exif_directories(metadata.exif) if metadata.exif else None
    dpi = None if metadata.dpi is None else (float(metadata.dpi[0]), float(metadata.dpi[1]))
    if dpi is not None and not all(0.5 <= value <= 65535.0 for value in dpi):
        dpi = None
    return Metadata(metadata.icc_profile or None, exif, metadata.xmp or None, dpi)
