"""Files to work on, found below folders, each with the relative name that its result should have."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from .collisions import is_same
from .errors import ImageError
from .extensions import PICTURE_EXTENSIONS, RAW_EXTENSIONS

# Of pictures that cannot be read: a folder with such is told of them.
_UNREAD = frozenset((".psd", ".psb", ".exr", ".hdr", ".xcf", ".kra", ".tga", ".jxr", ".wdp", ".hdp", ".dds", ".pcx"))
_DEVELOPED = frozenset(PICTURE_EXTENSIONS) - frozenset(RAW_EXTENSIONS)

Found = Iterable[tuple[Path, Path]]  # files, each with the relative name of its result


def find_images(paths: str | Path | Iterable[str | Path]) -> list[tuple[Path, Path]]:
    """Every picture under `paths`, each with the relative name its result should have; as `find_files`.

    Raises:
        ImageError: a path does not exist, or a folder holds no picture.
    """
    return find_files(paths, PICTURE_EXTENSIONS, "pictures")


def find_files(
    paths: str | Path | Iterable[str | Path], extensions: Sequence[str], what: str
) -> list[tuple[Path, Path]]:
    """Every file under `paths`, as `Files` goes through them.

    Raises:
        ImageError: a path does not exist, or a folder holds nothing; it calls the files `what`.
    """
    return list(Files(paths, extensions, what))


class Again:
    """What a function gives, which is called anew each time this is gone through."""

    def __init__(self, call: Callable[[], Iterator]):
        self._call = call

    def __iter__(self) -> Iterator:
        return self._call()


class Files:
    """The files under some paths, each with the relative name its result should have, read from the folders each time.

    No list of them is kept: of a folder with a million files only the names of one folder at a time are in memory.

    A file stands for itself, by its name, whatever its extension. A folder stands for the files below it at any depth
    whose extension is one of `extensions`, by their path from it, sorted; hidden files and folders are passed over and
    links to folders are not followed. A file reached twice is listed once. Two files may have the same relative name
    when they come from two folders. A raw file of a folder is passed over where the same photograph lies beside it as
    a picture, and so are pictures of kinds that cannot be read; see `passed_over`.

    Args:
        paths: files and folders.
        extensions: of the files of folders.
        what: the files are called, in errors.
        without: a folder that is passed over with all in it, where it lies inside one of the paths.

    Raises:
        ImageError: while it is gone through: a path does not exist, a folder cannot be listed or holds nothing.
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
        files: set[str] = set()  # what earlier paths stand for
        folders: list[str] = []
        for path in self.paths:
            # os.path, since the methods of Path raise where a parent may not be entered or a name is too long.
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
        """A line for each kind of file that was passed over when this was last gone through."""
        lines, (count, first) = [], self._unread
        if self._raw_beside:
            lines.append(
                f"{self._raw_beside} raw files passed over, whose photographs lie beside them as pictures; name raw "
                "files by -i to enhance them"
            )
        if count:
            lines.append(
                f"{count} files passed over, {first} the first: pictures of this kind are not read; save them as TIFF"
            )
        return lines

    def _of_folder(self, folder: Path) -> Iterator[Path]:
        """The names of a folder's files. Raises ImageError where there is none."""
        empty, results = True, False
        for parent, names in self._walk(folder, ""):
            if names is None:
                results = True
                continue
            for name in names:
                empty = False
                yield Path(parent, name)
        if empty and results:
            raise ImageError(f"{folder}: nothing to enhance here but what is in the output folder {self._without}")
        if empty:
            raise ImageError(f"{folder}: no {self._what} in this folder or below it; looked for {self._looked_for}")

    def _walk(self, root: Path, below: str) -> Iterator[tuple[str, list[str] | None]]:
        """Folders with names of files in them, in the order of the sorted paths; None: the folder left out."""
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
        """Less the raw files of photographs that are there as pictures too."""
        files = [os.path.splitext(name) for name in names if name not in folders]
        raw = [stem + ext for stem, ext in files if ext.lower() in RAW_EXTENSIONS]
        if not raw:
            return names
        pictures = {stem for stem, ext in files if ext.lower() in _DEVELOPED}
        beside = {name for name in raw if os.path.splitext(name)[0] in pictures}
        self._raw_beside += len(beside)
        return [name for name in names if name not in beside]

    def _reached(self, path: Path, files: set[str], folders: list[str]) -> bool:
        """Whether an earlier path has brought this file."""
        if not files and not folders:
            return False
        whole = os.path.abspath(path)
        if whole in files:
            return True
        known = os.path.splitext(whole)[1].lower() in self._extensions
        return known and any(_is_below(whole, folder) for folder in folders)


def _leads_to_folder(entry: os.DirEntry) -> bool:
    """Whether it is a link to a folder; a link that leads in a circle is a file that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_below(file: str, folder: str) -> bool:
    """Whether a folder stands for this file: none of the folders between is hidden."""
    start = folder.rstrip(os.sep) + os.sep
    if not file.startswith(start):
        return False
    return not any(part.startswith(".") for part in file[len(start) :].split(os.sep))
