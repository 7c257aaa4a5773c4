"""Find a Chromium, and open pages in it. It draws in software, so that WebGL and WebGPU are there on every machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chromium-headless-shell", "chrome")
GRAPHICS = ("--enable-unsafe-swiftshader", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


class NoBrowser(Exception):
    """Why no page can be opened here, and what to do: part of a line."""


def find_chromium() -> str | None:
    """The program: $CHROMIUM, or what is found under its usual names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(*flags: str) -> Iterator["Browser"]:
    """A browser without a window, which needs no network, with more flags than the usual ones.

    Raises NoBrowser: there is none, or it does not start.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError:
        raise NoBrowser("Playwright is not installed; pip install '.[page]'") from None
    program = find_chromium()
    if program is None:
        raise NoBrowser(f"no Chromium was found (as {', '.join(NAMES)}); install one, or set CHROMIUM to the program")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=[*GRAPHICS, *flags])
        except Error as error:
            raise NoBrowser(f"{program} does not start ({str(error).splitlines()[0]})") from None
        yield browser
        browser.close()
