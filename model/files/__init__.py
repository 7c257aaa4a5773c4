"""Files as names and bytes: found in folders, shared among processes, and written whole or not at all."""

from .atomic_files import make_output_folder, move, remove_leftovers, write_atomically
from .collisions import Names, is_same
from .errors import ImageError, damaged, reason_of
from .extensions import PICTURE_EXTENSIONS, RAW_EXTENSIONS, VIDEO_EXTENSIONS
from .find_files import Again, Files, Found, find_files, find_images
from .process_shares import ALL, Processes, Share, SharingError

__all__ = [
    "ALL",
    "PICTURE_EXTENSIONS",
    "RAW_EXTENSIONS",
    "VIDEO_EXTENSIONS",
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
    "reason_of",
    "remove_leftovers",
    "write_atomically",
]
