"""Makes low-light photographs from bright ones, with a Retinex model of light and a model of sensor noise.

    R    = (photo / 255)^2.2                                linear reflectance, each channel
    e(p) = low * (high / low)^s(p)                          illumination, low <= e <= high < 1
    s(p) = rescaled to [0, 1]:  cos(t) x + sin(t) y + exp(-|p - q|^2 / (2 * 0.35^2))
           x, y in [-0.5, 0.5] over the picture; a slope in direction t and a pool of light around q
    I    = Poisson(F * R * e) / F + Normal(0, READ_NOISE)   photons, F = FULL_WELL at white, then the sensor
    out  = round(255 * clip(I, 0, 1)^(1 / 2.2))             8 bits

If a mean brightness is given, R * e is multiplied by the number with which the picture has that mean before noise.
t and q depend on the seed and on the photograph's index in the list, so the same call writes the same bytes.
The photographs are those that come with scikit-image; nothing is downloaded.
"""

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageOps

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
GAMMA = 2.2
LOW, HIGH = 0.02, 0.2
FULL_WELL = 8000.0
READ_NOISE = 0.0005
POOL_WIDTH = 0.35
SEED = 2


def illumination_map(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """e of the module docstring: `(height, width)` float64 in [LOW, HIGH]."""
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    pool_y, pool_x = rng.uniform(-0.3, 0.3, size=2)
    pool = np.exp(-((y - pool_y) ** 2 + (x - pool_x) ** 2) / (2 * POOL_WIDTH**2))
    s = np.cos(angle) * x + np.sin(angle) * y + pool
    s = (s - s.min()) / (s.max() - s.min())
    return LOW * (HIGH / LOW) ** s


def darken(photo: np.ndarray, rng: np.random.Generator, mean: float | None = None) -> np.ndarray:
    """The photograph in poor light: `(H, W, 3)` uint8 to uint8, by the module's formula.

    mean: the mean in [0, 1] of the stored values before noise, over all pixels and channels; None: whatever it becomes.
    """
    height, width = photo.shape[:2]
    light = (photo / 255.0) ** GAMMA * illumination_map(height, width, rng)[..., None]
    if mean is not None:
        light *= (mean / np.mean(light ** (1 / GAMMA))) ** GAMMA
    return sense(light, rng)


def sense(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the sensor records of linear light (1 is white), `(H, W, 3)`, as uint8."""
    sensed = rng.poisson(light * FULL_WELL) / FULL_WELL + rng.normal(0, READ_NOISE, light.shape)
    return np.round(255 * np.clip(sensed, 0, 1) ** (1 / GAMMA)).astype(np.uint8)


def write_photographs(
    folder: Path, count: int | None = None, max_side: int | None = None, seed: int = SEED
) -> list[Path]:
    """Writes the first `count` photographs (all by default), darkened, as PNG files; returns their paths.

    max_side: larger photographs are first reduced to this many pixels on the longer side.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(skimage.data.__file__).parent
    paths = []
    for index, name in enumerate(PHOTOGRAPHS[:count]):
        with Image.open(source / name) as image:
            image = image.convert("RGB")
        if max_side:
            image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        dark = darken(np.asarray(image), np.random.default_rng([seed, index]))
        path = folder / Path(name).with_suffix(".png").name
        Image.fromarray(dark).save(path)
        paths.append(path)
    return paths


def write_jpegs(folder: Path, count: int, size: tuple[int, int], seed: int = SEED) -> list[Path]:
    """Writes `count` JPEGs, scaled and cropped to (width, height), then darkened; returns their paths.

    The few photographs are used in turn, each time with another light.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        with Image.open(Path(skimage.data.__file__).parent / PHOTOGRAPHS[index % len(PHOTOGRAPHS)]) as image:
            whole = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
        paths.append(folder / f"{index:03}.jpg")
        dark = darken(np.asarray(whole), np.random.default_rng([seed, index]))
        Image.fromarray(dark).save(paths[-1], quality=90)
    return paths
