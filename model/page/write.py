"""Write the page, once it gives the right results in a browser."""

from collections.abc import Sequence
from pathlib import Path

from ..files import write_atomically
from ..network import DEFAULT_WEIGHTS
from .browser import NoBrowser
from .build import page
from .compare import LEVELS, SHARE, compare


class PageError(Exception):
    """Why the page was not written, in one line."""


def write_page(
    path: str | Path,
    weights: str | Path = DEFAULT_WEIGHTS,
    pictures: Sequence[Path] = (),
    exposure: float | str | None = "auto",
    denoise: float | None = None,
) -> list[str]:
    """Write one HTML file that enhances pictures, videos and the camera in a browser, without a network.

    Where there is a Chromium, the page is first tried in it: each of its engines on each picture, next to `Enhancer`.

    Args:
        path: the file; it is written whole or not at all and replaces an older one.
        weights: as for `load_weights`, of the published shape.
        pictures: files to try it on.
        exposure, denoise: as for `Enhancer`: what the page begins with; its user can change both.

    Returns:
        Lines that say what was tried and how far the results differed, or why nothing was tried.

    Raises:
        PageError: results differ by more than rounding.
        WeightsError: the weights cannot be read, or have another shape.
        ImageError: a picture cannot be read.
        ValueError: `exposure` or `denoise` is out of range.
        OSError: the file cannot be written.
    """
    text = page(weights, exposure, denoise)
    try:
        compared = compare(text, pictures, weights, exposure, denoise)
    except NoBrowser as reason:
        lines = [f"not tried in a browser: {reason}"]
    else:
        for one in compared:
            if not one.agrees:
                allowed = f"allowed are {LEVELS} levels, and {1e6 * SHARE:.0f} in a million"
                raise PageError(f"{path}: not written; {one.line} ({allowed})")
        lines = [one.line for one in compared]
    write_atomically(Path(path), text.encode())
    return lines
