"""The before/after page in a real browser: dragged by mouse, touch and keys, from a file, without a network."""

import io

import numpy as np
import pytest
from PIL import Image

from model.gallery.build import Pair, write_gallery

BEFORE, AFTER, LIGHT = (30, 40, 90), (200, 120, 60), (90, 160, 90)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """Of a page with two pairs, a file."""
    folder = tmp_path_factory.mktemp("page with a space")
    for name, color in (("before", BEFORE), ("after", AFTER), ("light", LIGHT)):
        Image.new("RGB", (300, 200), color).save(folder / f"{name}.png")
    first = Pair("first.png", folder / "before.png", folder / "after.png", folder / "light.png")
    write_gallery([first, first._replace(name="second.png", illumination=None)], folder / "index.html")
    return (folder / "index.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a window: open_page(390, 800, has_touch=True) has options of Playwright's context."""
    contexts = []

    def open(width=1200, height=800, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.goto(address)
        return page

    yield open
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page):
    """As wide as a desktop's."""
    return open_page()


def box(page) -> tuple[float, float, float]:
    """Left edge, width and middle height of the first picture."""
    box = page.locator(".compare").first.bounding_box()
    return box["x"], box["width"], box["y"] + box["height"] / 2


def split(page, number: int = 0) -> float:
    """Where a picture is divided, in percent from its left edge, by the style that divides it."""
    style = page.locator(".compare").nth(number).evaluate("(area) => area.style.getPropertyValue('--at')")
    return float(style.removesuffix("%"))


def seen(page, x: float, y: float) -> tuple[int, ...]:
    """The color on the screen."""
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return image.convert("RGB").getpixel((round(x), round(y)))


def near(color, wanted) -> bool:
    return np.abs(np.subtract(color, wanted)).max() <= 6  # JPEG


def test_mouse(page):
    left, width, y = box(page)
    assert split(page) == 50 and split(page, 1) == 50
    page.mouse.move(left + 0.4 * width, y)
    page.mouse.down()
    assert split(page) == pytest.approx(40, abs=0.5)
    page.mouse.move(left + 0.75 * width, y)
    assert split(page) == pytest.approx(75, abs=0.5)
    y_clear = y - 60  # away from the handle
    assert near(seen(page, left + 0.7 * width, y_clear), BEFORE)
    assert near(seen(page, left + 0.8 * width, y_clear), AFTER)
    page.mouse.move(left + width + 300, y)  # a drag goes on outside of the picture
    assert split(page) == 100
    page.mouse.up()
    page.mouse.move(left + 0.2 * width, y)
    assert split(page) == 100 and split(page, 1) == 50


def test_touch(open_page):
    page = open_page(390, 800, has_touch=True, is_mobile=True)
    left, width, y = box(page)
    devtools = page.context.new_cdp_session(page)  # Playwright itself has taps alone

    def touch(kind, *shares):
        points = [{"x": left + share * width, "y": y} for share in shares]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.5)
    for share in (0.45, 0.4, 0.3, 0.2):
        touch("touchMove", share)
    touch("touchEnd")
    assert split(page) == pytest.approx(20, abs=1)
    assert near(seen(page, left + 0.1 * width, y - 40), BEFORE)
    assert near(seen(page, left + 0.3 * width, y - 40), AFTER)


def test_keyboard(page):
    left, width, y = box(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("first.png")
    for key, wanted in (
        ("ArrowRight", 52),
        ("ArrowUp", 54),
        ("ArrowLeft", 52),
        ("PageDown", 32),
        ("Home", 0),
        ("End", 100),
    ):
        page.keyboard.press(key)
        assert split(page) == wanted, key
    assert near(seen(page, left + 0.9 * width, y - 60), BEFORE)
    assert split(page, 1) == 50


def test_illumination_button(page):
    left, width, y = box(page)
    x, button = left + 0.8 * width, page.locator("button")
    assert button.count() == 1  # the second has no illumination
    corner = button.bounding_box()
    for wanted, pressed, label in ((LIGHT, "true", "illumination"), (AFTER, "false", "after")):
        page.mouse.click(corner["x"] + 5, corner["y"] + 5)
        assert near(seen(page, x, y - 60), wanted)
        assert button.get_attribute("aria-pressed") == pressed
        assert page.locator("b + b").first.text_content() == label
    button.focus()
    page.keyboard.press("Space")
    assert near(seen(page, x, y - 60), LIGHT) and near(seen(page, left + 0.2 * width, y - 60), BEFORE)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_fits_every_screen_in_both_schemes(open_page, width, dark):
    touch = width < 500
    page = open_page(width, 700, color_scheme="dark" if dark else "light", has_touch=touch, is_mobile=touch)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (sum(seen(page, 4, 4)) < 3 * 60) == dark
    heights = page.evaluate("[...document.querySelectorAll('button')].map((button) => button.offsetHeight)")
    assert all(height < 40 for height in heights)  # one line of text


def test_it_needs_nothing_but_its_file(page):
    urls, complaints = [], []
    page.on("request", lambda request: urls.append(request.url))
    page.on("pageerror", lambda error: complaints.append(error))
    page.on("console", lambda line: complaints.append(line.text))
    page.reload()
    assert urls and all(url.startswith(("file:", "data:")) for url in urls)
    assert not complaints
    assert page.evaluate("[...document.images].map((image) => image.naturalWidth)") == [300] * 5
