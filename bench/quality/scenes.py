"""The pictures of docs/quality.md: free photographs from installed packages, darkened, and drawn scenes."""

import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..low_light_photos import SEED, darken
from . import drawn_scenes

MEANS = (0.05, 0.10, 0.20)  # mean brightness of the darkened pictures, in [0, 1]
NOISIEST = 0.03
SIDE = 512  # pixels of a photograph's longer side, at most


class Photograph(NamedTuple):
    """A free photograph in an installed package."""

    title: str
    package: str
    path: str
    author: str
    terms: str  # the source's own words


PHOTOGRAPHS = {
    "astronaut": Photograph(
        "A face: astronaut Eileen Collins",
        *("skimage", "data/astronaut.png", "NASA"),
        '"No known copyright restrictions, released into the public domain."',
    ),
    "coffee": Photograph(
        "A table in a dark room: a cup of coffee",
        *("skimage", "data/coffee.png", "Rachel Michetti"),
        '"No copyright restrictions. CC0 by the photographer (Rachel Michetti)."',
    ),
    "chelsea": Photograph(
        "Fur: Chelsea the cat",
        *("skimage", "data/chelsea.png", "Stéfan van der Walt"),
        '"No copyright restrictions. CC0 by the photographer (Stefan van der Walt)."',
    ),
    "camera": Photograph(
        "Black and white: a man with a camera",
        *("skimage", "data/camera.png", "Lav Varshney"),
        '"No copyright restrictions. CC0 by the photographer (Lav Varshney)."',
    ),
    "hopper": Photograph(
        "A dark uniform: Commodore Grace Hopper",
        *("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "United States Navy"),
        "an official portrait; in the words of "
        "[the change that added it](https://github.com/matplotlib/matplotlib/pull/1599) one of two "
        '"public domain images"',
    ),
    "hubble": Photograph(
        "A night sky: the Hubble eXtreme Deep Field",
        *("skimage", "data/hubble_deep_field.jpg", "NASA"),
        '"The image was captured by NASA and may be freely used in the public domain"',
    ),
    "rocket": Photograph(
        "A launch at night (measured, not shown)",
        *("skimage", "data/rocket.jpg", "SpaceX"),
        '"The image was captured by SpaceX and released in the public domain"; '
        "the page that it came from [is stricter](https://github.com/scikit-image/scikit-image/issues/5095)",
    ),
}
ORDINARY = ("astronaut", "coffee", "chelsea", "camera", "hopper")
DARK_BY_NATURE = ("hubble", 0.03), ("hubble", 0.05), ("moon", 0.05), ("rocket", 0.05), ("rocket", 0.10)
TRAINED_ON = ("astronaut", "coffee")  # by the default weights, darkened in other ways; see model/pretrained


@functools.lru_cache(None)
def photograph(name: str) -> np.ndarray:
    """A photograph, `(H, W, 3)` uint8. The array is shared: do not write to it."""
    chosen = PHOTOGRAPHS[name]
    spec = importlib.util.find_spec(chosen.package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {chosen.package!r}", name=chosen.package)
    with Image.open(Path(spec.origin).parent / chosen.path) as image:
        image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.array(image)


def truth(name: str) -> np.ndarray:
    """The photograph or drawn scene of that name."""
    return photograph(name) if name in PHOTOGRAPHS else getattr(drawn_scenes, name)()


def darkened(name: str, mean: float) -> np.ndarray:
    """The same in poor light, of this mean brightness before noise; black and white stays black and white."""
    # The light depends on the scene alone, so that its means differ only in brightness and noise.
    place = [*PHOTOGRAPHS, name].index(name)
    dark = darken(truth(name), np.random.default_rng([SEED, 100 + place]), mean)
    return dark if colored(truth(name)) else dark[..., 1:2].repeat(3, axis=2)


def colored(picture: np.ndarray) -> bool:
    """Whether there is any color in the picture."""
    return bool((picture != picture[..., :1]).any())
