"""The Retinex step without Triton: plain torch calls on chunks small enough to stay in cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..constants import ILLUMINATION_MAX, ILLUMINATION_MIN
from ..reference import compute_dtype
from .smooth_loss import band_pixels


def retinex(residual: Tensor, stage_input: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Illumination and reflectance in the arithmetic's dtype, contiguous."""
    parts, (illumination, reflectance) = _chunks((residual, stage_input, image), outputs=2)
    for r, s, x, light, result in parts:
        torch.add(r, s, out=light).clamp_(ILLUMINATION_MIN, ILLUMINATION_MAX)
        torch.div(x, light, out=result).clamp_(0.0, 1.0)
    return illumination, reflectance


def retinex_gradient(
    grad_illumination: Tensor, grad_reflectance: Tensor, residual: Tensor, stage_input: Tensor, image: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of residual + stage_input and of image.

    q = image / illumination,   inside(x, a, b) = 1 where a <= x <= b
    g       = g_reflectance inside(q, 0, 1)
    g_image = g / illumination
    g_sum   = (g_illumination - g q / illumination) inside(residual + stage_input, 1e-4, 1)

    Here inside() selects, while g = 0 still multiplies, as with autograd: where q / illumination is NaN or infinite,
    g_sum is NaN unless the illumination is clamped. Product and difference may be one operation with one rounding:
    where the product overflows, an infinite g_illumination of its sign then stays as it is, where autograd has NaN.
    """
    parts, (grad_sum, grad_image) = _chunks(
        (grad_illumination, grad_reflectance, residual, stage_input, image), outputs=2
    )
    for g_light, g_result, r, s, x, g_sum, g_image in parts:
        total = r + s
        light = total.clamp(ILLUMINATION_MIN, ILLUMINATION_MAX)
        quotient = x / light
        zero = total.new_zeros(())
        inside = (quotient >= 0.0).logical_and_(quotient <= 1.0)
        g = torch.where(inside, g_result, zero)
        torch.div(g, light, out=g_image)
        g_sum.copy_(g_light).addcmul_(g, quotient.div_(light), value=-1.0)
        inside = (total >= ILLUMINATION_MIN).logical_and_(total <= ILLUMINATION_MAX)
        torch.where(inside, g_sum, zero, out=g_sum)
    return grad_sum, grad_image


def _chunks(tensors: tuple[Tensor, ...], outputs: int) -> tuple[Iterator[tuple[Tensor, ...]], list[Tensor]]:
    """Flat chunks of the arguments, in the arithmetic's dtype, and of new outputs; and these outputs."""
    dtype = compute_dtype(*tensors)
    like = tensors[0]
    results = [torch.empty(like.shape, dtype=dtype, device=like.device) for _ in range(outputs)]
    flats = [t.contiguous().view(-1).split(band_pixels(like)) for t in (*tensors, *results)]
    return (tuple(part.to(dtype) for part in parts) for parts in zip(*flats, strict=True)), results
