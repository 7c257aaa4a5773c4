"""Before and after, side by side: one self-contained HTML page with sliders, and one contact sheet."""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import write_atomically
from .images import read_image

PAGE_SIDE = 1200  # longest side of an embedded picture, pixels
JPEG_QUALITY = 90
CELL = 400  # width and height of a picture's place on the sheet
SHEET_LIMIT = 60


class Pair(NamedTuple):
    """One picture: the name to show, and the image files before and after."""

    name: str
    before: Path
    after: Path


def write_gallery(items: Sequence[Pair], path: str | Path, title: str = "Before and after") -> None:
    """Write one HTML file with a before/after slider for each item; it needs no network and no other file.

    The slider follows mouse, touch and arrow keys. Pictures are embedded, reduced to 1200 pixels on the longer
    side: JPEG, or PNG where there is transparency. Captions give name, size and mean brightness (mean of R, G
    and B as stored, in percent of white). The file appears whole or not at all and replaces an older one.

    Args:
        items: the pictures, at least one.
        path: the file to write; its folder is made.
        title: the page's heading.

    Raises:
        ValueError: no items.
        ImageError: a file cannot be read as a picture.
        OSError: the page cannot be written.
    """
    if not items:
        raise ValueError("items: expected at least one picture; got none")
    heading = html.escape(title)
    parts = [
        _HEAD.format(title=heading, style=_STYLE),
        f"<h1>{heading}</h1>\n<p class=hint>Drag across a picture, or use the arrow keys: ",
        "low light on the left, enhanced on the right.</p>\n<main>\n",
        *map(_figure, items),
        f"</main>\n<script>{_SCRIPT}</script>\n</html>\n",
    ]
    # A file name that is no valid UTF-8 reaches us with surrogates; as a character reference it can be written.
    _write(path, "".join(parts).encode("utf-8", "xmlcharrefreplace"))


def write_contact_sheet(items: Sequence[Pair], path: str | Path) -> None:
    """Write one PNG with every item as a labelled pair, before on the left, after on the right.

    At most 60 pairs are drawn; a last line then says how many there are beside them.

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
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        pixels = np.round(pixels / 257.0).astype(np.uint8)
    image = Image.fromarray(pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def _brightness(image: Image.Image) -> float:
    """Mean of R, G and B, in percent of white."""
    return float(np.asarray(image)[..., :3].mean()) / 2.55


def _caption(before: Image.Image, after: Image.Image) -> str:
    width, height = before.size
    return f"{width} x {height}, mean brightness {_brightness(before):.0f} % to {_brightness(after):.0f} %"


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
    name = html.escape(item.name)
    return _FIGURE.format(
        name=name,
        caption=_caption(before, after),
        width=before.width,
        height=before.height,
        before=_embed(before),
        after=_embed(after),
    )


def _draw_sheet(items: Sequence[Pair], left_out: int) -> Image.Image:
    """Pairs in rows, one to three pairs a row, each under its label."""
    gap, label = 12, 52
    columns = min(3, math.ceil(len(items) / 4))
    thumbs = []
    for item in items:
        before, after = _open(item.before), _open(item.after)
        thumbs.append((item.name, _caption(before, after), _to_cell(before), _to_cell(after)))
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
    """The picture as large as a place on the sheet allows; a thin one keeps at least a pixel."""
    scale = CELL / max(image.size)
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, its beginning dropped where it would be too wide: the end of a path tells more."""
    text = text.encode("utf-8", "replace").decode()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text


_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
"""

_STYLE = """
:root { color-scheme: light dark; --back: #f6f6f4; --text: #1b1b1b; --quiet: #5c5c5c; --focus: #0a62c9; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161617; --text: #ececec; --quiet: #a3a3a3; --focus: #7db4ff; }
}
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 3rem); max-width: 1500px;
  background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
.hint { color: var(--quiet); margin: .25rem 0 1.5rem; }
main { display: grid; gap: 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; }
figcaption { margin-top: .4rem; overflow-wrap: anywhere; }
figcaption span { color: var(--quiet); display: block; font-size: .9rem; }
.compare { position: relative; overflow: hidden; border-radius: 6px; cursor: ew-resize; user-select: none;
  touch-action: pan-y; --at: 50%; }
.compare:focus-within:has(:focus-visible) { outline: 3px solid var(--focus); outline-offset: 2px; }
.compare img { display: block; width: 100%; height: 100%; pointer-events: none; }
.compare .before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.compare i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 4px #000; pointer-events: none; }
.compare i::after { content: "\\2194"; position: absolute; top: 50%; left: 50%; translate: -50% -50%;
  width: 36px; height: 36px; line-height: 34px; text-align: center; border-radius: 50%;
  background: #fff; color: #222; font-style: normal; box-shadow: 0 0 5px #000a; }
.compare b { position: absolute; bottom: 8px; padding: 1px 8px; border-radius: 4px; font-size: .8rem;
  font-weight: 500; background: #000a; color: #fff; pointer-events: none; }
.compare b:first-of-type { left: 8px; } .compare b:last-of-type { right: 8px; }
.compare input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; pointer-events: none; }
"""

_FIGURE = """<figure>
<div class=compare style="aspect-ratio: {width} / {height}">
<img class=after alt="{name}, enhanced" src="{after}">
<img class=before alt="{name}, low light" src="{before}">
<i></i><b>before</b><b>after</b>
<input type=range min=0 max=100 value=50 aria-label="{name}: share of the low-light picture shown">
</div>
<figcaption>{name}<span>{caption}</span></figcaption>
</figure>
"""

# The range input takes the keyboard and screen readers; pointers are read from the whole picture, since some
# browsers move a range only by its small thumb.
_SCRIPT = """
for (const box of document.querySelectorAll(".compare")) {
  const range = box.querySelector("input");
  const show = () => box.style.setProperty("--at", range.value + "%");
  const follow = (event) => {
    const area = box.getBoundingClientRect();
    range.value = 100 * (event.clientX - area.left) / area.width;
    show();
  };
  range.step = "any";
  range.addEventListener("input", show);
  range.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -20, PageUp: 20 }[event.key];
    if (move) { range.value = +range.value + move; show(); event.preventDefault(); }
  });
  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    box.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => { if (box.hasPointerCapture(event.pointerId)) follow(event); });
  show();
}
"""
