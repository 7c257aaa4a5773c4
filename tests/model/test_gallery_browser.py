"""The before/after page in a real browser: dragged by mouse, touch and keys, from a file, without a network."""

import io

import numpy as np
import pytest
from PIL import Image

from model.gallery.build import Pair, write_gallery
from tests.browser import NAMES, Browser, find_chromium

BEFORE, AFTER, LIGHT = (30, 40, 90), (200, 120, 60), (90, 160, 90)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_chromium()
    if program is None:
        pytest.skip(f"no Chromium found (looked for {', '.join(NAMES)}); set CHROMIUM to the program")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page with a space")
    for name, color in (("before", BEFORE), ("after", AFTER), ("light", LIGHT)):
        Image.new("RGB", (300, 200), color).save(folder / f"{name}.png")
    first = Pair("first.png", folder / "before.png", folder / "after.png", folder / "light.png")
    write_gallery([first, first._replace(name="second.png", illumination=None)], folder / "index.html")
    return folder / "index.html"


@pytest.fixture
def area(browser, page):
    """Left edge, width and middle height of the first picture, on a fresh page as wide as a desktop's."""
    browser.screen(1200, 800)
    browser.open(page)
    return box(browser)


def box(browser) -> tuple[float, float, float]:
    left, top, width, height = browser.evaluate(
        "(() => { const box = document.querySelector('.compare').getBoundingClientRect();"
        "return [box.left, box.top, box.width, box.height]; })()"
    )
    return left, width, top + height / 2


def split(browser, number: int = 0) -> float:
    """Where a picture is divided, in percent from its left edge, by the style that divides it."""
    style = f"document.querySelectorAll('.compare')[{number}].style.getPropertyValue('--at')"
    return float(browser.evaluate(style).removesuffix("%"))


def seen(browser, x: float, y: float) -> tuple[int, ...]:
    """The color on the screen."""
    with Image.open(io.BytesIO(browser.screenshot())) as image:
        return image.convert("RGB").getpixel((round(x), round(y)))


def near(color, wanted) -> bool:
    return np.abs(np.subtract(color, wanted)).max() <= 6  # JPEG


def test_mouse(browser, area):
    left, width, y = area
    assert split(browser) == 50 and split(browser, 1) == 50
    browser.mouse("mousePressed", left + 0.4 * width, y)
    assert split(browser) == pytest.approx(40, abs=0.5)
    browser.mouse("mouseMoved", left + 0.75 * width, y)
    assert split(browser) == pytest.approx(75, abs=0.5)
    y_clear = y - 60  # away from the handle
    assert near(seen(browser, left + 0.7 * width, y_clear), BEFORE)
    assert near(seen(browser, left + 0.8 * width, y_clear), AFTER)
    browser.mouse("mouseMoved", left + width + 300, y)  # a drag goes on outside of the picture
    assert split(browser) == 100
    browser.mouse("mouseReleased", left + width + 300, y)
    browser.mouse("mouseMoved", left + 0.2 * width, y, held=False)
    assert split(browser) == 100 and split(browser, 1) == 50


def test_touch(browser, page):
    browser.screen(390, 800, touch=True)
    browser.open(page)
    left, width, y = box(browser)
    browser.touch("touchStart", left + 0.5 * width, y)
    for share in (0.45, 0.4, 0.3, 0.2):
        browser.touch("touchMove", left + share * width, y)
    browser.touch("touchEnd")
    assert split(browser) == pytest.approx(20, abs=1)
    assert near(seen(browser, left + 0.1 * width, y - 40), BEFORE)
    assert near(seen(browser, left + 0.3 * width, y - 40), AFTER)


def test_keyboard(browser, area):
    browser.key("Tab", 9)
    assert browser.evaluate("document.activeElement.getAttribute('aria-label')").startswith("first.png")
    for key, code, wanted in (
        ("ArrowRight", 39, 52),
        ("ArrowUp", 38, 54),
        ("ArrowLeft", 37, 52),
        ("PageDown", 34, 32),
        ("Home", 36, 0),
        ("End", 35, 100),
    ):
        browser.key(key, code)
        assert split(browser) == wanted, key
    assert near(seen(browser, area[0] + 0.9 * area[1], area[2] - 60), BEFORE)
    assert split(browser, 1) == 50


def test_illumination_button(browser, area):
    left, width, y = area
    x, place = left + 0.8 * width, "document.querySelector('button').getBoundingClientRect()"
    assert browser.evaluate("document.querySelectorAll('button').length") == 1  # the second has no illumination
    button = [browser.evaluate(f"{place}.{side}") for side in ("left", "top")]
    for wanted, pressed, label in ((LIGHT, "true", "illumination"), (AFTER, "false", "after")):
        browser.mouse("mousePressed", button[0] + 5, button[1] + 5)
        browser.mouse("mouseReleased", button[0] + 5, button[1] + 5)
        assert near(seen(browser, x, y - 60), wanted)
        assert browser.evaluate("document.querySelector('button').getAttribute('aria-pressed')") == pressed
        assert browser.evaluate("document.querySelector('b + b').textContent") == label
    browser.evaluate("document.querySelector('button').focus()")
    browser.key(" ", 32)
    assert near(seen(browser, x, y - 60), LIGHT) and near(seen(browser, left + 0.2 * width, y - 60), BEFORE)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_fits_every_screen_in_both_schemes(browser, page, width, dark):
    browser.screen(width, 700, dark=dark, touch=width < 500)
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert (sum(seen(browser, 4, 4)) < 3 * 60) == dark
    heights = browser.evaluate("[...document.querySelectorAll('button')].map((button) => button.offsetHeight)")
    assert all(height < 40 for height in heights)  # one line of text


def test_it_needs_nothing_but_its_file(browser, page):
    browser.events.clear()
    browser.screen(1200, 800)
    browser.open(page)
    urls = [
        event["params"]["request"]["url"] for event in browser.events if event.get("method", "").endswith("WillBeSent")
    ]
    assert urls and all(url.startswith(("file:", "data:")) for url in urls)
    faults = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    assert not [event for event in browser.events if event.get("method") in faults]
    sizes = browser.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert sizes == [300] * 5
