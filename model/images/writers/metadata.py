"""What each format holds of what a picture says beside its pixels."""

import math
from dataclasses import fields, replace

from ..picture import Metadata

_NAMES = {"icc_profile": "color profile", "exif": "EXIF data", "xmp": "XMP data", "dpi": "resolution"}
# By Pillow's name of the format. What is not named here is held.
_LACKS = {"WEBP": ("dpi",), "BMP": ("icc_profile", "exif", "xmp")}
# Bytes. A segment of a JPEG has at most 65,533, of which a name takes some; a profile is cut into at most 255.
_MOST = {"JPEG": {"icc_profile": 255 * 65519, "exif": 65533, "xmp": 65504}}
# What programs write that know of none.
_NO_RESOLUTION = 72
_GRAY = b"GRAY"


def held(metadata: Metadata, format: str, grey: bool) -> tuple[Metadata, tuple[str, ...]]:
    """What a file of this format will hold, and for the user a note on each part that is left out.

    Args:
        metadata: of the source; `exif` comes back with its header "Exif" in any case.
        format: Pillow's name.
        grey: the picture has one channel. Its profile then has to be of gray, as that of colors never may be.
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
        elif part == "icc_profile" and not fits(value, grey):
            kinds = ("color", "gray") if grey else ("gray", "in color")
            dropped[part] = "the color profile is of {} and the picture {}, so it is left out".format(*kinds)
        elif part != "dpi" and len(value) > most:
            dropped[part] = f"{label} holds at most {most:,} bytes of {_NAMES[part]}; {len(value):,} are left out"
    return replace(metadata, **dict.fromkeys(dropped)), tuple(note for note in dropped.values() if note)


def fits(profile: bytes, grey: bool) -> bool:
    """Whether a color profile is of the kind that a gray picture, or one in color, has."""
    return (profile[16:20] == _GRAY) == grey


def exif_directories(exif: bytes) -> bytes:
    """EXIF data as a TIFF header and what follows it, without the name in front that JPEG has."""
    return exif.removeprefix(b"Exif\0\0")


def _clean(metadata: Metadata) -> Metadata:
    """Without empty parts and a resolution that is none; EXIF data with its header, as JPEG has it."""
    exif = b"Exif\0\0" + exif_directories(metadata.exif) if metadata.exif else None
    dpi = None if metadata.dpi is None else (float(metadata.dpi[0]), float(metadata.dpi[1]))
    if dpi is not None and not all(0.5 <= value <= 65535.0 for value in dpi):
        dpi = None
    return Metadata(metadata.icc_profile or None, exif, metadata.xmp or None, dpi)
