"""Eager baselines that owe nothing to this library but the mathematics."""

import torch
from torch import Tensor

from sci_kernels.constants import PAIRS, SIGMA
from sci_kernels.reference import compute_dtype, transform_color


def twelve_pairs(input: Tensor, illumination: Tensor, sigma: float = SIGMA, color: str = "reference") -> Tensor:
    """The smoothness loss as a careful user would rewrite it in eager PyTorch, differentiated by autograd.

    Two savings over the official code are free: both directions of a pair give the same number, so 12 of the 24 are
    enough, and |f| summed over channels is `abs().sum()`, where `torch.norm(p=1)` over a strided dimension takes a
    hundred times as long on a CPU. Half precision is computed in float32.
    """
    dtype = compute_dtype(input, illumination)
    y, illumination = transform_color(input.to(dtype), color), illumination.to(dtype)
    h, w = y.shape[-2:]
    loss = y.new_zeros(())
    for dy, dx in PAIRS:
        here = (..., slice(0, h - dy), slice(max(0, -dx), w - max(0, dx)))
        there = (..., slice(dy, h), slice(max(0, dx), w - max(0, -dx)))
        weight = torch.exp((y[here] - y[there]).square().sum(1) / (-2 * sigma * sigma))
        loss = loss + 2 * (weight * (illumination[here] - illumination[there]).abs().sum(1)).mean()
    return loss
