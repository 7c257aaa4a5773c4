"""Make sure that no result replaces a source or another result, whichever names the file system treats as equal.

Names are compared by a hash of 8 bytes per name, after folding their case. Only where two hashes agree are the names
themselves compared, and the folder is tested for whether it ignores case. Existing files are also compared by identity,
because of hard links and folders that are mounted twice.
"""

import os
import unicodedata
from array import array
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from .atomic_files import ignores_case
from .errors import ImageError

Written = Iterable[tuple[Path, Path]]  # each source with the file to write; iterated over more than once


class Names:
    """The names of the sources and results of a run, as hashes, checked for collisions.

    Args:
        written: each source with its result. A second iteration, needed if hashes agree, has to give the same pairs.
        hint: what to do about two sources with the same result; ends the message.
        resumed: results found among the sources come from an earlier run, which this one continues; see
            `is_earlier_result`.

    Raises:
        ImageError: a result would replace another result or a source.
    """

    def __init__(self, written: Written, hint: str, resumed: bool = False):
        sources, results, exact = array("Q"), array("Q"), array("Q")
        files, existing = array("Q"), array("Q")
        self._resumed, before = resumed, None
        for source, result in written:
            real = _real(result)
            results.append(_hash(_folded(real)))
            exact.append(_hash(real))
            if (found := _identity(result)) is not None:
                existing.append(found)
            if source != before:  # a source with several results comes several times in a row
                before = source
                sources.append(_name_hash(source))
                files.append(_identity(source) or 0)
        self.count = len(sources)
        self._sources, self._results, self._exact = map(_sorted, (sources, results, exact))
        twice = self._results[1:][self._results[1:] == self._results[:-1]]
        among = np.empty(0, np.uint64) if resumed else np.intersect1d(self._sources, self._results)
        names = set(np.union1d(among, twice).tolist())
        identities = set() if resumed else set(np.intersect1d(_sorted(files), _sorted(existing)).tolist())
        if names or identities:
            suspects = [
                (source, path)
                for source, path in written
                if not names.isdisjoint(_name_hash(each) for each in (source, path))
                or not identities.isdisjoint((_identity(source), _identity(path)))
            ]
            _look_closer(suspects, hint, resumed)

    def knows(self, source: Path) -> bool:
        """Whether this source was there at the start. The names of later ones were not compared."""
        return _is_among(_name_hash(source), self._sources)

    def is_earlier_result(self, source: Path, result: Path) -> bool:
        """Whether this source is the result of another source, made by the earlier run that is being resumed.

        A source whose `result` would have its own name stays a source, to be counted as done.
        """
        return self._resumed and source.name != result.name and self.is_result(source)

    def is_result(self, path: Path) -> bool:
        """Whether a file has the name of one of the results."""
        real = _real(path)
        if not _is_among(_hash(_folded(real)), self._results):
            return False
        return _is_among(_hash(real), self._exact) or _ignores_case(os.path.dirname(real))


def is_same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to the same file or folder, as far as the file system can tell."""
    one, other = _real(one), _real(other)
    if one == other or (_folded(one) == _folded(other) and _ignores_case(_existing(os.path.dirname(other)))):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _is_among(key: int, hashes: np.ndarray) -> bool:
    place = int(np.searchsorted(hashes, np.uint64(key)))
    return place < len(hashes) and int(hashes[place]) == key


def _look_closer(written: list[tuple[Path, Path]], hint: str, resumed: bool) -> None:
    """Compare names whose hashes agree. Raises ImageError if one file would replace another."""
    sources = _ByName(source for source, _ in written)
    writers: dict[str, tuple[Path, Path]] = {}
    for source, path in written:
        if not resumed and (other := sources.same_as(path)):
            named = "" if _real(other) == _real(path) else f" ({other})"
            raise ImageError(
                f"{path}: is one of the inputs{named} and would be replaced; choose another -o, or --suffix"
            )
        key = _key(path)
        other, same = writers.setdefault(key, (source, path))
        if other != source:
            called = f"{path}" if same == path else f"{same} and {path}, one file in a folder that ignores case"
            raise ImageError(f"{other} and {source} would both be written to {called}; {hint}")


class _ByName:
    """Sources that can be looked up by any spelling of their names, or by file identity."""

    def __init__(self, sources: Iterable[Path]):
        self._exact: dict[str, Path] = {}
        self._folded: dict[str, Path] = {}
        self._files: dict[int, Path] = {}
        for source in sources:
            real = _real(source)
            self._exact[real], self._folded[_folded(real)] = source, source
            if (identity := _identity(source)) is not None:
                self._files[identity] = source

    def same_as(self, path: Path) -> Path | None:
        """The source that writing to `path` would replace, if there is one."""
        real = _real(path)
        if real in self._exact:
            return self._exact[real]
        if _folded(real) in self._folded and _ignores_case(_existing(os.path.dirname(real))):
            return self._folded[_folded(real)]
        identity = _identity(path)
        other = None if identity is None else self._files.get(identity)
        return other if other is not None and os.path.samefile(other, path) else None


def _key(path: Path) -> str:
    """The path as its folder compares names: case-folded if the folder ignores case."""
    real = _real(path)
    return _folded(real) if _ignores_case(_existing(os.path.dirname(real))) else real


@lru_cache(1024)
def _ignores_case(folder: str) -> bool:
    try:
        return ignores_case(Path(folder))
    except OSError:  # read-only: no result can be written there either
        return False


def _existing(folder: str) -> str:
    """The folder or its nearest existing parent; folders created there treat case as the parent does."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _real(path: str | Path) -> str:
    """The path with links resolved; unlike `Path.resolve` it never raises."""
    path = os.path.abspath(path)
    if os.path.islink(path):  # otherwise it is enough to resolve its folder, which is cached
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)


@lru_cache(1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _folded(name: str) -> str:
    """One spelling for all names that some file system treats as equal: case, and composed accents."""
    return unicodedata.normalize("NFC", name).upper().casefold()


def _name_hash(path: str | Path) -> int:
    """A hash of a file's name, the same for all its spellings."""
    return _hash(_folded(_real(path)))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _identity(path: Path) -> int | None:
    """A hash of a file's device and inode, whatever its name; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _hash(f"{found.st_dev}:{found.st_ino}")


def _sorted(numbers: array) -> np.ndarray:
    return np.sort(np.frombuffer(numbers, np.uint64)) if numbers else np.empty(0, np.uint64)
