"""SCI"s networks: layers, training with less memory, BatchNorm folded into convolutions, weight files."""

from .architecture import CalibrateNetwork, EnhanceNetwork, FinetuneNetwork, Network, Stages, enhance_image
from .batch_statistics import planned_for_gpu
from .fold_batch_norm import fold, unfused_reason
from .fused_training import CHECKPOINTS, CONVOLUTIONS
from .weights import DEFAULT_WEIGHTS, WeightsError, load_weights, official_state, save_weights, to_pt

__all__ = [
    "CHECKPOINTS",
    "CONVOLUTIONS",
    "DEFAULT_WEIGHTS",
    "CalibrateNetwork",
    "EnhanceNetwork",
    "FinetuneNetwork",
    "Network",
    "Stages",
    "WeightsError",
    "enhance_image",
    "fold",
    "load_weights",
    "official_state",
    "planned_for_gpu",
    "save_weights",
    "to_pt",
    "unfused_reason",
]
