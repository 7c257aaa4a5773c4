"""What a run shows: progress, logs, sample pictures and their color cast."""

from .one_step_late import LateReport
from .report import SAMPLE_COUNT, TrainingReport, preview

__all__ = ["SAMPLE_COUNT", "LateReport", "TrainingReport", "preview"]
