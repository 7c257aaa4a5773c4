"""Eager baselines, independent of this library's implementations: what a fused loss has to be compared with.

They are the providers `pairs` and `written-out` of `bench/compare/cases.py`.
"""

import torch
from torch import Tensor

from sci_kernels.constants import PAIRS, RADIUS, SIGMA
from sci_kernels.reference import compute_dtype, transform_color


def twelve_pairs(input: Tensor, illumination: Tensor, sigma: float = SIGMA, color: str = "reference") -> Tensor:
    """The smoothness loss as a careful user would rewrite it in eager PyTorch, differentiated by autograd.

    It saves two things that the official code does: both directions of a pair give the same number, so 12 of the 24
    are enough; and |f| summed over channels is `abs().sum()`, for which `torch.norm(p=1)` over a strided dimension
    takes a hundred times as long on a CPU. Half precision is computed in float32.
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


def written_out(input: Tensor, illumination: Tensor, sigma: float = SIGMA, color: str = "reference") -> Tensor:
    """The reference's operations in the official code's order: all 24 weights, then all 24 terms, then their sum.

    If the reference took much longer than this, it would not be a fair baseline.
    """
    dtype = compute_dtype(input, illumination)
    y, illumination = transform_color(input.to(dtype), color), illumination.to(dtype)
    steps = range(-RADIUS, RADIUS + 1)
    directions = [(_ends(dy), _ends(dx)) for dy in steps for dx in steps if (dy, dx) != (0, 0)]
    weights, terms = [], []
    for (y_from, y_to), (x_from, x_to) in directions:
        squares = torch.pow(y[:, :, y_from, x_from] - y[:, :, y_to, x_to], 2)
        weights.append(torch.exp(torch.sum(squares, dim=1, keepdim=True) * (-1.0 / (2 * sigma * sigma))))
    for weight, ((y_from, y_to), (x_from, x_to)) in zip(weights, directions, strict=True):
        step = illumination[:, :, y_from, x_from] - illumination[:, :, y_to, x_to]
        terms.append(weight * torch.norm(step, p=1, dim=1, keepdim=True))
    loss = torch.mean(terms[0])
    for term in terms[1:]:
        loss = loss + torch.mean(term)
    return loss


def _ends(step: int) -> tuple[slice, slice]:
    """Slices of the pixels that have a neighbor `step` further inside the image, and of those neighbors."""
    return slice(max(0, -step), -step if step > 0 else None), slice(max(0, step), step if step < 0 else None)
