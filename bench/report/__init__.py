"""`python -m bench report`: from bench/results/*.json to the performance page of the documentation and its plots."""

from .gpu_bounds import BOUNDS, describe
from .plots import draw

__all__ = ["BOUNDS", "describe", "draw"]
