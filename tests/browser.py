"""Chromium for tests of pages, driven by Playwright, with WebGL and WebGPU in software. It needs no network."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chromium-headless-shell", "chrome")
# WebGPU by SwiftShader is very slow: it is for tiny pictures.
GRAPHICS = ("--enable-unsafe-swiftshader", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


def find_chromium() -> str | None:
    """The program: $CHROMIUM, or what is found under its usual names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def driver() -> Iterator["Playwright"]:
    """Playwright, of which a process can have one at a time; skips the test where it is missing."""
    reason = "needs Playwright: pip install '.[page]'"
    with pytest.importorskip("playwright.sync_api", reason=reason).sync_playwright() as playwright:
        yield playwright


@contextmanager
def chromium(playwright: "Playwright", *flags: str) -> Iterator["Browser"]:
    """A browser without a window, with more flags than the usual ones; skips the test where there is no Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip(f"no Chromium found (looked for {', '.join(NAMES)}); set CHROMIUM to the program")
    browser = playwright.chromium.launch(executable_path=program, args=[*GRAPHICS, *flags])
    yield browser
    browser.close()


def wait_for(page: "Page", condition: str, seconds: float = 20) -> None:
    """Until an expression is true; Playwright's own way needs eval(), which a Content-Security-Policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(condition)
        page.wait_for_timeout(20)
