"""The loss and its gradient without Triton: plain torch calls on bands of rows small enough to stay in cache.

Two observations make it fast. Both directions of a pair {o, -o} contribute the same number, so 12 pairs are computed
and counted twice. And while the differences are in cache, the gradient costs no more than the value, so that one pass
computes both. With e = Y(p+o) - Y(p), f = L(p+o) - L(p), w = exp(-|e|^2 / (2 sigma^2)), d = sum_c |f_c| and
k = 2 / (N (H-|dy|) (W-|dx|)), a pair contributes

    loss        += k w d
    dL(p+o)     += k w sign(f)                    dL(p) -= the same
    dY(p+o)     -= k w d e / sigma^2              dY(p) += the same

and the gradient of the input is that of Y through the transposed color transform.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..constants import CENTERED_COLOR_BIAS, COLOR_MATRIX, PAIRS
from ..reference import compute_dtype

# Found by timing 1920x1080 on 2 cores: 25 float32 values per pixel are in use, and a call takes about 2 us.
_BAND_PIXELS_CPU = 1 << 17
_BAND_PIXELS = 1 << 22


class _Scratch(NamedTuple):
    """Buffers for one band; the tuples are the channels of the tensors."""

    y_diff: Tensor
    y_diffs: tuple[Tensor, ...]
    l_diff: Tensor
    l_diffs: tuple[Tensor, ...]
    sign: Tensor
    signs: tuple[Tensor, ...]
    weight: Tensor
    distance: Tensor


_Pair = tuple[Tensor, Tensor]  # the pixels p of a plane, and those at p + o


class _Band(NamedTuple):
    """The planes of one band of rows for one offset; gradients only where they are asked for."""

    y: _Pair
    light: _Pair
    grad_y: _Pair | None
    grad_l: _Pair | None


class _Workspace:
    """Flat memory for the largest band, viewed in the shape that a band and a pair need."""

    def __init__(self, like: Tensor, y_channels: int, l_channels: int, pixels: int):
        self._sizes = (y_channels, l_channels, l_channels, 1, 1)
        self._flat = [like.new_empty(channels * pixels) for channels in self._sizes]
        self._views: dict[tuple[int, int], _Scratch] = {}

    def view(self, rows: int, columns: int) -> _Scratch:
        key = (rows, columns)
        if key not in self._views:
            y_diff, l_diff, sign, weight, distance = (
                flat[: channels * rows * columns].view(channels, rows, columns)
                for flat, channels in zip(self._flat, self._sizes, strict=True)
            )
            self._views[key] = _Scratch(
                y_diff, y_diff.unbind(0), l_diff, l_diff.unbind(0), sign, sign.unbind(0), weight[0], distance[0]
            )
        return self._views[key]


def loss(
    input: Tensor,
    illumination: Tensor,
    sigma: float,
    color: str,
    fidelity_weight: float,
    smooth_weight: float,
    input_grad: bool,
    illumination_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss and the gradients that are asked for, in the dtype of the arithmetic."""
    dtype = compute_dtype(input, illumination)
    x = input.to(dtype).contiguous()
    light = illumination.to(dtype).contiguous()
    y = _to_color(x, color)
    grad_y = torch.zeros_like(y) if input_grad else None
    grad_l = torch.zeros_like(light) if illumination_grad else None
    value = _smooth_pass(y, light, grad_y, grad_l, sigma, smooth_weight)
    grad_x = None if grad_y is None else _from_color_gradient(grad_y, y, color)
    if fidelity_weight != 0.0:
        value = value + _fidelity_pass(x, light, grad_x, grad_l, fidelity_weight)
    return value, grad_x, grad_l


