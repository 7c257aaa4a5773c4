"""What the loss kernels share: rows of colors and illuminations, pairs of their columns, and scalar arguments.

Four devices save instructions without losing digits:

- Colors enter as v = s U x, with U from `config` (or the identity) and s^2 = log2(e) / (2 sigma^2), so that the
  weight is w = 2^(-|v(p) - v(q)|^2), and the gradient by x is s U^T times that by v.
- The factor of an offset's mean, 1 / (N (H-|dy|) (W-|dx|)), is 1 / (N H W) times a ratio near 1. The logarithm of that
  ratio is the value that the exponent's sum begins with, which costs no instruction.
- Borders cost no branch: the exponent is -inf for a row outside the image, and a column outside it has a color so
  far from all others that the weight is 0.
- The sign of a difference costs one instruction where PTX has it (see `primitives.signed`).

The reference color mode reads triples that may cross the end of a row. So its Y is a tensor of its own, written by
`color`, which also transforms the gradient of Y; the other modes compute v as they read the input.

A row's `v` and `light` are tuples: COLS tensors [N] for each channel if own columns, 4 if sides (see `strips`).
"""

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .config import YCBCR_FACTOR, Launch, divide_up, multiprocessors
from .primitives import exp2, scalar, scalar_bits
from .strips import load_own, load_sides, row_offsets, split_own, split_sides

# Larger than any color with the smallest sigma, and its square still is a float32.
FAR = tl.constexpr(1e19)


@triton.jit
def _colors(pieces, u, PIECES: tl.constexpr, CHANNELS: tl.constexpr, YCBCR: tl.constexpr):
    """v of the module's docstring from the input, of PIECES tensors for each channel, in the same order."""
    result: tl.tuple = ()
    if YCBCR:
        for i in tl.static_range(PIECES):
            result = result + (u[0] * pieces[i] + u[1] * pieces[PIECES + i] + u[2] * pieces[2 * PIECES + i],)
        for i in tl.static_range(PIECES):
            result = result + (u[3] * pieces[PIECES + i] + u[4] * pieces[2 * PIECES + i],)
        for i in tl.static_range(PIECES):
            result = result + (u[5] * pieces[2 * PIECES + i],)
    else:
        for i in tl.static_range(PIECES * CHANNELS):
            result = result + (u[0] * pieces[i],)
    return result


