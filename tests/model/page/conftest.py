"""The page that enhances pictures, opened from its file."""

import pytest

from model.page import page as page_text


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> str:
    """Of the page, a file."""
    path = tmp_path_factory.mktemp("page with a space") / "enhance.html"
    path.write_text(page_text(), "utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the page: open_page("WebGL2", color_scheme="dark") names the engine and options of Playwright's context.

    At the end of the test, what the browser complained about fails it: uncaught errors, and what the page's
    Content-Security-Policy forbids. A test that provokes such lines empties the list `page.complaints`.
    """
    contexts, complaints = [], []

    def open(engine="JavaScript", browser=browser, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = complaints
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(f"{address}#engine={engine}")
        return page

    yield open
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def page(open_page):
    return open_page()
