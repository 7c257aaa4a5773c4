"""Scenes of which no free photograph is at hand: drawn in linear light, taken by the sensor of `low_light_photos.py`.

Each function returns uint8 `(H, W, 3)`, always the same array: do not write to it.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from ..low_light_photos import GAMMA, sense

WIDTH, HEIGHT = 600, 400
SEED = 5
WARM, COLD = np.array([1.0, 0.72, 0.38]), np.array([0.45, 0.6, 1.0])


@functools.cache
def street() -> np.ndarray:
    """A street at night: lamps, their pools of light, lit windows, a wet road."""
    rng = np.random.default_rng([SEED, 0])
    paint = _Paint("#39415c")
    paint.polygon((0, 400, 0, 292, 600, 292, 600, 400), "#77787c")
    glowing = _Paint("#000000")
    left, colors = 0, ("#9a7f6c", "#8a8f8d", "#a58a62", "#7c6b69", "#948b80", "#86797b")
    for color, width, top in zip(colors, (112, 84, 130, 96, 118, 80), (88, 132, 58, 120, 96, 140), strict=True):
        paint.rectangle((left, top, left + width - 2, 292), color)
        for x in range(left + 12, left + width - 20, 24):
            for y in range(top + 16, 250, 34):
                paint.rectangle((x, y, x + 12, y + 18), "#30343a")
                if rng.uniform() < 0.22:
                    glowing.rectangle((x, y, x + 12, y + 18), "#b98a4a")
        left += width
    paint.polygon((0, 312, 600, 312, 600, 330, 0, 330), "#a3a09a")  # a pavement
    for x, color in ((70, "#8c2f2b"), (330, "#3c5f8c")):
        paint.rounded((x, 296, x + 110, 326), 9, color)
        paint.rounded((x + 22, 278, x + 86, 302), 10, color)
        for wheel in (x + 24, x + 84):
            paint.circle(wheel, 326, 10, "#1b1b1d")
    light = np.ones((HEIGHT, WIDTH, 3)) * 0.008 * COLD
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for lamp in (48, 232, 416, 588):
        paint.rectangle((lamp - 2, 170, lamp + 1, 316), "#3d3d40")
        glowing.circle(lamp, 166, 7, "#ffffff")
        squared = (x - lamp) ** 2 + (1.3 * (y - 166)) ** 2
        light += (0.2 / (1 + squared / 52.0**2) ** 1.5)[..., None] * WARM
    emitted = glowing.linear() * (0.25 + 0.75 * WARM)
    halo = sum(share * _blurred(emitted, width) for share, width in ((0.4, 4), (0.5, 14), (0.5, 44)))
    wet = _blurred(np.roll(emitted[::-1], 265, axis=0), (26, 3)) * (y > 330)[..., None]
    return sense(paint.linear() * light + 1.6 * emitted + halo + 1.3 * wet, rng)


@functools.cache
def backlit(wide: bool = False) -> np.ndarray:
    """A room with a bright window, which fills a third of the picture, or with `wide` most of it."""
    rng = np.random.default_rng([SEED, 1, wide])
    left, top, right, bottom = (40, 14, 520, 300) if wide else (190, 50, 452, 250)
    paint = _Paint("#c3a98c")
    paint.rectangle((0, 318, 600, 400), "#8d6444")
    for x in range(0, 600, 75):
        paint.rectangle((x, 318, x + 1, 400), "#6b4a31")
    paint.rectangle((left - 12, top - 12, right + 12, bottom + 12), "#e9e4da")
    paint.rounded((20, 262, 168, 372), 12, "#3d6a57")  # an armchair
    paint.rounded((8, 300, 40, 376), 8, "#35604e")
    paint.rounded((150, 300, 182, 376), 8, "#35604e")
    outside = _Paint("#dfeaf6")
    outside.ellipse((left - 60, bottom - 62, right - 60, bottom + 130), "#93b06c")
    for x, size in ((left + 50, 30), (left + 96, 40), (right - 44, 26)):
        outside.rectangle((x - 3, bottom - 62, x + 3, bottom - 20), "#6d5a41")
        outside.circle(x, bottom - 80, size, "#6f9551")
    pane = np.zeros((HEIGHT, WIDTH, 1))
    pane[top:bottom, left:right] = 1
    pane[:, (left + right) // 2 - 3 : (left + right) // 2 + 3] = 0  # bars
    pane[(top + bottom) // 2 - 3 : (top + bottom) // 2 + 3] = 0
    things = _Paint("#000000")
    plant = right - 66
    things.polygon(
        (plant - 24, bottom - 36, plant + 24, bottom - 36, plant + 17, bottom + 6, plant - 17, bottom + 6), "#b5532f"
    )
    for dx, dy in ((-40, -66), (-20, -92), (4, -104), (26, -84), (44, -58)):
        things.leaf(plant, bottom - 36, plant + dx, bottom - 36 + dy, "#4f9a3d")
    things.ellipse((516, 118, 566, 184), "#dcae90")  # a person next to the window
    things.ellipse((512, 108, 570, 138), "#4b2f20")
    things.rounded((486, 180, 596, 400), 34, "#37579b")
    mask = things.coverage()
    surfaces = paint.linear() * (1 - mask) + things.linear()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot((x - (left + right) / 2) / 300, (y - (top + bottom) / 2) / 260)
    room = (0.035 / (1 + 2 * away**2))[..., None] * (0.8 + 0.2 * WARM)
    window = pane * (1 - mask)
    seen = surfaces * room * (1 - window) + outside.linear() * window * 0.95
    return sense(seen + 0.02 * _blurred(window * outside.linear(), 30), rng)


@functools.cache
def snow() -> np.ndarray:
    """A field of snow in daylight, with firs and a cabin."""
    rng = np.random.default_rng([SEED, 2])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    paint = _Paint("#000000")
    for tree in (50, 96, 150, 410, 470, 516, 566):
        base, size = 208 + (tree * 7) % 23, 34 + (tree * 5) % 26
        for layer in range(4):
            wide, low = size * (0.24 + 0.15 * layer), base - size * (1.5 - 0.45 * layer)
            paint.polygon(
                (tree, low - size * 0.55, tree - wide, low + size * 0.2, tree + wide, low + size * 0.2), "#2f4a3d"
            )
    paint.rectangle((250, 182, 338, 232), "#7a4a30")
    paint.polygon((238, 186, 294, 146, 350, 186), "#f3f6fb")
    paint.rectangle((266, 198, 284, 216), "#33281f")
    paint.rectangle((306, 198, 324, 232), "#4d2f1f")
    hill = 205 + 14 * np.sin(x / 88.0) + 8 * np.sin(x / 31.0 + 1)
    waves = 0.5 + 0.5 * np.sin(y / 9.0 + 2.4 * np.sin(x / 120.0) + gaussian_filter(rng.normal(0, 60, x.shape), 22))
    field = 0.86 - 0.16 * waves[..., None] * np.array([1.0, 0.8, 0.35])
    sky = np.array([0.36, 0.55, 0.86]) + ((y / 210.0).clip(0, 1) ** 1.3)[..., None] * np.array([0.46, 0.34, 0.1])
    ground = np.where((y > hill)[..., None], field, sky)
    mask = paint.coverage()
    return sense(ground * (1 - mask) + paint.linear(), rng)


@functools.cache
def moon() -> np.ndarray:
    """A full moon above dark hills, thin clouds, stars."""
    rng = np.random.default_rng([SEED, 3])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot(x - 400, y - 116)
    seas = gaussian_filter(rng.normal(0, 1, x.shape), 9)
    spots = gaussian_filter(rng.normal(0, 1, x.shape), 2.5)
    disc = ((46 - away) / 1.5).clip(0, 1) * (0.62 + 0.16 * (seas / seas.std()) + 0.05 * spots / spots.std())
    clouds = gaussian_filter(rng.normal(0, 1, x.shape), (9, 60))
    clouds = (0.5 + 0.5 * clouds / np.abs(clouds).max()) ** 3
    sky = 0.0022 + 0.06 * clouds / (1 + (away / 70) ** 2) + 0.012 / (1 + (away / 60) ** 2)
    light = disc.clip(0, 1)[..., None] * np.array([1.0, 0.95, 0.84]) + sky[..., None] * (0.5 + 0.5 * COLD)
    stars = rng.uniform(size=x.shape) > 0.9993
    light += (gaussian_filter(stars * rng.uniform(0.1, 1.6, x.shape), 0.7) * (away > 90))[..., None]
    hills = 330 + 24 * np.sin(x / 110.0) + 12 * np.sin(x / 37.0 + 2)
    light[y > hills] = np.array([0.0009, 0.0012, 0.001])
    return sense(light, rng)


@functools.cache
def screenshot(dark: bool = False) -> np.ndarray:
    """A window full of text, on white or on black; no sensor, no noise."""
    back, ink, bar, soft = (
        ("#16181d", "#d5d8dd", "#262a32", "#7f8794") if dark else ("#ffffff", "#1c1e22", "#e8eaee", "#666c75")
    )
    image = Image.new("RGB", (WIDTH, HEIGHT), back)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, WIDTH, 30), fill=bar)
    for x, color in ((16, "#e8604c"), (36, "#e6b450"), (56, "#5fae57")):
        draw.ellipse((x - 6, 9, x + 6, 21), fill=color)
    draw.text((240, 8), "notes.txt", fill=soft, font=ImageFont.load_default(14))
    draw.text((28, 48), "A page of text", fill=ink, font=ImageFont.load_default(24))
    lines = (
        "Nothing here was taken in low light: the paper is white,",
        "the letters are black, and both should stay as they are.",
        "A program that brightens whatever it is given would make",
        "the gray line below unreadable, and the colors pale.",
    )
    for row, line in enumerate(lines):
        draw.text((28, 90 + 26 * row), line, fill=ink, font=ImageFont.load_default(17))
    draw.text((28, 200), "gray on the page, as in many a footnote", fill=soft, font=ImageFont.load_default(15))
    for index, (size, color) in enumerate(
        zip((70, 120, 95, 140, 60), ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2"), strict=True)
    ):
        draw.rectangle((40 + 104 * index, 380 - size, 104 + 104 * index, 380), fill=color)
    return np.array(image)


class _Paint:
    """Draws flat shapes in stored (not linear) colors, at twice the scene's resolution."""

    def __init__(self, background: str):
        self._image = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), background)
        self._mask = Image.new("L", self._image.size)
        self._pens = ImageDraw.Draw(self._image), ImageDraw.Draw(self._mask)

    def linear(self) -> np.ndarray:
        """What was drawn, in linear light, `(H, W, 3)`."""
        fine = (np.asarray(self._image) / 255.0) ** GAMMA
        return fine.reshape(HEIGHT, 2, WIDTH, 2, 3).mean(axis=(1, 3))

    def coverage(self) -> np.ndarray:
        """The share of each pixel that was drawn on, `(H, W, 1)` in [0, 1]."""
        return (np.asarray(self._mask) / 255.0).reshape(HEIGHT, 2, WIDTH, 2).mean(axis=(1, 3))[..., None]

    def _draw(self, shape: str, points, color: str, **more) -> None:
        for pen, fill in zip(self._pens, (color, 255), strict=True):
            getattr(pen, shape)([2 * value for value in points], fill=fill, **more)

    def rectangle(self, box, color: str) -> None:
        self._draw("rectangle", box, color)

    def polygon(self, points, color: str) -> None:
        self._draw("polygon", points, color)

    def ellipse(self, box, color: str) -> None:
        self._draw("ellipse", box, color)

    def rounded(self, box, radius: int, color: str) -> None:
        self._draw("rounded_rectangle", box, color, radius=2 * radius)

    def circle(self, x: float, y: float, radius: float, color: str) -> None:
        self.ellipse((x - radius, y - radius, x + radius, y + radius), color)

    def leaf(self, x: float, y: float, tip_x: float, tip_y: float, color: str) -> None:
        across = (tip_y - y) * 0.16, (x - tip_x) * 0.16
        mid_x, mid_y = (x + tip_x) / 2, (y + tip_y) / 2
        self.polygon(
            (x, y, mid_x + across[0], mid_y + across[1], tip_x, tip_y, mid_x - across[0], mid_y - across[1]), color
        )


def _blurred(light: np.ndarray, sigma: float | tuple[float, float]) -> np.ndarray:
    return gaussian_filter(light, (*np.broadcast_to(sigma, 2), 0))
