"""The page with care: by keys alone, for screen readers, with nothing sent or lost, and where a device fails."""

import re

import pytest

from model.page import page as page_text
from tests.browser import chromium
from tests.model.page.test_page_ui import (
    BROKEN,
    choose,
    download,
    expect,
    file,
    is_done,
    row,
    same_as_command,
    scene,
)


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


def test_a_lost_engine_is_made_again_then_replaced_and_named(open_page):
    page = open_page("WebGL2")
    for name in ("a.png", "b.png"):
        choose(page, file(name, scene(1)))
        expect(page.locator("#shown")).to_have_text(name)
        expect(page.locator("#status")).to_contain_text("with WebGL2")
        expect(page.locator("#alert")).to_be_hidden()
        page.evaluate("sciKernels.engine().then((engine) => engine.close())")
    choose(page, file("c.png", scene(2)))
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
    archive = page.locator("#archive")
    expect(archive).to_be_enabled()
    name, data = download(page, row(page, "camera.webm").get_by_role("button", name="Save"))
    assert name == "camera.webm" and data[:4] == b"\x1aE\xdf\xa3"
    row(page, "camera.webm").get_by_role("button", name="Remove").click()
    expect(archive).to_be_disabled()
    choose(page, file("a.png", scene()))  # a picture takes the camera's place
    is_done(page, "a.png")
    expect(page.locator("#player")).to_be_hidden()
    assert page.locator("video").count() == 0


def test_a_video_by_keys(open_page, tmp_path):
    pytest.importorskip("av")
    from tests.videos import scene as scene_of_video
    from tests.videos import write

    path = tmp_path / "walk.webm"
    options = {"deadline": "realtime", "b": "1M"}
    write(str(path), scene_of_video(50, (64, 48)), codec="libvpx", pix_fmt="yuv420p", options=options)
    page = open_page()
    page.set_input_files("#files", path)
    expect(page.locator("#speed")).to_contain_text("frames a second")
    expect(row(page, "walk.webm")).to_contain_text("Video")
    results = pytest.importorskip("axe_playwright_python.sync_playwright").Axe().run(page)
    assert not results.violations_count, results.generate_report()
    play, seek = page.locator("#play"), page.get_by_label("Position")
    if play.inner_text() == "Play":  # browsers may ask for a click first
        play.press("Enter")
    play.press("Enter")
    expect(play).to_have_text("Play")
    seek.press("End")
    assert page.locator("video").evaluate("(video) => video.currentTime") > 1.5
    page.get_by_role("button", name="Stop", exact=True).press("Enter")
    expect(page.locator("#view")).to_be_hidden()
    row(page, "walk.webm").locator(".pick").press("Enter")
    expect(page.get_by_role("heading", name="walk.webm")).to_be_visible()


def test_a_broken_video(page):
    choose(page, {"name": "film.mkv", "mimeType": "video/x-matroska", "buffer": b"no film"})
    for place in (page.get_by_role("alert"), row(page, "film.mkv")):
        expect(place).to_contain_text("not a video")
    expect(page.locator("#view")).to_be_hidden()


@pytest.mark.parametrize(("exposure", "denoise"), [(3.25, 0.6), (None, None), ("auto", 2)])
def test_the_page_begins_as_it_was_written(open_page, tmp_path, exposure, denoise):
    path = tmp_path / "page.html"
    path.write_text(page_text(exposure=exposure, denoise=denoise), "utf-8")
    page = open_page()
    page.goto(path.as_uri())
    pixels = scene()
    choose(page, file("a.png", pixels))
    is_done(page, "a.png")
    same_as_command(download(page, page.locator("#save"))[1], pixels, exposure=exposure, denoise=denoise)
    page.locator("#strength").fill("0")
    page.get_by_role("button", name="Reset").click()
    same_as_command(download(page, page.locator("#save"))[1], pixels, exposure=exposure, denoise=denoise)
