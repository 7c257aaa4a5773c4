"""One training step: losses, gradients, clipping, Adam; and its replay as a CUDA graph."""

from .cuda_graphs import VISITS, CudaRecorder, Graphs, Recorder, graphs_of
from .update import (
    BETAS,
    CLIP_NORM,
    WEIGHT_DECAY,
    NotFinite,
    StepResult,
    losses_function,
    make_optimizer,
    stage_losses,
    step_values,
    training_step,
)

__all__ = [
    "BETAS",
    "CLIP_NORM",
    "VISITS",
    "WEIGHT_DECAY",
    "CudaRecorder",
    "Graphs",
    "NotFinite",
    "Recorder",
    "StepResult",
    "graphs_of",
    "losses_function",
    "make_optimizer",
    "stage_losses",
    "step_values",
    "training_step",
]
