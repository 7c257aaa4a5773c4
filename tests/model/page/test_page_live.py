"""The camera and videos in the page: frames, flicker, recordings, and what the user is told where they fail."""

import base64
import io

import numpy as np
import pytest
import torch

from model.video.deflicker import Steady
from tests.browser import chromium, wait_for

av = pytest.importorskip("av")
from tests.videos import scene, write  # noqa: E402

FAKE = ("--use-fake-device-for-media-stream", "--autoplay-policy=no-user-gesture-required")
# The page's functions by themselves, with a video and a canvas of their own.
LIVE = """() => {
    const video = document.createElement("video"), canvas = document.createElement("canvas");
    document.body.append(video, canvas);
    const state = globalThis.state = {
        video, canvas, reports: [], errors: [], smooth: 0.5,
        settings: { exposure: "auto", strength: 1, denoise: 0 },
    };
    state.live = new sciKernels.Live(video, canvas, {
        settings: () => state.settings,
        smooth: () => state.smooth,
        report: (facts) => state.reports.push(facts),
        fail: (error) => state.errors.push(error.message),
    });
    state.mean = (source) => {
        const small = new OffscreenCanvas(32, 24).getContext("2d");
        small.drawImage(source, 0, 0, 32, 24);
        return small.getImageData(0, 0, 32, 24).data.reduce((sum, value, i) => sum + (i % 4 < 3 ? value : 0), 0) / 2304;
    };
}"""
OPEN = """async ([text, name]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt());
    await state.live.file(new File([bytes], name));
}"""
STEADY = """([text, width, height, facts]) => {
    const pixels = Uint8ClampedArray.from(atob(text), (letter) => letter.charCodeAt());
    const steady = new sciKernels.Steady(), size = 4 * width * height;
    return facts.map(([c, seconds, smooth], n) =>
        steady.exposure(c, { pixels: pixels.subarray(n * size, (n + 1) * size), width, height }, seconds, smooth));
}"""
RECORDED = """async () => {
    const { name, blob } = await state.live.finishRecording();
    const reader = new FileReader();
    await new Promise((resolve) => { reader.onload = resolve; reader.readAsDataURL(blob); });
    return [name, reader.result.split(",")[1]];
}"""


@pytest.fixture(scope="module")
def camera(playwright):
    """A browser with a camera that anyone may use."""
    with chromium(playwright, "--use-fake-ui-for-media-stream", *FAKE) as browser:
        yield browser


@pytest.fixture
def live(open_page, camera):
    page = open_page(browser=camera)
    page.evaluate(LIVE)
    return page


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """2 seconds, dark, with sound."""
    path = tmp_path_factory.mktemp("video") / "a.webm"
    options = {"deadline": "realtime", "crf": "10", "b": "1M"}
    write(str(path), scene(50, (160, 120)), codec="libvpx", pix_fmt="yuv420p", options=options, audio="libopus")
    return path.read_bytes()


def open_video(page, video: bytes, name: str = "night walk.webm") -> None:
    page.evaluate(OPEN, [base64.b64encode(video).decode(), name])


def test_camera(live):
    live.evaluate("state.live.camera()")
    wait_for(live, "state.reports.length >= 4")
    before, after = live.evaluate("[state.mean(state.video), state.mean(state.canvas)]")
    assert before > 10 and after >= before - 2
    assert live.evaluate("[state.canvas.width, state.canvas.height]") == live.evaluate(
        "[state.video.videoWidth, state.video.videoHeight]"
    )
    last = live.evaluate("state.reports.at(-1)")
    assert last["fps"] > 0 and last["milliseconds"] > 0 and last["engine"] == "JavaScript" and last["exposure"] >= 0
    live.evaluate("globalThis.track = state.video.srcObject.getTracks()[0]")
    assert live.evaluate("track.readyState") == "live"
    live.evaluate("state.live.stop()")
    assert live.evaluate("[track.readyState, state.video.srcObject]") == ["ended", None]
    live.wait_for_timeout(300)  # what was in work ends
    count = live.evaluate("state.reports.length")
    live.wait_for_timeout(300)
    assert live.evaluate("[state.reports.length, state.errors]") == [count, []]


