"""Try a page in a browser: each of its engines on pictures, compared with `Enhancer`."""

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ..enhancement import Enhancer, check_rule
from ..images import Picture, read_image
from .browser import chromium, driver

if TYPE_CHECKING:
    from playwright.sync_api import Page

# WebGPU in software takes minutes for what the others do in a second: it gets a piece with odd sides.
ON_THE_WHOLE, ON_A_PIECE = ("WebGL2", "JavaScript"), ("WebGPU",)
LEVELS = 2  # of 255: rounding may differ by one, and the noise filter may make two of it, for a few in a million
SHARE = 1e-3  # of the values may differ at all
_PIECE = (slice(0, 101), slice(0, 131))
_TIMEOUT = 300_000  # milliseconds

# What is read and written passes through the page's own decoder and encoder.
_SCRIPT = """async ([data, settings]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const picture = await sciKernels.decode(new Blob([bytes], { type: "image/png" }));
  const done = await sciKernels.enhance(picture, settings);
  const file = await sciKernels.encode(done.picture, "image/png");
  const reader = new FileReader();
  await new Promise((resolve) => { reader.onload = resolve; reader.readAsDataURL(file); });
  return [reader.result.split(",")[1], done.engine];
}"""


class PageError(Exception):
    """Why the page was not written, in one line."""


class Compared(NamedTuple):
    """How a picture from the page differs from that of `Enhancer`."""

    picture: str
    engine: str
    largest: int  # difference of a value, in levels of 255
    share: float  # of the values that differ at all

    @property
    def agrees(self) -> bool:
        """Whether both are the same picture but for rounding."""
        return self.largest <= LEVELS and self.share <= SHARE

    @property
    def line(self) -> str:
        """The figures, for the user."""
        differ = f"{1e6 * self.share:.0f} in a million values differ, by at most {self.largest}"
        return f"{self.picture}, {self.engine}: {differ}"


def compare(
    text: str,
    pictures: Sequence[Path],
    weights: str | Path,
    exposure: float | str | None = "auto",
    denoise: float | None = None,
) -> list[Compared]:
    """The pictures through the page by each engine that the browser has, next to `Enhancer`.

    Args:
        text: of the page.
        pictures: files; of each, WebGPU gets a small piece, as it is slow where there is no GPU.
        weights, exposure, denoise: as for `page`.

    Raises:
        NoBrowser: there is none.
        PageError: it failed.
        ImageError: a picture cannot be read.
    """
    # In a thread of its own, since Playwright refuses one that runs an event loop, as notebooks do.
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(_compare, text, pictures, weights, exposure, denoise).result()
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "playwright":  # which may be missing
                raise
            reason = str(error).splitlines()[0]
            raise PageError(f"the browser failed ({reason}); try again, or set CHROMIUM to another") from error


def _compare(
    text: str, pictures: Sequence[Path], weights: str | Path, exposure: float | str | None, denoise: float | None
) -> list[Compared]:
    enhancer = Enhancer(weights, "cpu", exposure=exposure, denoise=denoise)
    strength = check_rule(exposure, denoise)
    settings = {"exposure": exposure, "strength": 1.0, "denoise": strength}
    with TemporaryDirectory(prefix="sci-") as folder, driver() as playwright, chromium(playwright) as browser:
        path = Path(folder, "page.html")
        path.write_text(text, "utf-8")
        tabs = {engine: browser.new_page() for engine in ON_THE_WHOLE + ON_A_PIECE}
        for engine, tab in tabs.items():
            tab.set_default_timeout(_TIMEOUT)
            tab.goto(f"{path.as_uri()}#engine={engine}")
        compared = []
        for file in pictures:
            whole = read_image(file).pixels
            piece = np.ascontiguousarray(whole[_PIECE])
            for pixels, engines in ((whole, ON_THE_WHOLE), (piece, ON_A_PIECE)):
                wanted = enhancer.picture(Picture(pixels)).pixels
                for engine in engines:
                    result, used = _through(tabs[engine], pixels, settings)
                    if used == engine:  # otherwise this browser does not have it
                        away = np.abs(result.astype(np.int16) - wanted)
                        compared.append(Compared(file.name, engine, int(away.max()), float(np.mean(away > 0))))
    return compared


def _through(tab: "Page", pixels: np.ndarray, settings: Mapping[str, object]) -> tuple[np.ndarray, str]:
    """The pixels of the result, and the engine that made it."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    result, engine = tab.evaluate(_SCRIPT, [base64.b64encode(data.getvalue()).decode(), settings])
    with Image.open(io.BytesIO(base64.b64decode(result))) as image:
        return np.asarray(image.convert("RGB")), engine
