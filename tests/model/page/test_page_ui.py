"""The page as a user has it: files in, settings, the list, results out, by mouse and by keys, with nothing sent."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from model import Enhancer
from model.images import Picture
from model.web import template

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install '.[page]'").expect
expect.set_options(timeout=30_000)  # milliseconds: processors are shared with other tests

# What the page does with files that come from elsewhere: `how` is drop or paste.
BRING = """([how, files]) => {
    const transfer = new DataTransfer();
    for (const [name, type, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
    document.dispatchEvent(how === "drop"
        ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
}"""


def scene(seed: int = 0, size=(60, 40), level: float = 60, alpha: bool = False) -> np.ndarray:
    """A dark picture, smooth with some noise."""
    random = np.random.default_rng(seed)
    width, height = size
    slope = np.linspace(0.2, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    pixels = level * slope * random.uniform(0.6, 1, 3) + random.normal(0, 2, (height, width, 3))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    if not alpha:
        return pixels
    clear = np.where(np.arange(width) < width // 3, 0, 255).astype(np.uint8)
    return np.dstack([pixels, np.broadcast_to(clear, (height, width))])


def file(name: str, pixels: np.ndarray) -> dict:
    """As Playwright gives it to a file input."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": data.getvalue()}


TEXTS = json.loads(template("page/texts.json"))
BROKEN = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}


def choose(page, *files: dict) -> None:
    page.set_input_files("#files", list(files))


def row(page, name: str):
    return page.locator("#list li").filter(has=page.get_by_text(name, exact=True))


def is_done(page, name: str) -> None:
    expect(row(page, name)).to_contain_text(re.compile("Brightness|left as it was"))


def download(page, button) -> tuple[str, bytes]:
    with page.expect_download() as caught:
        button.click()
    with open(caught.value.path(), "rb") as saved:
        return caught.value.suggested_filename, saved.read()


def same_as_command(data: bytes, pixels: np.ndarray, **settings) -> None:
    """At most one level apart, and that in one value of a thousand."""
    got = np.asarray(Image.open(io.BytesIO(data)))
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    wanted = Enhancer(device="cpu", **settings).picture(Picture(pixels[..., :3], alpha)).pixels
    apart = np.abs(got[..., :3].astype(int) - wanted)
    if alpha is not None:
        assert (got[..., 3] == alpha).all()
        apart = apart[alpha > 0]
    assert got.shape == pixels.shape and apart.max() <= 1 and np.mean(apart > 0) <= 1e-3


def test_a_chosen_picture_is_shown_beside_its_result_and_saved(page):
    pixels = scene()
    choose(page, file("night.one.png", pixels))
    status = page.locator("#status")
    expect(status).to_have_text(
        re.compile(r"^Brightness \d+ % to (39|40) %, exposure \d\.\d, \d\.\d s with JavaScript$")
    )
    expect(page.get_by_role("heading", name="night.one.png")).to_be_visible()
    sizes = page.evaluate(
        "[document.querySelector('img.before').naturalWidth, document.querySelector('canvas.after').width]"
    )
    assert sizes == [60, 60]
    assert re.search(r"brightness \d+ % to (39|40) %", page.locator("#histogram").get_attribute("aria-label"))
    assert len(page.locator("#histogram path").last.get_attribute("d")) > 200
    name, data = download(page, page.locator("#save"))
    assert name == "night.one.png"
    same_as_command(data, pixels)
    shown = page.evaluate("[...document.querySelector('canvas.after').getContext('2d').getImageData(7, 9, 1, 1).data]")
    assert shown[:3] == list(np.asarray(Image.open(io.BytesIO(data)))[9, 7])
    expect(row(page, "night.one.png")).to_contain_text(", saved")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_files_are_dropped_and_pasted(page, how):
    given = [file("a.png", scene(1)), file("b.png", scene(2))]
    page.evaluate(BRING, [how, [(one["name"], one["mimeType"], list(one["buffer"])) for one in given]])
    for name in ("a.png", "b.png"):
        is_done(page, name)
    page.evaluate(BRING, [how, []])
    lines = page.locator("#alert")
    expect(lines).to_have_text(re.compile("no file") if how == "drop" else "")


def test_slider_by_keys_and_mouse(page):
    choose(page, file("a.png", scene()))
    is_done(page, "a.png")
    box, slider = page.locator("#box"), page.get_by_role("slider", name="a.png")
    split = "(box) => box.style.getPropertyValue('--at')"
    slider.focus()
    for key, wanted in (("ArrowRight", "52%"), ("PageDown", "32%"), ("Home", "0%"), ("End", "100%")):
        page.keyboard.press(key)
        assert box.evaluate(split) == wanted
    area = box.bounding_box()
    page.mouse.click(area["x"] + area["width"] / 4, area["y"] + 10)
    assert float(box.evaluate(split).rstrip("%")) == pytest.approx(25, abs=0.5)


def test_actual_size(page):
    choose(page, file("a.png", scene(size=(1500, 120))))
    is_done(page, "a.png")
    button = page.get_by_role("button", name="Actual size")
    assert page.locator("#box").bounding_box()["width"] < 1200
    button.click()
    assert page.locator("#box").bounding_box()["width"] == 1500
    assert page.locator("#frame").evaluate("(frame) => frame.scrollLeft") > 100
    button.press("Enter")
    assert page.locator("#box").bounding_box()["width"] < 1200


def test_settings(page):
    pixels = scene()
    choose(page, file("a.png", pixels), file("b.png", scene(5)))
    is_done(page, "b.png")
    assert not page.locator("#exposure").is_enabled()
    found = float(page.locator("output[for=exposure]").inner_text())
    assert 1 < found < 20
    page.get_by_label("By hand").check()
    expect(page.locator("#status")).to_contain_text(f"exposure {found:.1f}")  # from where the user goes on
    page.locator("#exposure").fill("7")
    page.locator("#strength").fill("0.5")
    page.locator("#denoise").fill("2")
    for place in (page.locator("#status"), row(page, "b.png")):
        expect(place).to_contain_text("exposure 3.5")
    same_as_command(download(page, page.locator("#save"))[1], pixels, exposure=7, strength=0.5, denoise=2)
    page.get_by_label("As published").check()
    expect(page.locator("#status")).to_contain_text("as published")
    assert not page.locator("#denoise").is_enabled() and not page.locator("#exposure").is_enabled()
    page.locator("#strength").fill("1")
    same_as_command(download(page, page.locator("#save"))[1], pixels, exposure=None)
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#status")).to_contain_text(f"exposure {found:.1f}")
    expect(row(page, "b.png")).to_contain_text(re.compile(r"exposure (?!3\.5)"))


def test_bright_pictures_are_left_as_they_are(page):
    pixels = np.full((20, 30, 3), 180, np.uint8)
    choose(page, file("day.png", pixels))
    expect(page.locator("#status")).to_contain_text("Bright already (71 %), left as it was")
    assert (np.asarray(Image.open(io.BytesIO(download(page, page.locator("#save"))[1]))) == pixels).all()


def test_a_broken_file_among_good_ones(page):
    choose(page, file("a.png", scene(1)), BROKEN, file("b.png", scene(2)))
    is_done(page, "b.png")
    for place in (page.get_by_role("alert"), row(page, "notes.jpg")):
        expect(place).to_contain_text(TEXTS["notAPicture"])
    assert not row(page, "notes.jpg").get_by_role("button", name="Save").is_visible()
    row(page, "b.png").locator(".pick").click()
    expect(page.get_by_role("heading", name="b.png")).to_be_visible()
    row(page, "b.png").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="a.png")).to_be_visible()
    for name in ("a.png", "notes.jpg"):
        row(page, name).get_by_role("button", name="Remove").click()
    expect(page.locator("#view")).to_be_hidden()
    expect(page.get_by_text("Drop dark pictures")).to_be_visible()


