"""Build the before/after page, one self-contained HTML file with sliders, and the contact sheet, one PNG file."""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont

from ..enhancement import brightness
from ..files import write_atomically
from ..images import read_image, to_bits
from . import html_template

PAGE_SIDE = 1200  # longest side of an embedded picture, pixels
JPEG_QUALITY = 90
CELL = 400  # width and height of the space for a picture on the sheet
SHEET_LIMIT = 60


class Pair(NamedTuple):
    """One picture: the name to show, the files before and after, and its illumination and exposure if there are any."""

    name: str
    before: Path
    after: Path
    illumination: Path | None = None
    exposure: float | None = None


def write_gallery(items: Sequence[Pair], path: str | Path, title: str = "Before and after", footer: str = "") -> None:
    """Write one HTML file with a before/after slider for each item; it needs neither network nor other files.

    The slider follows mouse, touch and arrow keys. Pictures are embedded, reduced to 1200 pixels on the longer side, as
    JPEG, or as PNG if there is transparency. Captions give name, size, mean brightness (mean luma as stored, in percent
    of white), exposure, and from the EXIF data camera, exposure settings and date, never the location. If an item has
    an illumination, a button shows it instead of the result. The file is written whole or not at all, and replaces an
    existing one.

    Args:
        items: the pictures, at least one.
        path: the file to write; its folder is created.
        title: the page's heading.
        footer: a line below the pictures, to say how they were made.

    Raises:
        ValueError: there are no items.
        ImageError: a file cannot be read as a picture.
        OSError: the page cannot be written.
    """
    if not items:
        raise ValueError("items: expected at least one picture; got none")
    heading = html.escape(title)
    parts = [
        html_template.HEAD.format(title=heading, style=html_template.STYLE),
        f"<h1>{heading}</h1>\n<p class=hint>Drag across a picture, or use the arrow keys: ",
        "low light on the left, enhanced on the right.</p>\n<main>\n",
        *map(_figure, items),
        f"</main>\n<footer>{html.escape(footer)}</footer>\n<script>{html_template.SCRIPT}</script>\n</html>\n",
    ]
    # A file name that is not valid UTF-8 has surrogates, which can be written as character references.
    _write(path, "".join(parts).encode("utf-8", "xmlcharrefreplace"))


def write_contact_sheet(items: Sequence[Pair], path: str | Path) -> None:
    """Write one PNG with each item as a labeled pair, before on the left, after on the right.

    At most 60 pairs are drawn; if there are more, a last line gives their number.

    Args, Raises: as for `write_gallery`.
    """
    if not items:
        raise ValueError("items: expected at least one picture; got none")
    data = io.BytesIO()
    _draw_sheet(items[:SHEET_LIMIT], len(items) - SHEET_LIMIT).save(data, "PNG")
    _write(path, data.getvalue())


def _write(path: str | Path, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def _open(path: Path) -> Image.Image:
    """The picture as a viewer would show it: upright, 8 bits, RGB or RGBA."""
    picture = read_image(path)
    image = Image.fromarray(to_bits(picture.pixels, 8))
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(to_bits(picture.alpha, 8)))
    return image


def _brightness(image: Image.Image) -> float:
    """Mean luma, in percent of white."""
    return 100 * brightness(np.asarray(image)[..., :3])


def _caption(before: Image.Image, after: Image.Image, exposure: float | None) -> str:
    width, height = before.size
    if exposure == 0.0:
        return f"{width} x {height}, mean brightness {_brightness(before):.0f} %, left as it was"
    text = f"{width} x {height}, mean brightness {_brightness(before):.0f} % to {_brightness(after):.0f} %"
    return text if exposure is None else f"{text}, exposure {exposure:.1f}"


def _exposure(path: Path) -> str:
    """Camera, exposure settings and date, as far as the EXIF data have them."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
        taken = exif.get_ifd(ExifTags.IFD.Exif)
        parts = [str(exif.get(ExifTags.Base.Model, ""))]
        if seconds := float(taken.get(ExifTags.Base.ExposureTime, 0)):
            parts.append(f"{seconds:g} s" if seconds > 0.4 else f"1/{1 / seconds:.0f} s")
        if aperture := float(taken.get(ExifTags.Base.FNumber, 0)):
            parts.append(f"f/{aperture:.1f}")
        if iso := taken.get(ExifTags.Base.ISOSpeedRatings):
            parts.append(f"ISO {iso}")
        day, _, hour = str(taken.get(ExifTags.Base.DateTimeOriginal, "")).partition(" ")
        parts.append(f"{day.replace(':', '-')} {hour[:5]}")
    except Exception:  # damaged EXIF data raise nearly anything, and are no reason to leave out the picture
        return ""
    return ", ".join(part for part in (part.replace("\0", "").strip() for part in parts) if part)


def _embed(image: Image.Image) -> str:
    """The picture as a data URL."""
    image = image.copy()
    image.thumbnail((PAGE_SIDE, PAGE_SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    if image.mode == "RGBA":
        image.save(data, "PNG")
        kind = "png"
    else:
        image.save(data, "JPEG", quality=JPEG_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _figure(item: Pair) -> str:
    before, after = _open(item.before), _open(item.after)
    name, light, button = html.escape(item.name), "", ""
    if item.illumination is not None:
        light = html_template.LIGHT.format(name=name, illumination=_embed(_open(item.illumination)))
        button = html_template.BUTTON
    lines = [_caption(before, after, item.exposure), _exposure(item.before)]
    return html_template.FIGURE.format(
        name=name,
        caption="<br>".join(html.escape(line) for line in lines if line),
        light=light,
        button=button,
        width=before.width,
        height=before.height,
        before=_embed(before),
        after=_embed(after),
    )


def _draw_sheet(items: Sequence[Pair], left_out: int) -> Image.Image:
    """Draw rows of one to three pairs, each under its label."""
    gap, label = 12, 52
    columns = min(3, math.ceil(len(items) / 4))
    thumbs = []
    for item in items:
        before, after = _open(item.before), _open(item.after)
        thumbs.append((item.name, _caption(before, after, item.exposure), _to_cell(before), _to_cell(after)))
    rows = [thumbs[start : start + columns] for start in range(0, len(thumbs), columns)]
    heights = [label + max(thumb[2].height for thumb in row) + gap for row in rows]

    font, small = ImageFont.load_default(19), ImageFont.load_default(16)
    width = columns * (2 * CELL + 2 * gap) + gap
    sheet = Image.new("RGB", (width, sum(heights) + gap + (34 if left_out > 0 else 0)), "#f4f4f2")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, (name, caption, before, after) in enumerate(row):
            left = gap + column * (2 * CELL + 2 * gap)
            draw.text((left, top), _fit(name, font, 2 * CELL), fill="#111111", font=font)
            draw.text((left, top + 25), caption, fill="#555555", font=small)
            for place, image in ((left, before), (left + before.width + 4, after)):
                sheet.paste(image, (place, top + label), image if image.mode == "RGBA" else None)
        top += height
    if left_out > 0:
        draw.text((gap, top), f"and {left_out} more", fill="#111111", font=font)
    return sheet


def _to_cell(image: Image.Image) -> Image.Image:
    """The picture scaled to the space for it on the sheet; each side keeps at least one pixel."""
    scale = CELL / max(image.size)
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text without its beginning if it is too wide, as the end of a path tells more."""
    text = text.encode("utf-8", "replace").decode()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
