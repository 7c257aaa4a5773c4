"""Pictures of the page for the documentation, as a desktop and a phone show it."""

import tempfile
from pathlib import Path

from model.page import chromium, driver, page

from ..low_light_photos import write_photographs

# Name, window, whether it is dark.
WINDOWS = (("desktop", (1200, 960), False), ("phone", (390, 844), True))
_TIMEOUT = 120_000  # milliseconds


def write_pictures(folder: Path) -> list[Path]:
    """Writes desktop.jpg and phone.jpg into `folder`; returns their paths.

    Raises NoBrowser: there is no Chromium, or no Playwright.
    """
    with tempfile.TemporaryDirectory(prefix="sci-page-") as place, driver() as playwright:
        photographs = Path(place, "photographs")
        write_photographs(photographs)
        Path(place, "page.html").write_text(page(), "utf-8")
        paths = []
        with chromium(playwright) as browser:
            for name, (width, height), dark in WINDOWS:
                tab = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if dark else "light",
                    device_scale_factor=2 if dark else 1,
                )
                tab.set_default_timeout(_TIMEOUT)
                tab.goto(Path(place, "page.html").as_uri() + "#engine=WebGL2")  # WebGPU is slow in software
                files = sorted(photographs.iterdir())
                tab.set_input_files("#files", files)
                tab.locator("#list .save:visible").nth(len(files) - 1).wait_for()
                paths.append(folder / f"{name}.jpg")
                tab.screenshot(path=paths[-1], type="jpeg", quality=85)
                tab.close()
    return paths
