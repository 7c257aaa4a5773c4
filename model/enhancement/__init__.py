"""Enhancing pictures: how much each is brightened or that it is left alone, how, in row tiles, and many at once."""

from .brighten import Brightener
from .enhancer import Enhanced, Enhancer
from .exposure import check_rule
from .many_at_once import Done, Options, Outcome, enhance_files, run_jobs
from .mean_brightness import brightness
from .output_paths import Job, Jobs, Naming, plan_jobs

__all__ = [
    "Brightener",
    "Done",
    "Enhanced",
    "Enhancer",
    "Job",
    "Jobs",
    "Naming",
    "Options",
    "Outcome",
    "brightness",
    "check_rule",
    "enhance_files",
    "plan_jobs",
    "run_jobs",
]
