"""Files into the page and out of it: pictures read and written exactly, and the archive of the results."""

import base64
import datetime
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

BYTES = """const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt());
const base64 = async (blob) => {
    const url = await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.readAsDataURL(blob);
    });
    return url.slice(url.indexOf(",") + 1);
};
"""
DECODE = (
    "async (file) => {"
    + BYTES
    + """
    const { pixels, width, height } = await sciKernels.decode(new Blob([bytes(file)]));
    return [await base64(new Blob([pixels])), width, height];
}"""
)
ENCODE = (
    "async ([pixels, width, height, type]) => {"
    + BYTES
    + """
    const picture = { pixels: new Uint8ClampedArray(bytes(pixels).buffer), width, height };
    const blob = await sciKernels.encode(picture, type);
    return [await base64(blob), blob.type];
}"""
)
ZIP = (
    "async (files) => {"
    + BYTES
    + """
    return base64(await sciKernels.zip(files.map(([name, text]) => ({ name, blob: new Blob([bytes(text)]) }))));
}"""
)


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decoded(page, file: bytes) -> np.ndarray:
    """What the page reads from a file, RGBA."""
    pixels, width, height = page.evaluate(DECODE, text(file))
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)


def encoded(page, pixels: np.ndarray, type: str) -> bytes:
    """The file that the page makes of RGBA."""
    height, width, _ = pixels.shape
    file, kind = page.evaluate(ENCODE, [text(pixels.tobytes()), width, height, type])
    assert kind == type
    return base64.b64decode(file)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def transparent(height: int, width: int) -> np.ndarray:
    """Colors under every alpha, 0 above all."""
    pixels = noise(height, width, 4)
    pixels[:, : width // 3, 3] = 0
    return pixels


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + 50 * np.sin(x / 9), 90 + 60 * np.cos(y / 7), 100 + x - y], axis=-1).clip(0, 255).astype("u1")


@pytest.mark.parametrize("size", [(1, 1), (37, 23), (700, 1600)])  # the last is read in two pieces
def test_an_opaque_picture_is_read_exactly(page, size):
    wanted = noise(*size)
    read = decoded(page, saved(Image.fromarray(wanted), "PNG"))
    np.testing.assert_array_equal(read[..., :3], wanted)
    assert (read[..., 3] == 255).all()


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_colors_under_transparency_are_read_exactly(page, format, options):
    wanted = transparent(40, 30)
    np.testing.assert_array_equal(decoded(page, saved(Image.fromarray(wanted), format, **options)), wanted)


def test_without_webgl_transparency_is_read_as_a_canvas_has_it(page):
    page.evaluate("""() => {
        const get = OffscreenCanvas.prototype.getContext;
        OffscreenCanvas.prototype.getContext = function (kind, options) {
            return kind === "2d" ? get.call(this, kind, options) : null;
        };
    }""")
    wanted = transparent(40, 30).astype(int)
    read = decoded(page, saved(Image.fromarray(wanted.astype(np.uint8)), "PNG"))
    np.testing.assert_array_equal(read[..., 3], wanted[..., 3])
    off = np.abs(read - wanted)[..., :3].max(axis=-1)
    seen = wanted[..., 3] > 0
    assert (off[seen] <= 1 + 255 / wanted[..., 3][seen]).all() and off.max() > 0


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_turned_upright(page, orientation):
    image = Image.fromarray(smooth(24, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(image, "JPEG", quality=95, subsampling=0, exif=exif)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    wanted = np.rot90(np.asarray(image), turns).astype(int)
    read = decoded(page, file)[..., :3]
    assert read.shape == wanted.shape
    assert np.abs(read - wanted).max() <= 12


def test_colors_are_converted_to_srgb(page):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Where red and green of the profile are exchanged, they are in the result.
    profile = profile.replace(b"rXYZ", b"temp", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"temp", b"gXYZ", 1)
    wanted = smooth(20, 30)
    read = decoded(page, saved(Image.fromarray(wanted), "PNG", icc_profile=profile))[..., :3]
    assert np.abs(read[..., [1, 0, 2]].astype(int) - wanted).max() <= 2


PICTURE = saved(Image.fromarray(smooth(20, 30)), "PNG")


@pytest.mark.parametrize("file", [b"", b"no picture", PICTURE[:40]], ids=["empty", "text", "cut off"])
def test_what_is_no_picture_is_refused(page, file):
    with pytest.raises(Exception, match="cannot read it"):
        decoded(page, file)


def test_a_picture_wider_than_a_canvas_is_refused(page):
    with pytest.raises(Exception, match="too large for this device"):
        decoded(page, saved(Image.new("1", (70000, 2), 1), "PNG"))


@pytest.mark.parametrize("size", [(1, 1), (37, 23), (500, 401)])  # the last is compressed in two pieces
@pytest.mark.parametrize("channels", [3, 4])
def test_png_is_written_exactly(page, size, channels):
    wanted = noise(*size, 4) if channels == 4 else np.dstack([noise(*size), np.full(size, 255, np.uint8)])
    file = encoded(page, wanted, "image/png")
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        assert image.mode == ("RGBA" if channels == 4 else "RGB")
        assert image.info["srgb"] == 0
        np.testing.assert_array_equal(np.asarray(image), wanted[..., :channels])
    assert chunks(file) == ["IHDR", "sRGB", "IDAT", "IEND"]
    np.testing.assert_array_equal(decoded(page, file), wanted)


def chunks(file: bytes) -> list[str]:
    """The names of a PNG's chunks; their checksums are right."""
    names, at = [], 8
    while at < len(file):
        length, name = struct.unpack(">I4s", file[at : at + 8])
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length])[0] == zlib.crc32(
            file[at + 4 : at + 8 + length]
        )
        names.append(name.decode())
        at += 12 + length
    return names


