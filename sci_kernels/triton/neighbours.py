"""What the loss kernels share: weights and distances of a strip's neighbours, and the arguments they are computed from.

Three rewritings save instructions without losing digits:

- Colours enter as v = s U x, with U from `config` (or the identity) and s^2 = log2(e) / (2 sigma^2), so that the
  weight is w = 2^(-|v(p) - v(q)|^2), and the gradient by x is s U^T times that by v.
- The mean over an offset's pixels, 1 / (N (H-|dy|) (W-|dx|)), is 1 / (N H W) times a ratio near 1, whose logarithm
  joins that exponent for nothing.
- The sign of a difference costs one instruction where PTX has it (see `primitives.signed`).

The reference colour mode reads triples that straddle rows, so its Y is written once, by `color`, and its gradient goes
back the same way; the ycbcr mode needs no buffer.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from .config import INTERPRETED_TILE, YCBCR_FACTOR, Launch
from .primitives import exp2
from .strips import load_strip, load_strips, shifted


@triton.jit
def colors(strips, u, COUNT: tl.constexpr, CHANNELS: tl.constexpr, YCBCR: tl.constexpr):
    """v of the module docstring, from COUNT strips a channel and in their order."""
    result = ()
    if YCBCR:
        for i in tl.static_range(COUNT):
            result = result + (u[0] * strips[i] + u[1] * strips[COUNT + i] + u[2] * strips[2 * COUNT + i],)
        for i in tl.static_range(COUNT):
            result = result + (u[3] * strips[COUNT + i] + u[4] * strips[2 * COUNT + i],)
        for i in tl.static_range(COUNT):
            result = result + (u[5] * strips[2 * COUNT + i],)
    else:
        for i in tl.static_range(COUNT * CHANNELS):
            result = result + (u[0] * strips[i],)
    return result


@triton.jit
def _shifts(strips, CHANNELS: tl.constexpr, N: tl.constexpr):
    """Each channel's strip shifted by dx = -2 ... 2: a tuple of 5 CHANNELS tensors [N, 4]."""
    result = ()
    for channel in tl.static_range(CHANNELS):
        result = result + shifted(strips[3 * channel], strips[3 * channel + 1], strips[3 * channel + 2], N)
    return result


@triton.jit
def differences(here, there, dx, CHANNELS: tl.constexpr):
    """The strip here minus the strip there, shifted by dx; a tensor a channel."""
    result = ()
    for channel in tl.static_range(CHANNELS):
        result = result + (here[channel] - there[5 * channel + 2 + dx],)
    return result


@triton.jit
def only_inside(f, inside, CHANNELS: tl.constexpr, MASKED: tl.constexpr):
    """Differences of illuminations, 0 where the neighbour is outside: such a pair then adds nothing anywhere."""
    result = ()
    for channel in tl.static_range(CHANNELS):
        result = result + ((tl.where(inside, f[channel], 0.0) if MASKED else f[channel]),)
    return result


@triton.jit
def edge_weight(e, dx, ratios, CHANNELS: tl.constexpr, PTX: tl.constexpr):
    """2^(ratio - |e|^2); ratios are those of columns at distance 0, 1 and 2."""
    exponent = ratios[dx if dx >= 0 else -dx]
    for channel in tl.static_range(CHANNELS):
        exponent = exponent - e[channel] * e[channel]
    return exp2(exponent, PTX)


@triton.jit
def illumination_distance(f, CHANNELS: tl.constexpr):
    total = tl.abs(f[0])
    for channel in tl.static_range(1, CHANNELS):
        total += tl.abs(f[channel])
    return total


@triton.jit
def load_row(
    y_ptr, l_ptr, offsets, plane, row_inside, columns, W, u,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
    N: tl.constexpr,
):  # fmt: skip
    """The shifted strips of a row: of v, and of the illumination."""
    y = load_strips(y_ptr, offsets, plane, row_inside, columns, W, Y_CHANNELS, MASKED, ACC)
    light = load_strips(l_ptr, offsets, plane, row_inside, columns, W, L_CHANNELS, MASKED, ACC)
    return _shifts(colors(y, u, 3, Y_CHANNELS, YCBCR), Y_CHANNELS, N), _shifts(light, L_CHANNELS, N)


@triton.jit
def load_own(
    y_ptr, l_ptr, offsets, plane, own, u,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The strip itself: of v, and of the illumination; a tensor a channel."""
    y = ()
    for channel in tl.static_range(Y_CHANNELS):
        y = y + (load_strip(y_ptr + channel * plane, offsets, own, MASKED, ACC),)
    light = ()
    for channel in tl.static_range(L_CHANNELS):
        light = light + (load_strip(l_ptr + channel * plane, offsets, own, MASKED, ACC),)
    return colors(y, u, 1, Y_CHANNELS, YCBCR), light


@triton.jit
def residual(x_ptr, l_ptr, offsets, mask, MASKED: tl.constexpr, ACC: tl.constexpr):
    """L - X of one channel, what the fidelity term is about."""
    return load_strip(l_ptr, offsets, mask, MASKED, ACC) - load_strip(x_ptr, offsets, mask, MASKED, ACC)


@triton.jit
def scalars(a, b, c, ACC: tl.constexpr):
    return (tl.full([], a, ACC), tl.full([], b, ACC), tl.full([], c, ACC))


def scalar_arguments(x: Tensor, sigma: float, color: str, smooth_weight: float) -> tuple[float, ...]:
    """s U, the logarithms of the ratios, and the pair factor, as the kernels take them."""
    n, _, h, w = x.shape
    scale = math.sqrt(math.log2(math.e) / 2.0) / sigma
    factor = YCBCR_FACTOR if color == "ycbcr" else (1.0,) + (0.0,) * 5
    ratios = (math.log2(side / (side - distance)) for side in (h, w) for distance in (1, 2))
    return *(scale * value for value in factor), *ratios, 2.0 * smooth_weight / (n * h * w)


def launch_on(launch: Launch, x: Tensor) -> Launch:
    return launch if x.is_cuda and not triton.knobs.runtime.interpret else INTERPRETED_TILE


def grid_of(x: Tensor, launch: Launch) -> tuple[int]:
    n, _, h, w = x.shape
    return (n * triton.cdiv(h, launch.block_h) * triton.cdiv(w, launch.block_w),)
