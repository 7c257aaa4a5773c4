"""`python -m bench report`: from the files of results to pages and plots."""

from .gpu_bounds import BOUNDS, describe
from .plots import draw

__all__ = ["BOUNDS", "describe", "draw"]
