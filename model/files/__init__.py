"""Files by their names: found in folders, compared, shared among processes, written whole or not at all."""

from .atomic_files import make_output_folder, move, remove_leftovers, write_atomically
from .collisions import Names, is_same
from .errors import ImageError, damaged, one_line
from .extensions import PICTURE_EXTENSIONS, RAW_EXTENSIONS
from .find_files import Again, Files, Found, find_files, find_images
from .process_shares import ALL, Processes, Share, SharingError

__all__ = [
    "ALL",
    "PICTURE_EXTENSIONS",
    "RAW_EXTENSIONS",
    "Again",
    "Files",
    "Found",
    "ImageError",
    "Names",
    "Processes",
    "Share",
    "SharingError",
    "damaged",
    "find_files",
    "find_images",
    "is_same",
    "make_output_folder",
    "move",
    "one_line",
    "remove_leftovers",
    "write_atomically",
]
