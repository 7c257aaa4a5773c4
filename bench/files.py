"""Files that are whole at every moment.

Not by `model.files`: a machine to measure on may lack what the package `model` imports.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def beside(path: Path, ending: str = ".tmp") -> Iterator[Path]:
    """A file to write to, hidden beside `path`, which becomes `path` at the end. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{ending}")
    try:
        temporary.touch()  # an error here is Python's, with its reason
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
