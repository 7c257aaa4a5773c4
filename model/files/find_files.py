"""Find the files to work on in folders and below, each with the relative name that its result should have."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from .collisions import is_same
from .errors import ImageError
from .extensions import PICTURE_EXTENSIONS, RAW_EXTENSIONS

# Pictures of formats that cannot be read: the user is told if a folder holds some.
_UNREAD = frozenset((".psd", ".psb", ".exr", ".hdr", ".xcf", ".kra", ".tga", ".jxr", ".wdp", ".hdp", ".dds", ".pcx"))
_DEVELOPED = frozenset(PICTURE_EXTENSIONS) - frozenset(RAW_EXTENSIONS)

Found = Iterable[tuple[Path, Path]]  # each file with the relative name of its result


def find_images(paths: str | Path | Iterable[str | Path]) -> list[tuple[Path, Path]]:
    """Every picture under `paths`, each with the relative name that its result should have; see `Files`.

    Raises:
        ImageError: a path does not exist, or a folder holds no picture.
    """
    return find_files(paths, PICTURE_EXTENSIONS, "pictures")


def find_files(
    paths: str | Path | Iterable[str | Path], extensions: Sequence[str], what: str
) -> list[tuple[Path, Path]]:
    """Every file under `paths`, as a list; see `Files`, whose arguments these are.

    Raises:
        ImageError: a path does not exist, or a folder holds no such file.
    """
    return list(Files(paths, extensions, what))


class Again:
    """An iterable that calls a function for a new iterator each time."""

    def __init__(self, call: Callable[[], Iterator]):
        self._call = call

    def __iter__(self) -> Iterator:
        return self._call()


class Files:
    """The files under some paths, each with the relative name that its result should have.

    Each iteration lists the folders again. No list of all files is kept: only the names of the folders on the way down
    to the current one are in memory.

    A path to a file gives that file under its own name, whatever its extension. A path to a folder gives the files in
    it, at any depth, whose extension is one of `extensions`, under their paths relative to the folder, sorted. Hidden
    files and folders are skipped, and links to folders are not followed. A file reached twice is listed once. Two files
    from different folders may have the same relative name. Within a folder, a raw file is skipped if the same folder
    holds a picture of the same name, and so are pictures of formats that cannot be read; see `passed_over`.

    Args:
        paths: files and folders.
        extensions: the extensions to look for in folders.
        what: how errors call the files.
        without: a folder to skip with everything in it, if it lies inside one of the paths.

    Raises:
        ImageError: during iteration, if a path does not exist, or a folder cannot be listed or holds no such file.
    """

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path],
        extensions: Sequence[str],
        what: str,
        without: Path | None = None,
    ):
        self.paths = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        self._raw_beside, self._unread = 0, (0, "")
        self._extensions, self._what = frozenset(extensions), what
        self._looked_for = " ".join(extensions)
        self._without = without if without is not None and os.path.isdir(without) else None

    def __iter__(self) -> Iterator[tuple[Path, Path]]:
        if not self.paths:
            raise ImageError(f"no {self._what}: expected at least one file or folder, got none")
        self._raw_beside, self._unread = 0, (0, "")
        files: set[str] = set()  # given by earlier paths
        folders: list[str] = []
        for path in self.paths:
            # os.path, as the methods of Path raise if a parent may not be entered or a name is too long.
            if os.path.isdir(path):
                for name in self._of_folder(path):
                    source = path / name
                    if not self._reached(source, files, folders):
                        yield source, name
                folders.append(os.path.abspath(path))
            elif os.path.lexists(path):
                if not self._reached(path, files, folders):
                    yield path, Path(path.name)
                files.add(os.path.abspath(path))
            else:
                raise ImageError(f"{path}: no such file or folder, or not readable; check the path")

    def passed_over(self) -> list[str]:
        """A line for each kind of file that the last iteration skipped."""
        lines, (count, first) = [], self._unread
        if self._raw_beside:
            files = f"{self._raw_beside} raw file{'s' * (self._raw_beside > 1)}"
            lines.append(
                f"{files} skipped, as the same folder holds a picture of the same name; name raw files with -i to "
                "enhance them"
            )
        if count:
            files = f"1 file skipped, {first}" if count == 1 else f"{count} files skipped, {first} the first"
            lines.append(f"{files}: this format is not supported; save such pictures as TIFF")
        return lines

    def _of_folder(self, folder: Path) -> Iterator[Path]:
        """The relative names of a folder's files. Raises ImageError if there is none."""
        empty, results = True, False
        for parent, names in self._walk(folder, ""):
            if names is None:
                results = True
                continue
            for name in names:
                empty = False
                yield Path(parent, name)
        if empty and results:
            raise ImageError(f"{folder}: nothing to enhance here except in the output folder {self._without}")
        if empty:
            raise ImageError(f"{folder}: no {self._what} in this folder or below it; looked for {self._looked_for}")

    def _walk(self, root: Path, below: str) -> Iterator[tuple[str, list[str] | None]]:
        """Each folder with the names of its files, in the order of the sorted paths; None for the skipped folder."""
        folder = os.path.join(root, below)
        if self._without is not None and below and is_same(folder, self._without):
            yield below, None
            return
        names, folders = [], set()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(entry.name)
                        names.append(entry.name)
                    elif os.path.splitext(entry.name)[1].lower() in self._extensions and not _leads_to_folder(entry):
                        names.append(entry.name)
                    elif os.path.splitext(entry.name)[1].lower() in _UNREAD:
                        self._unread = (self._unread[0] + 1, self._unread[1] or entry.path)
        except OSError as error:
            raise ImageError(
                f"{error.filename or folder}: cannot list this folder ({error.strerror}); check its permissions"
            ) from None
        names.sort()
        files: list[str] = []
        for name in self._without_raw(names, folders):
            if name not in folders:
                files.append(name)
                continue
            yield below, files
            files = []
            yield from self._walk(root, os.path.join(below, name))
        yield below, files

    def _without_raw(self, names: list[str], folders: set[str]) -> list[str]:
        """The names without those of raw files that have a picture of the same name next to them."""
        files = [os.path.splitext(name) for name in names if name not in folders]
        raw = [stem + ext for stem, ext in files if ext.lower() in RAW_EXTENSIONS]
        if not raw:
            return names
        pictures = {stem for stem, ext in files if ext.lower() in _DEVELOPED}
        beside = {name for name in raw if os.path.splitext(name)[0] in pictures}
        self._raw_beside += len(beside)
        return [name for name in names if name not in beside]

    def _reached(self, path: Path, files: set[str], folders: list[str]) -> bool:
        """Whether an earlier path has already given this file."""
        if not files and not folders:
            return False
        whole = os.path.abspath(path)
        if whole in files:
            return True
        known = os.path.splitext(whole)[1].lower() in self._extensions
        return known and any(_is_below(whole, folder) for folder in folders)


def _leads_to_folder(entry: os.DirEntry) -> bool:
    """Whether it is a link to a folder. A link that leads in a circle counts as a file, which then cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_below(file: str, folder: str) -> bool:
    """Whether a search of the folder finds this file: no folder in between is hidden, nor the file."""
    start = folder.rstrip(os.sep) + os.sep
    if not file.startswith(start):
        return False
    return not any(part.startswith(".") for part in file[len(start) :].split(os.sep))
