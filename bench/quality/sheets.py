"""Pictures side by side, with labels above them, as JPEG."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

JPEG_QUALITY = 88
GAP, LABEL = 8, 26
PAPER, INK = "#ffffff", "#222222"

Panel = tuple[str, np.ndarray]  # label, (H, W, 3) uint8


def sheet(panels: Sequence[Panel], columns: int, width: int = 330) -> bytes:
    """Panels in rows, each `width` pixels wide under its label, and cropped to the shape of the first."""
    height = round(width * panels[0][1].shape[0] / panels[0][1].shape[1])
    rows = -(-len(panels) // columns)
    image = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + LABEL)), PAPER)
    draw = ImageDraw.Draw(image)
    for index, (label, pixels) in enumerate(panels):
        left, top = index % columns * (width + GAP), index // columns * (height + LABEL)
        draw.text((left + 1, top + 4), label, fill=INK, font=ImageFont.load_default(16))
        image.paste(_resized(pixels, (width, height)), (left, top + LABEL))
    return _jpeg(image)


def columns(pairs: Sequence[tuple[np.ndarray, np.ndarray]], size: tuple[int, int]) -> bytes:
    """The first picture of each pair above the second, all cropped to (width, height), without labels."""
    width, height = size
    image = Image.new("RGB", (len(pairs) * (width + GAP) - GAP, 2 * height + GAP), PAPER)
    for index, pair in enumerate(pairs):
        for row, pixels in enumerate(pair):
            fitted = ImageOps.fit(Image.fromarray(pixels), size, Image.Resampling.LANCZOS)
            image.paste(fitted, (index * (width + GAP), row * (height + GAP)))
    return _jpeg(image)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(pixels)
    # Pictures are enlarged so that one can look at their pixels.
    enlarged = size[0] > image.width
    return ImageOps.fit(image, size, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return data.getvalue()
