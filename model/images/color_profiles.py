"""Color profiles: which fit the pixels that are read, and colors that only a profile turns into RGB."""

import io

from PIL import Image, ImageCms

from ..files import one_line

_SPACES = {b"RGB ": "RGB", b"GRAY": "gray", b"CMYK": "CMYK", b"Lab ": "Lab"}


def fitting(profile: bytes | None, grey: bool, notes: list[str]) -> bytes | None:
    """The profile where it describes pixels of this kind; where it does not, None and a note.

    One that cannot be parsed is kept for RGB, as nothing speaks against it, but not for gray.
    """
    if not profile:
        return None
    space, wanted = _space(profile), "gray" if grey else "RGB"
    if space == wanted or (space is None and not grey):
        return profile
    what = "cannot be read" if space is None else f"is for {space}, not for {wanted}"
    notes.append(f"its color profile {what}, left out")
    return None


def to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]):
    """A function that turns images of the mode of `image`, CMYK or LAB, into sRGB; what it does is noted.

    Raises:
        ImageCms.PyCMSError: for LAB, where Pillow has no color management.
    """
    if image.mode == "LAB":
        notes.append("Lab colors, converted to sRGB")
        return _transform(ImageCms.createProfile("LAB"), "LAB")
    if profile and _space(profile) == "CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = _transform(source, image.mode)
        except (ImageCms.PyCMSError, OSError, ImportError) as error:
            notes.append(f"its color profile cannot be applied ({one_line(error)}); CMYK, converted plainly")
        else:
            notes.append("CMYK, converted to sRGB by its color profile")
            return transform
    else:
        notes.append("CMYK without a color profile of its kind, converted plainly")
    return lambda band: band.convert("RGB")


def _transform(source, mode: str):
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    return lambda band: ImageCms.applyTransform(band, transform)


def _space(profile: bytes) -> str | None:
    """The color space that a profile describes, or None where these bytes are no profile."""
    if len(profile) < 128 or profile[36:40] != b"acsp":
        return None
    return _SPACES.get(profile[16:20], "another color space")


# Of ITU-T H.273: what a picture may say of its colors in place of a profile.
_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_HDR = {16: "PQ", 18: "HLG"}
_UNSPECIFIED = 2


def coded(primaries: int, transfer: int) -> list[str]:
    """Notes on colors that are not those of sRGB, by their numbers in H.273 (cICP, nclx)."""
    notes = []
    if transfer in _HDR:
        notes.append(f"HDR ({_HDR[transfer]}), read as if it were not: its brightness is not that of a common picture")
    elif transfer not in (1, 6, 13, 14, 15, _UNSPECIFIED):  # BT.709 and its like lie near sRGB
        notes.append(f"its transfer function (number {transfer}) is not applied; read as sRGB")
    if primaries not in (1, _UNSPECIFIED):
        name = _PRIMARIES.get(primaries, f"number {primaries}")
        notes.append(f"its colors have other primaries ({name}), which is not applied; read as sRGB")
    return notes
