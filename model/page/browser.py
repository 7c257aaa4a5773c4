"""Find a Chromium, and open pages in it. It draws in software, so that WebGL and WebGPU are there on every machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chromium-headless-shell", "chrome")
# WebGPU in software is very slow: it is for tiny pictures.
GRAPHICS = (
    "--disable-gpu-watchdog",
    "--enable-unsafe-swiftshader",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
)


class NoBrowser(Exception):
    """Why no page can be opened here, and what to do: part of a line."""


def find_chromium() -> str | None:
    """The program: $CHROMIUM, or what is found under its usual names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def driver() -> Iterator["Playwright"]:
    """What starts browsers; a thread can have one at a time. Raises NoBrowser: it is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise NoBrowser("Playwright is not installed; pip install '.[page]'") from None
    with sync_playwright() as playwright:
        yield playwright


@contextmanager
def chromium(playwright: "Playwright", *flags: str) -> Iterator["Browser"]:
    """A browser without a window, which needs no network, with more flags than the usual ones.

    Raises NoBrowser: there is none, or it does not start.
    """
    from playwright.sync_api import Error

    program = find_chromium()
    if program is None:
        raise NoBrowser(f"no Chromium was found (as {', '.join(NAMES)}); install one, or set CHROMIUM to the program")
    try:
        browser = playwright.chromium.launch(executable_path=program, args=[*GRAPHICS, *flags])
    except Error as error:
        raise NoBrowser(f"{program} does not start ({str(error).splitlines()[0]})") from None
    try:
        yield browser
    finally:
        browser.close()