def test_camera_stopped_before_it_came(live):
    live.evaluate("""async () => {
        const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => globalThis.stream = await get(wanted);
        const started = state.live.camera();
        state.live.stop();
        await started;
    }""")
    assert live.evaluate("[stream.getTracks()[0].readyState, state.video.srcObject]") == ["ended", None]


def test_lost_camera(live):
    live.evaluate("state.live.camera()")
    live.evaluate("state.video.srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert "disconnected" in live.evaluate("state.errors[0]")
    assert live.evaluate("state.video.srcObject") is None


def test_refused_camera(open_page, playwright):
    with chromium(playwright, *FAKE) as browser:  # headless, nobody answers the question: it is refused
        page = open_page(browser=browser, permissions=[])
        page.evaluate(LIVE)
        with pytest.raises(Exception, match="may not be used. Allow it"):
            page.evaluate("state.live.camera()")
        page.context.close()


@pytest.mark.parametrize(
    ("name", "line"), [("NotFoundError", "No camera was found"), ("NotReadableError", "Close other programs")]
)
def test_camera_that_does_not_start(live, name, line):
    live.evaluate(f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}')); null")
    with pytest.raises(Exception, match=line):
        live.evaluate("state.live.camera()")


def test_browser_without_cameras(live):
    live.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    with pytest.raises(Exception, match="Use another browser"):
        live.evaluate("state.live.camera()")


def test_video(live, video):
    open_video(live, video)
    wait_for(live, "state.reports.length >= 5")
    before, after = live.evaluate("[state.mean(state.video), state.mean(state.canvas)]")
    assert after > 1.5 * before
    assert not live.evaluate("state.video.muted")
    assert live.evaluate("state.reports.every(({exposure}) => exposure > 0)")
    wait_for(live, "state.video.ended")
    live.wait_for_timeout(300)
    count = live.evaluate("state.reports.length")
    live.wait_for_timeout(300)
    assert live.evaluate("state.reports.length") == count <= 60  # each frame once, none at rest


def test_a_video_faster_than_the_device_ends_with_its_last_frame(live, video):
    live.evaluate("state.settings.denoise = 4")
    open_video(live, video)
    live.evaluate("state.video.playbackRate = 8")
    wait_for(live, "state.video.ended")
    live.wait_for_timeout(500)
    brightest = """(source) => {
        const copy = new OffscreenCanvas(160, 120).getContext("2d");
        copy.drawImage(source, 0, 0);
        const row = copy.getImageData(0, 10, 160, 1).data.filter((_, i) => i % 4 == 1);
        return row.indexOf(Math.max(...row));
    }"""
    at, wanted = live.evaluate(f"[state.canvas, state.video].map({brightest})")
    assert at == pytest.approx(wanted, abs=8) and wanted > 140  # the square has moved to the right edge
    assert live.evaluate("state.reports.length") < 40


def test_browser_that_does_not_tell_of_frames(live, video):
    live.evaluate("delete HTMLVideoElement.prototype.requestVideoFrameCallback")
    open_video(live, video)
    wait_for(live, "state.reports.length >= 5")
    assert live.evaluate("state.mean(state.canvas) > 1.5 * state.mean(state.video)")


def test_paused_video_follows_the_settings(live, video):
    live.evaluate("state.video.play = () => Promise.reject(new DOMException('', 'NotAllowedError')); null")
    open_video(live, video)
    wait_for(live, "state.reports.length > 0")  # its first frame is shown nevertheless
    live.wait_for_timeout(300)
    before, bright = live.evaluate("[state.reports.at(-1).exposure, state.mean(state.canvas)]")
    count = live.evaluate("state.reports.length")
    live.evaluate("state.settings.strength = 0.8; state.live.refresh()")
    wait_for(live, f"state.reports.length > {count}")
    assert live.evaluate("state.mean(state.canvas)") < 0.97 * bright
    assert live.evaluate("state.reports.at(-1).exposure") == pytest.approx(0.8 * before, rel=0.02)
    count = live.evaluate("state.reports.length")
    live.evaluate("state.video.currentTime = 1")
    wait_for(live, f"state.reports.length > {count}")
    assert live.evaluate("state.errors") == []


@pytest.mark.parametrize("data", [b"no video", b""])
def test_what_is_no_video_is_refused(live, data):
    with pytest.raises(Exception, match="not a video that this browser can play"):
        open_video(live, data)
    assert live.evaluate("state.video.src") == ""
    live.complaints.clear()  # Chromium's own, of a file without a byte


def test_one_video_after_another(live, video):
    open_video(live, video)
    with pytest.raises(Exception, match="not a video"):
        open_video(live, b"no video")
    open_video(live, video)
    count = live.evaluate("state.reports.length")
    wait_for(live, f"state.reports.length > {count + 2}")
    live.evaluate("state.live.camera()")
    wait_for(live, "state.canvas.width == state.video.videoWidth && state.video.videoWidth > 160")


def test_recording(live, video):
    open_video(live, video)
    assert live.evaluate("state.live.record()")
    wait_for(live, "state.video.ended")
    name, data = live.evaluate(RECORDED)
    assert name == "night walk.webm"
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        assert len(container.streams.audio) == 1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) > 5 and frames[0].shape == (120, 160, 3)
    assert frames[-1].mean() > 1.5 * scene(50, (160, 120))[-1].mean()


