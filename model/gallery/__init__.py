"""Show pictures before and after: the HTML page of `--gallery`, and a contact sheet."""

from .build import Pair, write_contact_sheet, write_gallery
from .cli import Gallery, add_gallery_options, check_gallery

__all__ = ["Gallery", "Pair", "add_gallery_options", "check_gallery", "write_contact_sheet", "write_gallery"]