@triton.jit
def own_columns(
    y_ptr, l_ptr, plane, row, columns, inside, H, W, u,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr,
    VECTOR: tl.constexpr, COLS: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The own columns of v and of the illumination in a row: COLS tensors [N] for each channel."""
    PIECES: tl.constexpr = 1 if VECTOR else COLS
    start = row_offsets(row, H, W, VECTOR)
    pieces: tl.tuple = ()
    for channel in tl.static_range(Y_CHANNELS):
        pieces = pieces + load_own(y_ptr + channel * plane + start, columns, inside, VECTOR, COLS, ACC)
    pieces = _colors(pieces, u, PIECES, Y_CHANNELS, YCBCR)
    v: tl.tuple = ()
    for channel in tl.static_range(Y_CHANNELS):
        v = v + split_own(pieces[channel * PIECES : (channel + 1) * PIECES], VECTOR, N)
    if len(inside) > 0:
        for i in tl.static_range(COLS):
            v = v[:i] + (tl.where(inside[i], v[i], FAR),) + v[i + 1 :]
    light: tl.tuple = ()
    for channel in tl.static_range(L_CHANNELS):
        pieces = load_own(l_ptr + channel * plane + start, columns, inside, VECTOR, COLS, ACC)
        light = light + split_own(pieces, VECTOR, N)
    return v, light


@triton.jit
def side_columns(
    y_ptr, l_ptr, plane, row, columns, beside, H, W, u, AGAIN: tl.constexpr,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, YCBCR: tl.constexpr,
    VECTOR: tl.constexpr, COLS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sides of v and of the illumination in a row: 4 tensors [N] for each channel."""
    PIECES: tl.constexpr = 2 if VECTOR else 4
    start = row_offsets(row, H, W, VECTOR)
    pieces: tl.tuple = ()
    for channel in tl.static_range(Y_CHANNELS):
        pieces = pieces + load_sides(y_ptr + channel * plane + start, columns, beside, AGAIN, VECTOR, COLS, ACC)
    pieces = _colors(pieces, u, PIECES, Y_CHANNELS, YCBCR)
    for i in tl.static_range(PIECES):
        far = tl.where(beside[i], pieces[i], FAR)
        pieces = pieces[:i] + (far,) + pieces[i + 1 :]
    v: tl.tuple = ()
    for channel in tl.static_range(Y_CHANNELS):
        v = v + split_sides(pieces[channel * PIECES : (channel + 1) * PIECES], VECTOR)
    light: tl.tuple = ()
    for channel in tl.static_range(L_CHANNELS):
        pieces = load_sides(l_ptr + channel * plane + start, columns, beside, AGAIN, VECTOR, COLS, ACC)
        light = light + split_sides(pieces, VECTOR)
    return v, light


@triton.jit
def compare(
    p_v, p_l, i: tl.constexpr, P: tl.constexpr, q_v, q_l, j: tl.constexpr, Q: tl.constexpr, ratio,
    Y_CHANNELS: tl.constexpr, L_CHANNELS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Compares tensor i of row p, which has P for each channel, with tensor j of row q, which has Q.

    Returns the differences e of v and f of the illumination, a tensor for each channel, and the weight
    2^(ratio - |e|^2).
    """
    exponent = ratio
    e: tl.tuple = ()
    f: tl.tuple = ()
    for channel in tl.static_range(Y_CHANNELS):
        difference = p_v[P * channel + i] - q_v[Q * channel + j]
        exponent = exponent - difference * difference
        e = e + (difference,)
    for channel in tl.static_range(L_CHANNELS):
        f = f + (p_l[P * channel + i] - q_l[Q * channel + j],)
    return e, f, exp2(exponent, PTX)


@triton.jit
def illumination_distance(f, CHANNELS: tl.constexpr):
    total = tl.abs(f[0])
    for channel in tl.static_range(1, CHANNELS):
        total += tl.abs(f[channel])
    return total


@triton.jit
def row_ratios(row, dy: tl.constexpr, H, row_ratio, column_ratio1, column_ratio2):
    """Logarithms of the ratios for columns at distance 0, 1 and 2; -inf if a row of the pair is outside the image."""
    ratio = tl.where((row >= 0) & (row + dy < H), row_ratio, float("-inf"))
    return ratio, ratio + column_ratio1, ratio + column_ratio2


@triton.jit
def scalars6(a, b, c, d, e, f, ACC: tl.constexpr):
    return (scalar(a, ACC), scalar(b, ACC), scalar(c, ACC), scalar(d, ACC), scalar(e, ACC), scalar(f, ACC))


def scalar_arguments(x: Tensor, sigma: float, color: str, smooth_weight: float, dtype: torch.dtype) -> tuple[int, ...]:
    """s U, the logarithms of the ratios, and the pair factor, as bits: see `primitives.scalar_bits`."""
    n, _, h, w = x.shape
    return _scalars(n, h, w, sigma, color, smooth_weight, dtype)


@functools.lru_cache(1024)
def _scalars(
    n: int, h: int, w: int, sigma: float, color: str, smooth_weight: float, dtype: torch.dtype
) -> tuple[int, ...]:
    scale = math.sqrt(math.log2(math.e) / 2.0) / sigma
    factor = YCBCR_FACTOR if color == "ycbcr" else (1.0,) + (0.0,) * 5
    ratios = (math.log2(side / (side - distance)) for side in (h, w) for distance in (1, 2))
    values = *(scale * value for value in factor), *ratios, 2.0 * smooth_weight / (n * h * w)
    return tuple(scalar_bits(value, dtype) for value in values)


def tiles_of(x: Tensor, launch: Launch) -> tuple[int, int]:
    """The rows that a thread marches down, and the number of programs."""
    n, _, h, w = x.shape
    across = n * divide_up(w, launch.strips * launch.columns)
    march = launch.march(h, across, multiprocessors(x.get_device()))
    return march, across * divide_up(h, march * launch.bands)