def test_recording_of_the_camera_that_is_stopped(live):
    live.evaluate("state.live.camera()")
    wait_for(live, "state.reports.length > 0")
    assert live.evaluate("state.live.record()")
    count = live.evaluate("state.reports.length")
    wait_for(live, f"state.reports.length > {count + 3}")
    live.evaluate("state.live.stop()")
    name, data = live.evaluate(RECORDED)
    assert name == "camera.webm"
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) > 1


def test_browser_that_cannot_record(live, video):
    live.evaluate("delete globalThis.MediaRecorder")
    open_video(live, video)
    assert live.evaluate("state.live.record()") is False


def test_exposures_are_smoothed_as_by_the_command(page):
    frames = flicker()
    steady = Steady(0.5)
    wanted = []
    for c, pixels, seconds in frames:
        image = torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1)[None] / 255
        wanted.append(steady.exposure(c, image, seconds))
    raw = [c for c, _, _ in frames]
    assert np.abs(np.subtract(wanted, raw)).max() > 0.1
    np.testing.assert_allclose(smoothed(page, frames, 0.5), wanted, atol=1e-3)
    np.testing.assert_allclose(smoothed(page, frames, 0), raw, rtol=1e-9)


def smoothed(page, frames, smooth: float) -> list[float]:
    """By the page."""
    pixels = np.stack([pixels for _, pixels, _ in frames])
    facts = [[c, seconds, smooth] for c, _, seconds in frames]
    return page.evaluate(STEADY, [base64.b64encode(pixels.tobytes()).decode(), pixels.shape[2], pixels.shape[1], facts])


def flicker() -> list[tuple[float, np.ndarray, float]]:
    """Exposures, RGBA frames and times: a flicker, a light switched on, a fade, a step back in time, and cuts.

    The cuts are in a picture of which one corner gets brighter: the first of them is found by cells of the right sizes.
    """
    random = np.random.default_rng(5)
    picture = random.integers(5, 90, (29, 43, 4))  # cells of uneven sizes, which overlap
    frames, time = [], 0.0
    for n in range(100):
        c = 5 + np.sin(2 * n) + random.normal(0, 0.1)
        if 10 <= n < 40:
            c = c * 2 if n < 15 else c * 2 * 0.9 ** (n - 15)
        time += -0.3 if n == 5 else 1 / 25
        bright = picture + random.integers(0, 5)
        if n >= 40 and n % 2:
            bright[:13, :20] += 3 * (n - 40)
        frames.append((float(c), bright.clip(0, 255).astype(np.uint8), time))
    return frames
