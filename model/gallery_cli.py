"""The part of `python -m model.enhance` that handles `--gallery`."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import sci_kernels

from .folder import Outcome
from .gallery import Pair, write_gallery
from .picture import ImageError

LIMIT = 100  # pictures on a page: beyond, browsers become slow


def add_options(add: Callable[..., object]) -> None:
    """Add `--gallery` to a command line, by its parser's `add_argument`."""
    add(
        "--gallery",
        type=Path,
        metavar="FILE.html",
        help=f"also write a page with before/after sliders, illumination and exposure of the first {LIMIT} pictures",
    )


def check(args: argparse.Namespace) -> None:
    """Raises ImageError where the page could not be written, before any work."""
    page = args.gallery
    if page is None:
        return
    if page.suffix.lower() not in (".html", ".htm"):
        raise ImageError(f"{page}: expected a name that ends in .html for --gallery")
    if os.path.lexists(page) and not args.overwrite:
        raise ImageError(f"{page}: exists and was left alone; use --overwrite, or another name for --gallery")


@contextmanager
def with_maps(jobs: Sequence, args: argparse.Namespace) -> Iterator[list]:
    """The jobs, those that will be on the page with an illumination to write: the user's, or a temporary one."""
    if args.gallery is None:
        yield list(jobs)
        return
    with TemporaryDirectory(prefix="sci-") as folder:
        maps = [job.illumination or Path(folder, f"{k}.jpg") for k, job in enumerate(jobs[:LIMIT])]
        shown = [job._replace(illumination=path) for job, path in zip(jobs, maps, strict=False)]
        yield [*shown, *jobs[LIMIT:]]


def write(jobs: Sequence, outcome: Outcome, args: argparse.Namespace) -> str | None:
    """Write the page of the jobs that were done; returns what kept it from being written, one line.

    The failures of `outcome` are lines that begin with the file they are about, as `enhance_files` gives them.
    """
    if args.gallery is None:
        return None
    failed = {line.split(": ")[0] for line in outcome.failures}
    done = [
        job
        for job in jobs
        if job.result.is_file() and not failed & {str(job.source), str(job.result), str(job.illumination)}
    ]
    if not done:
        return f"{args.gallery}: not written, for no picture was enhanced"
    pairs = [
        Pair(
            os.path.relpath(job.result, args.output),
            job.source,
            job.result,
            job.illumination if job.illumination and job.illumination.is_file() else None,
            outcome.exposures.get(job.result),
        )
        for job in done[:LIMIT]
    ]
    footer = f"Weights {Path(args.weights).name}, sci-kernels {sci_kernels.__version__}"
    if len(done) > LIMIT:
        footer += f"; {len(done) - LIMIT} more pictures are not on this page"
    try:
        write_gallery(pairs, args.gallery, footer=footer)
    except OSError as error:
        return f"{args.gallery}: cannot be written ({error.strerror}); choose another place for --gallery"
    except ImageError as error:
        return f"{args.gallery}: not written; {error}"
    print(f"{len(pairs)} of them side by side in {args.gallery}")
    return None
