"""The operators as torch.library sees them: schemas, fakes, autograd. `dispatch` has what they share."""

from .dispatch import triton_launchers, unwatched
from .enhancing_ops import denoise, enhance, find_exposure
from .loss_op import loss
from .retinex_op import retinex

__all__ = ["denoise", "enhance", "find_exposure", "loss", "retinex", "triton_launchers", "unwatched"]
