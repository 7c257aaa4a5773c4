"""SCI's networks: layers, inference, training with less memory, BatchNorm folded into convolutions, weight files."""

from .architecture import CalibrateNetwork, EnhanceNetwork, FinetuneNetwork, Network, Stages, enhance_part
from .batch_statistics import planned_for_gpu
from .fold_batch_norm import fold, unfused_reason
from .fused_training import CHECKPOINTS, CONVOLUTIONS
from .inference import enhance_image
from .weights import (
    CHECKPOINT_ENTRIES,
    DEFAULT_WEIGHTS,
    RUN_WEIGHTS,
    WeightsError,
    load_weights,
    official_state,
    save_weights,
    to_pt,
)

__all__ = [
    "CHECKPOINTS",
    "CHECKPOINT_ENTRIES",
    "CONVOLUTIONS",
    "DEFAULT_WEIGHTS",
    "RUN_WEIGHTS",
    "CalibrateNetwork",
    "EnhanceNetwork",
    "FinetuneNetwork",
    "Network",
    "Stages",
    "WeightsError",
    "enhance_image",
    "enhance_part",
    "fold",
    "load_weights",
    "official_state",
    "planned_for_gpu",
    "save_weights",
    "to_pt",
    "unfused_reason",
]
