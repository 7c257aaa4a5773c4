"""The page: one HTML file that enhances pictures and videos in a browser, with the weights in it."""

from .browser import NoBrowser, chromium, driver
from .build import page
from .comparison import Compared, PageError, compare
from .write import Tried, write_page

__all__ = ["Compared", "NoBrowser", "PageError", "Tried", "chromium", "compare", "driver", "page", "write_page"]
