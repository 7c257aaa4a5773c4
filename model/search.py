"""Files to work on, found below folders, each with the relative name that its result should have."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from .images import EXTENSIONS
from .picture import ImageError


def find_images(paths: str | Path | Iterable[str | Path]) -> list[tuple[Path, Path]]:
    """Every picture under `paths`, each with the relative name its result should have; as `find_files`.

    Raises:
        ImageError: a path does not exist, or a folder holds no picture.
    """
    return find_files(paths, EXTENSIONS, "pictures")


def find_files(
    paths: str | Path | Iterable[str | Path], extensions: Sequence[str], what: str
) -> list[tuple[Path, Path]]:
    """Every file under `paths`, each with the relative name its result should have.

    A file stands for itself, by its name, whatever its extension. A folder stands for the files below it at any depth
    whose extension is one of `extensions`, by their path from it, sorted; hidden files and folders are passed over and
    links to folders are not followed. A file reached twice is listed once. Two files may have the same relative name
    when they come from two folders.

    Raises:
        ImageError: a path does not exist, or a folder holds nothing; it calls the files `what`.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    found: dict[str, tuple[Path, Path]] = {}
    for path in map(Path, paths):
        # os.path, since the methods of Path raise where a parent may not be entered or a name is too long.
        if os.path.isdir(path):
            names = _walk(path, extensions)
            if not names:
                raise ImageError(f"{path}: no {what} in this folder or below it; looked for {' '.join(extensions)}")
        elif os.path.exists(path):
            path, names = path.parent, [Path(path.name)]
        else:
            raise ImageError(f"{path}: no such file or folder, or not readable; check the path")
        for name in names:
            found.setdefault(os.path.abspath(path / name), (path / name, name))
    if not found:
        raise ImageError(f"no {what}: expected at least one file or folder, got none")
    return list(found.values())


def _walk(folder: Path, extensions: Sequence[str]) -> list[Path]:
    """Relative paths of the files below a folder, sorted."""

    def stop(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot list this folder ({error.strerror}); check its permissions")

    names = []
    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [
            Path(parent, name).relative_to(folder)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in extensions
        ]
    return sorted(names)
