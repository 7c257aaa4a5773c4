"""Training steps and enhanced pictures by each provider; needs the packages that `model` and `train` need."""

from .enhancing import Enhance
from .operator_counts import step_text
from .training_step import LR, TrainingStep, make_model, planned_largest, step_times

__all__ = [
    "LR",
    "Enhance",
    "TrainingStep",
    "make_model",
    "planned_largest",
    "step_text",
    "step_times",
]