def test_a_broken_file_alone(page):
    choose(page, BROKEN)
    expect(page.get_by_role("alert")).to_have_text("notes.jpg: " + TEXTS["notAPicture"])
    expect(page.locator("#view")).to_be_hidden()


def test_twenty_files_and_their_archive(page):
    pictures = [scene(seed, (30, 20), alpha=seed == 3) for seed in range(20)]
    # Some have the same name: on most disks, case makes no difference.
    names = ["a.png", "A.tif", "a-2.png", *(f"{seed}.png" for seed in range(3, 20))]
    choose(page, *(file(name, pixels) for name, pixels in zip(names, pictures, strict=True)))
    is_done(page, "19.png")
    page.locator("#format").select_option("JPEG")
    expect(page.get_by_text("saved as PNG")).to_be_visible()
    name, data = download(page, page.get_by_role("button", name="Save all"))
    assert name == "enhanced.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        stems = ["a", "A-2", "a-2-2", "3", *(str(seed) for seed in range(4, 20))]
        assert archive.namelist() == [f"{stem}.{'png' if stem == '3' else 'jpg'}" for stem in stems]
        same_as_command(archive.read("3.png"), pictures[3])
        means = [np.asarray(Image.open(archive.open(f"{stem}.jpg"))).mean() for stem in ("a", "19")]
    assert all(85 < mean < 120 for mean in means)
    expect(page.get_by_text(", saved")).to_have_count(20)
