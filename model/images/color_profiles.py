"""Color profiles of pictures that are read: which ones are kept, and how CMYK and Lab become sRGB."""

import io

from PIL import Image, ImageCms

from ..files import reason_of

_SPACES = {b"RGB ": "RGB", b"GRAY": "gray", b"CMYK": "CMYK", b"Lab ": "Lab"}


def fitting_profile(profile: bytes | None, gray: bool, notes: list[str]) -> bytes | None:
    """The profile if it describes pixels of this kind, else None and a note.

    A profile that cannot be parsed is kept for RGB, where nothing contradicts it, but not for gray.
    """
    if not profile:
        return None
    space, wanted = _space(profile), "gray" if gray else "RGB"
    if space == wanted or (space is None and not gray):
        return profile
    what = "cannot be read" if space is None else f"is for {space}, not for {wanted}"
    notes.append(f"its color profile {what}, left out")
    return None


def to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]):
    """A function that converts PIL images of the mode of `image`, CMYK or LAB, into sRGB; a note says how it does so.

    Raises:
        ImageCms.PyCMSError: for LAB, if this Pillow has no color management.
    """
    if image.mode == "LAB":
        notes.append("Lab colors, converted to sRGB")
        return _transform(ImageCms.createProfile("LAB"), "LAB")
    if profile and _space(profile) == "CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = _transform(source, image.mode)
        except (ImageCms.PyCMSError, OSError, ImportError) as error:
            notes.append(f"its color profile cannot be applied ({reason_of(error)}); CMYK, converted without a profile")
        else:
            notes.append("CMYK, converted to sRGB by its color profile")
            return transform
    else:
        notes.append("CMYK without a color profile for CMYK, converted without one")
    return lambda band: band.convert("RGB")


def _transform(source, mode: str):
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    return lambda band: ImageCms.applyTransform(band, transform)


def _space(profile: bytes) -> str | None:
    """The color space that a profile describes, or None if the bytes are not a profile."""
    if len(profile) < 128 or profile[36:40] != b"acsp":
        return None
    return _SPACES.get(profile[16:20], "another color space")


# Numbers of ITU-T H.273, by which a picture may describe its colors instead of by a profile.
_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_HDR = {16: "PQ", 18: "HLG"}
_UNSPECIFIED = 2


def color_code_notes(primaries: int, transfer: int) -> list[str]:
    """Notes on colors other than sRGB, given by their numbers in H.273, as in a cICP chunk or an nclx box."""
    notes = []
    if transfer in _HDR:
        notes.append(f"HDR ({_HDR[transfer]}), read as a common picture, whose brightness it does not have")
    elif transfer not in (1, 6, 13, 14, 15, _UNSPECIFIED):  # BT.709 and the like are close to sRGB
        notes.append(f"its transfer function (number {transfer}) is not applied; read as sRGB")
    if primaries not in (1, _UNSPECIFIED):
        name = _PRIMARIES.get(primaries, f"number {primaries}")
        notes.append(f"its primaries ({name}) are not applied; read as sRGB")
    return notes
