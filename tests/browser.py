"""The browser for tests of pages; they are skipped, with the reason, where there is none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from model import page as pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright


@contextmanager
def driver() -> Iterator["Playwright"]:
    try:
        with pages.driver() as playwright:
            yield playwright
    except pages.NoBrowser as reason:
        pytest.skip(str(reason))


@contextmanager
def chromium(playwright: "Playwright", *flags: str) -> Iterator["Browser"]:
    try:
        with pages.chromium(playwright, *flags) as browser:
            yield browser
    except pages.NoBrowser as reason:
        pytest.skip(str(reason))


def wait_for(page: "Page", condition: str, seconds: float = 20) -> None:
    """Until an expression is true; Playwright's own way needs eval(), which a Content-Security-Policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(condition)
        page.wait_for_timeout(20)
