"""What a run of `python -m model.enhance` reads and writes, decided before any work."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..files import ALL, Again, Found, Names, Share
from ..images import DEEP_EXTENSIONS, OUTPUT_EXTENSIONS


class Job(NamedTuple):
    """One picture to enhance: the file to read and the files to write."""

    source: Path
    result: Path
    illumination: Path | None = None

    @property
    def results(self) -> tuple[Path, ...]:
        """The files to write."""
        return (self.result,) if self.illumination is None else (self.result, self.illumination)


@dataclass(frozen=True)
class Naming:
    """The names of results.

    Attributes:
        folder: where results go, each under its relative name.
        suffix: put between a name and its extension.
        ext: one of `OUTPUT_EXTENSIONS` without the dot, or "auto": that of the source, or png where we cannot write it.
        illumination: whether NAME_illumination is written, too.
        bits: with 16, "auto" keeps only the extensions of formats that hold 16 bits.
    """

    folder: Path
    suffix: str = ""
    ext: str = "png"
    illumination: bool = False
    bits: int | None = None

    def job(self, source: Path, name: Path) -> Job:
        """The job of one picture, with the relative name of its result."""
        stem, own = os.path.splitext(os.path.join(self.folder, name))
        extension = f".{self.ext}"
        if self.ext == "auto":
            kept = own.lower() in (DEEP_EXTENSIONS if self.bits == 16 else OUTPUT_EXTENSIONS)
            extension = own.lower() if kept else ".png"
        stem += self.suffix
        light = Path(f"{stem}_illumination{extension}") if self.illumination else None
        return Job(source, Path(stem + extension), light)


class Jobs:
    """The jobs of a run, found again at each iteration; none is kept in memory.

    Args:
        found: the pictures, as `model.files.Files` finds them.
        naming: of the results.
        resumed: an earlier run is continued: its results are not enhanced again where they lie among the pictures.
        share: the part of the files that this process enhances.

    Raises:
        ImageError: two results would have one name; a result would replace a source.
    """

    def __init__(self, found: Found, naming: Naming, resumed: bool = False, share: Share = ALL):
        self._found, self._naming, self._share = found, naming, share
        hint = "" if naming.ext == "auto" else "use --ext auto if only their formats differ, or "
        hint += "enhance them one by one into different folders"
        self._names = Names(Again(self._shown), hint, resumed)
        self._count = sum(1 for _ in self) if share.count > 1 or resumed else self._names.count

    def reads(self, path: Path) -> bool:
        """Whether a file is one of the pictures."""
        return self._names.knows(path)

    def writes(self, path: Path) -> bool:
        """Whether a file has the name of a result, of any process."""
        return self._names.is_result(path)

    def __len__(self) -> int:
        """How many jobs there were at the start."""
        return self._count

    def __iter__(self) -> Iterator[Job]:
        for source, name in self._found:
            if not self._share.has(name) or not self._names.knows(source):
                continue
            job = self._naming.job(source, name)
            if not self._names.is_earlier_result(source, job.result):
                yield job

    def _shown(self) -> Iterator[tuple[Path, Path]]:
        """Each source with each of its results; in a large folder with a progress bar, since it takes a while."""
        return iter(tqdm(self._all(), "comparing names", unit="", disable=None, leave=False, delay=2))

    def _all(self) -> Iterator[tuple[Path, Path]]:
        for source, name in self._found:
            for path in self._naming.job(source, name).results:
                yield source, path


def plan_jobs(
    found: Iterable[tuple[Path, Path]], folder: Path, suffix: str = "", ext: str = "png", illumination: bool = False
) -> list[Job]:
    """A job for each picture, as by `Jobs` with a `Naming` of these arguments. Raises ImageError as they do."""
    return list(Jobs(list(found), Naming(folder, suffix, ext, illumination)))