def _smooth_pass(
    y: Tensor,
    light: Tensor,
    grad_y: Tensor | None,
    grad_l: Tensor | None,
    sigma: float,
    smooth_weight: float,
) -> Tensor:
    n, _, h, w = y.shape
    rows = max(1, min(h, band_pixels(y) // w))
    bands = -(-h // rows)
    scratch = _Workspace(y, y.shape[1], light.shape[1], rows * w)
    partial = y.new_zeros(n, bands, len(PAIRS))
    factors = [2.0 * smooth_weight / (n * (h - dy) * (w - abs(dx))) for dy, dx in PAIRS]
    for image in range(n):
        grad_y_image, grad_l_image = (None if grad is None else grad[image] for grad in (grad_y, grad_l))
        pairs = [_bands(y[image], light[image], grad_y_image, grad_l_image, offset, rows) for offset in PAIRS]
        for band in range(bands):
            for index, (pair, factor) in enumerate(zip(pairs, factors, strict=True)):
                if band < len(pair):
                    _pair_pass(pair[band], scratch, sigma, factor, partial[image, band, index])
    return (partial * partial.new_tensor(factors)).sum()


def _bands(
    y: Tensor, light: Tensor, grad_y: Tensor | None, grad_l: Tensor | None, offset: tuple[int, int], rows: int
) -> list[_Band]:
    """One image, `(C, H, W)`, in bands of rows, for an offset o = (dy, dx) with dy >= 0."""
    dy, dx = offset
    h, w = y.shape[-2:]

    def split(plane: Tensor) -> list[_Pair]:
        here = plane[:, : h - dy, max(0, -dx) : w - max(0, dx)].split(rows, 1)
        there = plane[:, dy:, max(0, dx) : w - max(0, -dx)].split(rows, 1)
        return list(zip(here, there, strict=True))

    ys, lights = split(y), split(light)
    none = [None] * len(ys)
    grad_ys, grad_ls = (none if grad is None else split(grad) for grad in (grad_y, grad_l))
    return [_Band(*planes) for planes in zip(ys, lights, grad_ys, grad_ls, strict=True)]


def _pair_pass(band: _Band, workspace: _Workspace, sigma: float, factor: float, partial: Tensor) -> None:
    """One pair on one band: writes the sum of w d to `partial`, and adds to the gradients that are not None."""
    (y_here, y_there), (l_here, l_there), grad_y, grad_l = band
    s = workspace.view(l_here.shape[1], l_here.shape[2])
    torch.sub(y_there, y_here, out=s.y_diff)
    torch.mul(s.y_diffs[0], s.y_diffs[0], out=s.weight)
    for channel in s.y_diffs[1:]:
        s.weight.addcmul_(channel, channel)
    # exp2, since PyTorch's exp takes up to thirty times as long for tiny results.
    s.weight.mul_(-0.5 * math.log2(math.e) / (sigma * sigma)).exp2_()
    torch.sub(l_there, l_here, out=s.l_diff)
    torch.sign(s.l_diff, out=s.sign)
    torch.mul(s.l_diffs[0], s.signs[0], out=s.distance)
    for channel, sign in zip(s.l_diffs[1:], s.signs[1:], strict=True):
        s.distance.addcmul_(channel, sign)
    s.distance.mul_(s.weight)
    torch.sum(s.distance, dim=(0, 1), out=partial)
    if grad_l is not None:
        grad_l_here, grad_l_there = grad_l
        grad_l_there.addcmul_(s.sign, s.weight, value=factor)
        grad_l_here.addcmul_(s.sign, s.weight, value=-factor)
    if grad_y is not None:
        grad_y_here, grad_y_there = grad_y
        factor_y = factor / (sigma * sigma)
        grad_y_there.addcmul_(s.y_diff, s.distance, value=-factor_y)
        grad_y_here.addcmul_(s.y_diff, s.distance, value=factor_y)


def _fidelity_pass(
    x: Tensor,
    light: Tensor,
    grad_x: Tensor | None,
    grad_l: Tensor | None,
    fidelity_weight: float,
) -> Tensor:
    """Returns fidelity_weight * mean((l - x)^2), and adds its gradients to those that are not None."""
    factor = fidelity_weight / x.numel()
    chunk = 3 * band_pixels(x)
    x_parts, l_parts = (tensor.view(-1).split(chunk) for tensor in (x, light))
    grad_x_parts, grad_l_parts = (None if grad is None else grad.view(-1).split(chunk) for grad in (grad_x, grad_l))
    partial = x.new_empty(len(x_parts))
    for index, (x_part, l_part) in enumerate(zip(x_parts, l_parts, strict=True)):
        diff = l_part - x_part
        if grad_x_parts is not None:
            grad_x_parts[index].add_(diff, alpha=-2.0 * factor)
        if grad_l_parts is not None:
            grad_l_parts[index].add_(diff, alpha=2.0 * factor)
        torch.sum(diff.square_(), dim=0, out=partial[index])
    return partial.sum() * factor


def _components(x: Tensor, color: str) -> tuple[Tensor, ...]:
    """The three strided views that the color matrix combines."""
    return x.view(-1, 3).unbind(1) if color == "reference" else x.unbind(1)


def _to_color(x: Tensor, color: str) -> Tensor:
    """The color transform. Not by a matrix product, whose precision depends on global settings such as TF32."""
    if color == "rgb":
        return x
    # In ycbcr mode the bias cancels in every difference; without it, the differences are more accurate.
    bias = CENTERED_COLOR_BIAS if color == "reference" else (0.0, 0.0, 0.0)
    y = torch.empty_like(x)
    sources = _components(x, color)
    for p, target in enumerate(_components(y, color)):
        torch.add(x.new_tensor(bias[p]), sources[0], alpha=COLOR_MATRIX[0][p], out=target)
        for k in (1, 2):
            target.add_(sources[k], alpha=COLOR_MATRIX[k][p])
    return y


def _from_color_gradient(grad_y: Tensor, spare: Tensor, color: str) -> Tensor:
    """The gradient of the input from that of Y. Overwrites `spare`, for which Y serves, no longer needed."""
    if color == "rgb":
        return grad_y
    sources = _components(grad_y, color)
    for k, target in enumerate(_components(spare, color)):
        torch.mul(sources[0], COLOR_MATRIX[k][0], out=target)
        for p in (1, 2):
            target.add_(sources[p], alpha=COLOR_MATRIX[k][p])
    return spare


def band_pixels(like: Tensor) -> int:
    return _BAND_PIXELS_CPU if like.device.type == "cpu" else _BAND_PIXELS
