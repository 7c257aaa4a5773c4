"""What the commands of `model` and `train` share: the parser, the exposure options, and `--report`."""

from .exposure_arguments import add_exposure_options, number_from_zero, settle_exposure
from .parser import Parser
from .run_report import RunReport, is_report

__all__ = [
    "Parser",
    "RunReport",
    "add_exposure_options",
    "is_report",
    "number_from_zero",
    "settle_exposure",
]
