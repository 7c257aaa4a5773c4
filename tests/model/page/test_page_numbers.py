"""Each engine of the page next to `Enhancer`: every rule, sizes from one pixel up, seams of tiles, transparency."""

import base64

import numpy as np
import pytest
from PIL import Image

from model import DEFAULT_WEIGHTS, Enhancer
from model.images import Picture
from model.page import compare
from model.page import page as page_text

ENGINES = ("JavaScript", "WebGL2", "WebGPU")


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A dark picture with slopes, an edge, noise, and a lamp."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    light = 25 + 20 * np.sin(x / 17)[..., None] * np.cos(y / 23)[..., None] + 30 * (x > width / 2)[..., None]
    pixels = light * [1.0, 0.8, 0.6] + random.normal(0, 3, (height, width, 3))
    pixels[height // 3, width // 3] = 250
    return np.clip(pixels, 0, 255).astype(np.uint8)


RUN = """async ([data, width, height, settings]) => {
  const pixels = Uint8ClampedArray.from(atob(data), (character) => character.charCodeAt(0));
  const done = await sciKernels.enhance({ pixels, width, height }, settings);
  let text = "";
  for (let at = 0; at < done.picture.pixels.length; at += 2 ** 15) {
    text += String.fromCharCode(...done.picture.pixels.subarray(at, at + 2 ** 15));
  }
  return [btoa(text), done.exposure, done.engine];
}"""


def through_page(tab, pixels: np.ndarray, **settings) -> tuple[np.ndarray, float | None, str]:
    """Pixels (H, W, 4) of the result, exposure, engine."""
    if pixels.shape[2] == 3:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    height, width = pixels.shape[:2]
    settings = {"exposure": "auto", "strength": 1, "denoise": 1} | settings
    data, exposure, engine = tab.evaluate(RUN, [base64.b64encode(pixels.tobytes()).decode(), width, height, settings])
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(pixels.shape), exposure, engine


def check(tab, engine: str, pixels: np.ndarray, **settings) -> None:
    """At most one level away, for at most one value in a thousand; the exposure is the same, transparency kept."""
    got, exposure, used = through_page(tab, pixels, **settings)
    assert used == engine
    rule = {"exposure": "auto", "strength": 1.0} | settings
    if rule["exposure"] is None:
        rule.pop("denoise", None)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    wanted = Enhancer(**rule).picture(Picture(np.ascontiguousarray(pixels[..., :3]), alpha))
    if exposure is None or wanted.exposure is None:
        assert exposure is wanted.exposure
    else:
        assert exposure == pytest.approx(wanted.exposure, rel=1e-4, abs=1e-6)
    away = np.abs(got[..., :3].astype(int) - wanted.pixels)
    assert away.max() <= 1
    assert np.count_nonzero(away) <= max(1, away.size / 1000)
    assert np.array_equal(got[..., 3], np.full(got.shape[:2], 255) if alpha is None else alpha)
    if wanted.exposure != 0 and rule["strength"]:
        assert np.mean(wanted.pixels) > np.mean(pixels[..., :3])  # there was something to be seen


@pytest.fixture(scope="module")
def tabs(browser, address):
    """A tab for each engine, opened once."""
    opened = {}
    for engine in ENGINES:
        opened[engine] = browser.new_page()
        opened[engine].goto(f"{address}#engine={engine}")
    yield opened
    for tab in opened.values():
        tab.close()


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    return request.param


RULES = {
    "auto": {},
    "by hand": {"exposure": 12.0},
    "weak": {"exposure": 6.0, "strength": 0.35},
    "no filter": {"denoise": 0},
    "strong filter": {"denoise": 3.5},
    "published": {"exposure": None},
    "weak published": {"exposure": None, "strength": 0.4},
    "nothing": {"strength": 0},
}


@pytest.mark.parametrize("rule", RULES)
def test_rules(tabs, engine, rule):
    check(tabs[engine], engine, scene(70, 53, seed=3), **RULES[rule])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (2, 3), (5, 4), (17, 33)], ids=str)
def test_small_sizes(tabs, engine, size):
    check(tabs[engine], engine, scene(*size, seed=sum(size)))


# What fits into one piece of each engine, and one pixel or so more in each direction.
SEAMS = {"JavaScript": [(700, 1600), (3, 5000)], "WebGL2": [(1009, 1011), (1030, 5), (4, 2050)], "WebGPU": [(3, 8195)]}


@pytest.mark.parametrize("name, size", [(name, size) for name, sizes in SEAMS.items() for size in sizes], ids=str)
def test_no_seams(tabs, name, size):
    check(tabs[name], name, scene(*size, seed=1))


def test_a_bright_picture_is_left_as_it_was(tabs, engine):
    pixels = np.full((20, 30, 3), 180, np.uint8)
    pixels[::3] = 90
    got, exposure, _ = through_page(tabs[engine], pixels)
    assert exposure == 0 and np.array_equal(got[..., :3], pixels)


def test_black_stays_black(tabs, engine):
    got, exposure, _ = through_page(tabs[engine], np.zeros((9, 8, 3), np.uint8))
    assert exposure == 0 and not got[..., :3].any()


@pytest.mark.parametrize("kind", ["half", "thin", "all"])
def test_what_is_transparent_does_not_count(tabs, engine, kind):
    """For the exposure; the points that are looked at are every second pixel here."""
    pixels = scene(520, 40, seed=5)
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    if kind == "half":
        alpha[100:400, 5:30] = 200
        alpha[150:200, 10:20] = 0
    elif kind == "thin":
        alpha[1::4, 3::8] = 255
        alpha[1, 0] = 1
    pixels[alpha == 0] //= 3
    check(tabs[engine], engine, np.dstack([pixels, alpha]), exposure="auto")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_24_megapixels(browser, tmp_path):
    """From a file to a file: all pieces of each engine together give the picture."""
    path = tmp_path / "large.png"
    Image.fromarray(np.tile(scene(500, 500, seed=2), (8, 12, 1))).save(path, compress_level=1)
    compared = compare(page_text(), [path], DEFAULT_WEIGHTS)
    assert [one.engine for one in compared] == ["WebGL2", "JavaScript", "WebGPU"]
    assert all(one.agrees for one in compared)
