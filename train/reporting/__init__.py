"""What a run says of itself: progress, logs, previews, color casts, warnings."""

from .one_step_late import LateReport
from .report import SAMPLE_COUNT, Report, preview

__all__ = ["SAMPLE_COUNT", "LateReport", "Report", "preview"]
