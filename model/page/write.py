"""Write the page, once it gives the right results in a browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import write_atomically
from ..network import DEFAULT_WEIGHTS
from .browser import NoBrowser
from .build import page
from .comparison import LEVELS, SHARE, Compared, PageError, compare


class Tried(NamedTuple):
    """What became of a page in a browser."""

    compared: list[Compared]
    reason: str | None  # why it was not tried

    @property
    def line(self) -> str:
        """The outcome, for the user."""
        if self.reason:
            return f"not tried in a browser: {self.reason}"
        engines = sorted({one.engine for one in self.compared})
        share, largest = (max(getattr(one, name) for one in self.compared) for name in ("share", "largest"))
        differ = f"at most {1e6 * share:.0f} in a million values of a picture differ, by at most {largest}"
        return f"tried in a browser with {', '.join(engines)}: {differ}"


def write_page(
    path: str | Path,
    pictures: Sequence[Path],
    weights: str | Path = DEFAULT_WEIGHTS,
    exposure: float | str | None = "auto",
    denoise: float | None = None,
) -> Tried:
    """Write one HTML file that enhances pictures, videos and the camera in a browser, without a network.

    Where there is a Chromium, the page is first tried in it: each of its engines on each picture, next to `Enhancer`.

    Args:
        path: the file; it is written whole or not at all and replaces an older one.
        pictures: files to try it on, at least one.
        weights: as for `load_weights`, of the published shape.
        exposure, denoise: as for `Enhancer`: what the page begins with; its user can change both.

    Returns:
        How far the results of the page differed, or why it was not tried.

    Raises:
        PageError: results differ by more than rounding, or the browser failed.
        WeightsError: the weights cannot be read, or have another shape.
        ImageError: a picture cannot be read.
        ValueError: `exposure` or `denoise` is out of range.
        OSError: the file cannot be written.
    """
    text = page(weights, exposure, denoise)
    try:
        tried = Tried(compare(text, pictures, weights, exposure, denoise), None)
    except NoBrowser as error:
        tried = Tried([], str(error))
    except PageError as error:
        raise PageError(f"{path}: not written; {error}") from error
    for one in tried.compared:
        if not one.agrees:
            allowed = f"allowed are {LEVELS} levels, and {1e6 * SHARE:.0f} in a million"
            raise PageError(f"{path}: not written; {one.line} ({allowed})")
    write_atomically(Path(path), text.encode())
    return tried
