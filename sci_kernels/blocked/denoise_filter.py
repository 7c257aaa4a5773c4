"""The denoising filter without Triton: plain torch operations on bands of rows that stay in cache.

Formulas: `sci_kernels.denoise`. A band is read together with the two rows above and below it.
"""

import torch
from torch import Tensor

from ..constants import OFFSETS, RADIUS, REACH
from ..reference import as_floating, falloff

# Found by timing 1920x1080 on 2 cores. On other devices calls cost more than memory: hence large bands.
_BAND_PIXELS_CPU = 1 << 16
_BAND_PIXELS = 1 << 22

# PyTorch's exp takes forty times as long for results below the smallest normal number. Its exp2 does not, but rounds
# the last elements of a tensor differently, so that a pixel's bits would depend on where it lies.
_LEAST_EXPONENT = -80.0


def denoise(image: Tensor, gain: Tensor, strength: float) -> Tensor:
    """The filtered image, in its own dtype and memory format."""
    n, _, height, width = image.shape
    result = torch.empty_like(image)
    rows = max(1, min(height, (_BAND_PIXELS_CPU if image.device.type == "cpu" else _BAND_PIXELS) // width))
    for index in range(n):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            low, high = max(top - RADIUS, 0), min(bottom + RADIUS, height)
            y = as_floating(image[index, :, low:high]).contiguous()
            scale = falloff(strength) / gain[index, 0, top:bottom].to(y.dtype).square()
            band = _filter_band(y, scale, top - low)
            result[index, :, top:bottom] = band.mul_(255).round_() if image.dtype == torch.uint8 else band
    return result


def _filter_band(y: Tensor, scale: Tensor, above: int) -> Tensor:
    """The filtered rows of y, (3, R, W), from row `above` on: as many as `scale` has."""
    rows, width = scale.shape
    total, weights = y[:, above : above + rows].clone(), torch.ones_like(scale)
    differences, squares = torch.empty_like(total), scale.new_empty(scale.shape)
    least = torch.full_like(scale[:1, :1], _LEAST_EXPONENT).exp_()
    for dy, dx in OFFSETS:
        first, end = max(0, -above - dy), min(rows, y.shape[1] - above - dy)
        left, right = max(0, -dx), width - max(0, dx)
        if first >= end or left >= right:
            continue
        here = (slice(first, end), slice(left, right))
        there = y[:, above + dy + first : above + dy + end, left + dx : right + dx]
        # Scratch memory in the shape of the part, contiguous: operations take half the time.
        size = (end - first, right - left)
        difference = differences.view(-1)[: 3 * size[0] * size[1]].view(3, *size)
        weight = squares.view(-1)[: size[0] * size[1]].view(size)
        torch.sub(there, y[:, above + first : above + end, left:right], out=difference)
        red, green, blue = difference.unbind(0)
        torch.mul(red, red, out=weight).addcmul_(green, green).addcmul_(blue, blue)
        weight.mul_(scale[here]).sub_((dy * dy + dx * dx) / (2 * REACH * REACH))
        # 0 for a pixel at an infinite distance, so that times infinity it is NaN.
        weight.clamp_(min=_LEAST_EXPONENT).exp_().sub_(least)
        weights[here].add_(weight)
        of_channels = (slice(None), *here)
        total[of_channels].addcmul_(weight, there)
    return total.div_(weights)
