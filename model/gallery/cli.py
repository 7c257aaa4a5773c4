"""The part of `python -m model.enhance` that handles `--gallery`."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import sci_kernels

from ..enhancement import Done, Job
from ..files import ImageError
from .build import Pair, write_gallery

LIMIT = 100  # pictures on a page; with more, browsers become slow
_HEAD = 1024  # bytes read of an existing page


def add_gallery_options(add: Callable[..., object]) -> None:
    """Add `--gallery` to a command line, by its parser's `add_argument`."""
    add(
        "--gallery",
        type=Path,
        metavar="FILE.html",
        help=f"also write a page with before/after sliders, illumination and exposure of the first {LIMIT} pictures",
    )


def check_gallery(args: argparse.Namespace) -> None:
    """Raises ImageError if the page could not be written, before any work is done."""
    page = args.gallery
    if page is None:
        return
    if page.suffix.lower() not in (".html", ".htm"):
        raise ImageError(f"{page}: expected a name that ends in .html for --gallery")
    if os.path.lexists(page) and not args.overwrite:
        raise ImageError(f"{page}: exists and was left alone; use --overwrite, or another name for --gallery")
    if os.path.lexists(page) and not _is_page(page):
        raise ImageError(f"{page}: is not an HTML page and was left alone; use another name for --gallery")


def _is_page(path: Path) -> bool:
    """Whether a file is empty or HTML, as an earlier page is, and not a photograph with such a name."""
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD).lstrip()[:1] in (b"<", b"")
    except OSError:
        return False


class Gallery:
    """The page of a run: the first pictures that were enhanced, or whose results existed.

    Args:
        args: the command line; without `--gallery` no page is written.
    """

    def __init__(self, args: argparse.Namespace):
        self._args, self._more = args, 0
        self._pairs: list[Pair] = []
        self._maps = None if args.gallery is None else TemporaryDirectory(prefix="sci-")

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *error: object) -> None:
        if self._maps is not None:
            self._maps.cleanup()

    def mapped(self, job: Job, number: int) -> Job:
        """The job with an illumination to write, in a temporary folder, if it may be on the page and has none."""
        if self._maps is None or job.illumination or number >= LIMIT:
            return job
        return job._replace(illumination=Path(self._maps.name, f"{number}.jpg"))

    def add(self, job: Job, done: str, result: Done, error: str | None = None) -> None:
        """Add a picture of the run; the arguments are those of a `Listener` of `enhance_files`."""
        if self._maps is None or done == "failed":
            return
        if len(self._pairs) == LIMIT:
            self._more += 1
            return
        light = job.illumination if job.illumination and job.illumination.is_file() else None
        name = os.path.relpath(job.result, self._args.output)
        self._pairs.append(Pair(name, job.source, job.result, light, result.exposure))

    def write(self) -> str | None:
        """Write the page; returns None, or one line that says why it was not written."""
        page = self._args.gallery
        if page is None:
            return None
        if not self._pairs:
            return f"{page}: not written, as no picture was enhanced"
        footer = f"Weights {Path(self._args.weights).name}, sci-kernels {sci_kernels.__version__}"
        if self._more:
            footer += f"; {self._more} more {'picture is' if self._more == 1 else 'pictures are'} not on this page"
        try:
            write_gallery(self._pairs, page, footer=footer)
        except OSError as error:
            return f"{page}: cannot be written ({error.strerror}); choose another place for --gallery"
        except ImageError as error:
            return f"{page}: not written; {error}"
        print(f"{len(self._pairs)} of them side by side in {page}")
        return None
