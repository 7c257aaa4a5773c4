"""Files that appear whole or not at all."""

import os
import secrets
from pathlib import Path


def write_atomically(path: str | Path, data: bytes | memoryview) -> None:
    """Write `data` beside `path`, flush it to the disk, then rename it into place.

    An existing file is replaced in one step, or left as it was. Raises OSError; nothing is left behind then.
    """
    path = Path(path)
    # Not derived from the file's own name, which may already be as long as the file system allows.
    temporary = path.parent / f".sci-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is not None:  # what the caller knows of
            error.filename, error.filename2 = str(path), None
        raise


def make_output_folder(folder: str | Path) -> Path:
    """The folder, made where it is missing. Raises OSError at once if it takes no file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".sci-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        probe.write_bytes(b"sci")
    finally:
        probe.unlink(missing_ok=True)
    return folder