def test_a_written_photograph_is_small(page):
    """Filtered: a third of what its values are without."""
    pixels = np.dstack([smooth(200, 300), np.full((200, 300), 255, np.uint8)])
    file = encoded(page, pixels, "image/png")
    assert len(file) < 0.6 * len(zlib.compress(pixels[..., :3].tobytes()))


def test_the_page_stays_alive_while_it_writes(page):
    turns = page.evaluate("""async () => {
        const [width, height] = [1000, 900];
        const pixels = new Uint8ClampedArray(4 * width * height).map((_, i) => i * i >> 8 & 255);
        const picture = { pixels, width, height };
        let turns = 0;
        setInterval(() => turns++);
        await sciKernels.encode(picture, "image/png");
        return turns;
    }""")
    assert turns >= 3


def test_without_compression_png_is_written_by_the_browser(page):
    page.evaluate("delete globalThis.CompressionStream")
    wanted = np.dstack([smooth(30, 40), np.full((30, 40), 255, np.uint8)])
    file = encoded(page, wanted, "image/png")
    assert "sRGB" not in chunks(file)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")), wanted)


def test_jpeg_is_close_and_transparency_white(page):
    wanted = np.dstack([smooth(40, 60), np.full((40, 60), 255, np.uint8)])
    wanted[:, 32:, 3] = 0
    file = encoded(page, wanted, "image/jpeg")
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "JPEG"
        read = np.asarray(image).astype(int)
    assert np.abs(read[:, :24] - wanted[:, :24, :3]).mean() < 3
    assert (read[:, 40:] > 250).all()


def test_a_picture_too_large_for_a_canvas_is_not_saved_empty(page):
    with pytest.raises(Exception, match="Choose the other format"):
        encoded(page, np.full((1, 70000, 4), 255, np.uint8), "image/jpeg")


def test_an_archive(page):
    files = {"Nächte/ünlit 夜.png": b"\x89PNG" * 5000, "empty": b"", "b.txt": b"b", "large": bytes(5 << 20)}
    before = datetime.datetime.now()
    archive = base64.b64decode(page.evaluate(ZIP, [[name, text(data)] for name, data in files.items()]))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert {info.filename: opened.read(info) for info in opened.infolist()} == files
        for info in opened.infolist():
            assert info.compress_type == zipfile.ZIP_STORED and info.flag_bits == 1 << 11
            age = datetime.datetime(*info.date_time) - before
            assert datetime.timedelta(seconds=-3) < age < datetime.timedelta(seconds=60)


def test_an_archive_of_nothing(page):
    archive = base64.b64decode(page.evaluate(ZIP, []))
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == []


@pytest.mark.parametrize(
    "files",
    [
        "Array(65536).fill({ name: 'a', blob: new Blob() })",
        "[{ name: 'a', blob: { size: 2 ** 32, slice: () => new Blob() } }]",
    ],
    ids=["files", "bytes"],
)
def test_an_archive_too_large_for_its_format_is_refused(page, files):
    with pytest.raises(Exception, match="Save them one by one"):
        page.evaluate(f"sciKernels.zip({files})")
