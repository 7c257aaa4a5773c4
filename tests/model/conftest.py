"""One Playwright and one Chromium for all tests of pages in a process."""

import pytest

from tests.browser import chromium, driver


@pytest.fixture(scope="session")
def playwright():
    with driver() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright):
    with chromium(playwright) as browser:
        yield browser
