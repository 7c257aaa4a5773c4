"""What a run of `python -m model.enhance` reads and writes, decided before any work."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .image_output import OUTPUT_EXTENSIONS
from .picture import ImageError

Found = Sequence[tuple[Path, Path]]  # files, each with the relative name of its result, as `search` finds them


class Job(NamedTuple):
    """One picture to enhance: the file to read and the files to write."""

    source: Path
    result: Path
    illumination: Path | None = None


def plan_jobs(found: Found, folder: Path, suffix: str = "", ext: str = "png", illumination: bool = False) -> list[Job]:
    """A job for each picture.

    Args:
        found: the pictures, as `find_images` gives them.
        folder: where results go, each under its relative name.
        suffix: put between a name and its extension.
        ext: one of `OUTPUT_EXTENSIONS` without the dot, or "auto": the source's own, png where that cannot be written.
        illumination: also plan for NAME_illumination.

    Raises:
        ImageError: two results would have one name; a result would replace a source.
    """
    jobs: list[Job] = []
    for source, name in found:
        own = name.suffix.lower()
        extension = (own if own in OUTPUT_EXTENSIONS else ".png") if ext == "auto" else f".{ext}"
        stem = folder / name.parent / f"{name.stem}{suffix}"
        result = stem.with_name(stem.name + extension)
        jobs.append(
            Job(source, result, stem.with_name(f"{stem.name}_illumination{extension}") if illumination else None)
        )
    hint = "use --ext auto if only their formats differ, or enhance them one by one into different folders"
    refuse_collisions([(job.source, path) for job in jobs for path in job[1:] if path], hint)
    return jobs


def without_results(found: Found, inputs: Sequence[Path], folder: Path) -> Found:
    """Less what an earlier run has written into a `folder` that lies inside one of the inputs.

    Raises ImageError if nothing else was found.
    """
    folder = _real(folder)
    if not any(_real(path) in folder.parents for path in inputs):
        return found
    kept = [(source, name) for source, name in found if folder not in _real(source).parents]
    if not kept:
        raise ImageError(f"{inputs[0]}: nothing to enhance here but what is in the output folder {folder}")
    return kept


def refuse_collisions(written: Iterable[tuple[Path, Path]], hint: str) -> None:
    """Raises ImageError if of some (source, result) a result would replace another, or a source.

    hint: what to do about two sources with one result, the end of a line.
    """
    written = list(written)
    sources = {_real(source) for source, _ in written}
    writers: dict[Path, Path] = {}
    for source, path in written:
        if _real(path) in sources:
            raise ImageError(f"{path}: is one of the inputs and would be replaced; choose another -o, or --suffix")
        other = writers.setdefault(path, source)
        if other != source:
            raise ImageError(f"{other} and {source} would both be written to {path}; {hint}")


def _real(path: Path) -> Path:
    """The path without links; unlike `Path.resolve` never an error."""
    return Path(os.path.realpath(path))
