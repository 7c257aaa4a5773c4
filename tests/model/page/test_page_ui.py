"""The page as a user has it: files in, settings, the list, results out, by mouse and by keys, with nothing sent."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from model import Enhancer
from model.images import Picture
from model.web import template
from tests.browser import chromium

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


def test_by_keyboard_alone(page):
    def walk(*words: str) -> None:
        """Tab on to what has these words in its name."""
        for _ in range(25):
            page.keyboard.press("Tab")
            if all(word in page.evaluate(NAME) for word in words):
                assert page.evaluate(OUTLINED), words
                return
        raise AssertionError(words)

    choosers = []
    page.on(
        "filechooser", lambda chooser: choosers.append(chooser)
    )  # early, as the browser is asked to tell of them without waiting
    walk("Choose files")
    page.keyboard.press("Space")
    while not choosers:
        page.wait_for_timeout(20)
    choosers[0].set_files([file("a.png", scene(1)), file("b.png", scene(2))])
    is_done(page, "b.png")
    walk("a.png: share")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#box").evaluate("(box) => box.style.getPropertyValue('--at')") == "48%"
    walk("Save")
    with page.expect_download() as caught:
        page.keyboard.press("Enter")
    assert caught.value.suggested_filename == "a.png"
    walk("Automatic")
    page.keyboard.press("ArrowDown")
    walk("Exposure")
    page.keyboard.press("Home")
    expect(page.locator("#status")).to_contain_text("Left as it was")
    walk("b.png", "Left as it was")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="b.png")).to_be_visible()


NAME = """(() => {
    const element = document.activeElement;
    return element.ariaLabel ?? element.labels?.[0]?.textContent ?? element.textContent;
})()"""
OUTLINED = """(() => {
    const element = document.activeElement;
    const all = [element, ...element.labels ?? [], element.closest(".compare")].filter(Boolean);
    return all.some((one) => getComputedStyle(one).outlineStyle === "solid");
})()"""


def test_nothing_is_sent(open_page, address):
    page = open_page()
    urls = []
    page.context.on("request", lambda request: urls.append(request.url))
    page.reload()
    choose(page, file("a.png", scene()), BROKEN)
    is_done(page, "a.png")
    download(page, page.locator("#save"))
    assert urls and all(url.startswith(("blob:", "data:", address)) for url in urls)
    answer = page.evaluate("fetch('https://example.org').catch((error) => String(error))")
    assert "TypeError" in answer  # the page's own policy
    assert any("Content Security Policy" in line for line in page.complaints)
    page.complaints.clear()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_accessibility_and_fit(open_page, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})

    def check() -> None:
        results = axe.run(page)
        assert not results.violations_count, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    check()
    choose(page, file("a_rather_long_name_" * 5 + ".png", scene(1)), BROKEN, file("b.png", scene(2)))
    is_done(page, "b.png")
    check()


@pytest.mark.parametrize("saved", [False, True])
def test_leaving_is_warned_of_while_results_are_unsaved(page, saved):
    choose(page, file("a.png", scene()), BROKEN)
    is_done(page, "a.png")
    if saved:
        download(page, row(page, "a.png").get_by_role("button", name="Save"))
        expect(row(page, "a.png")).to_contain_text(", saved")
    page.locator("#shown").click()  # browsers warn only those who have done something
    questions = []
    page.on("dialog", lambda dialog: (questions.append(dialog.type), dialog.accept()))
    page.close(run_before_unload=True)
    page.context.new_page()
    assert questions == ([] if saved else ["beforeunload"])


def test_a_lost_engine_is_replaced_and_named(open_page):
    page = open_page("WebGL2")
    choose(page, file("a.png", scene(1)))
    expect(page.locator("#status")).to_contain_text("with WebGL2")
    page.evaluate("sciKernels.engine().then((engine) => engine.close())")
    choose(page, file("b.png", scene(2)))
    expect(page.locator("#status")).to_contain_text("with JavaScript")
    expect(page.get_by_role("alert")).to_have_text(
        "WebGL2 stopped working on this device. JavaScript goes on in its place."
    )


def test_a_browser_that_cannot_compute(open_page):
    page = open_page()
    page.add_init_script("delete globalThis.Worker")
    page.reload()
    choose(page, file("a.png", scene()))
    expect(row(page, "a.png")).to_contain_text("Something went wrong: Worker is not defined")
    without = open_page(java_script_enabled=False)
    expect(without.get_by_text("needs JavaScript")).to_be_visible()


def test_camera_refused(page):
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("camera")
    expect(page.locator("#view")).to_be_hidden()
    expect(page.get_by_text("Drop dark pictures")).to_be_visible()


@pytest.fixture(scope="module")
def camera(playwright, tmp_path_factory):
    """A browser with a camera of 64 x 48 pixels that anyone may use."""
    path = tmp_path_factory.mktemp("camera") / "night.y4m"
    frames = [bytes([40 + n]) * (64 * 48) + b"\x80" * (32 * 24 * 2) for n in range(10)]
    path.write_bytes(b"YUV4MPEG2 W64 H48 F10:1 Ip C420jpeg\n" + b"".join(b"FRAME\n" + frame for frame in frames))
    flags = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with chromium(playwright, *flags, f"--use-file-for-fake-video-capture={path}") as browser:
        yield browser


def test_camera_recorded(open_page, camera):
    page = open_page(browser=camera, viewport={"width": 700, "height": 600})
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#speed")).to_contain_text(
        re.compile(r"[1-9]\d* frames a second with JavaScript"), timeout=20000
    )
    assert not page.locator("#play").is_visible()
    page.locator("#smooth").fill("0")
    expect(page.locator("output[for=smooth]")).to_have_text("0 s")
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop recording").click()
    expect(row(page, "camera.webm")).to_contain_text(re.compile(r"Recording, \d"))
    name, data = download(page, row(page, "camera.webm").get_by_role("button", name="Save"))
    assert name == "camera.webm" and data[:4] == b"\x1aE\xdf\xa3"
    choose(page, file("a.png", scene()))  # a picture takes the camera's place
    is_done(page, "a.png")
    expect(page.locator("#player")).to_be_hidden()
    assert page.locator("video").count() == 0
