"""A dark picture to measure with."""

import torch
from torch import Tensor


def loss_inputs(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A dark picture and an illumination, float32; both require gradients."""
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(1, 3, height, width, generator=generator) * 0.3
    illumination = picture + torch.rand(1, 3, height, width, generator=generator) * 0.5
    return picture.requires_grad_(), illumination.requires_grad_()
