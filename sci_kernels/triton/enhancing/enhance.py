"""The enhance network and the brightening of the image in one kernel: each pixel read once, each result written once.

A thread owns COLS neighboring columns and marches down them, `march` rows of the result. Each new row of the image
completes a row of the first convolution one row above it, which completes one of the second another row higher, which
completes one of the third: three rows behind the image, a row of the result is written. So the march begins three rows
above its first row and ends three rows below its last, 6 further steps. The network's arithmetic is in `network`.

Images are contiguous, (N, 3, H, W). A row is read channel by channel, and is 0 outside the image: the convolutions pad
their inputs with zeros.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...constants import FADE, ILLUMINATION_MAX, ILLUMINATION_MIN, LUMA
from ...reference import compute_dtype
from ..config import enhance_launch
from ..launcher import Launcher
from ..neighbors import tiles_of
from ..primitives import ACC, aligned, clamp, divide, ptx_level
from ..strips import row_offsets, split4, store_own, strip_position
from .network import advance, biases, features, illuminate


@triton.jit
def _columns(left, W, COLS: tl.constexpr, VECTOR: tl.constexpr):
    """The pieces that columns -3 ... COLS + 2 of a row are read in, as offsets, and masks of those inside the image.

    With VECTOR they are three vectors of 4 columns, from column -4 on.
    """
    columns: tl.tuple = ()
    inside: tl.tuple = ()
    if VECTOR:
        own = left.to(tl.int64)[:, None] + tl.arange(0, 4)[None, :]
        for j in tl.static_range(-1, 2):
            columns = columns + (own + 4 * j,)
            inside = inside + ((left + 4 * j >= 0) & (left + 4 * j < W),)
    else:
        for j in tl.static_range(-3, COLS + 3):
            columns = columns + (left.to(tl.int64) + j,)
            inside = inside + ((left + j >= 0) & (left + j < W),)
    return columns, inside


@triton.jit
def _load(ptr, columns, inside, row_inside, BYTES: tl.constexpr, VECTOR: tl.constexpr, ACC: tl.constexpr):
    mask = inside & row_inside
    value = tl.load(ptr + columns, mask=mask[:, None] if VECTOR else mask, other=0).to(ACC)
    return value * (1.0 / 255.0) if BYTES else value


@triton.jit
def _image_row(
    x_ptr, plane, row, columns, inside, H, W, SIDE: tl.constexpr, BYTES: tl.constexpr, VECTOR: tl.constexpr,
    COLS: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Columns -SIDE ... COLS + SIDE - 1 of a row, SIDE 3 or 0: a tensor [N] each, channel by channel.

    0 outside the image.
    """
    start = row_offsets(row, H, W, VECTOR)
    row_inside = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for channel in tl.static_range(3):
        ptr = x_ptr + channel * plane + start
        if VECTOR:
            own = split4(_load(ptr, columns[1], inside[1], row_inside, BYTES, True, ACC), N)
            if SIDE == 3:
                before = split4(_load(ptr, columns[0], inside[0], row_inside, BYTES, True, ACC), N)
                after = split4(_load(ptr, columns[2], inside[2], row_inside, BYTES, True, ACC), N)
                result = result + before[1:] + own + after[:3]
            else:
                result = result + own
        else:
            for j in tl.static_range(3 - SIDE, COLS + 3 + SIDE):
                result = result + (_load(ptr, columns[j], inside[j], row_inside, BYTES, False, ACC),)
    return result


@triton.jit
def _divide_by(light, x, COLS: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr):
    """The published division, channel by channel."""
    one = tl.full([], 1.0, ACC)
    result: tl.tuple = ()
    for j in tl.static_range(3 * COLS):
        # Clamped before the division, as in the Retinex kernel.
        value = divide(clamp(x[j], tl.full([], 0.0, ACC), one), light[j], PTX)
        result = result + (tl.minimum(value, one, propagate_nan=tl.PropagateNan.ALL),)
    return result


@triton.jit
def _expose(
    light,
    x,
    c,
    LUMA: tl.constexpr,
    SHARE: tl.constexpr,
    FADE: tl.constexpr,
    COLS: tl.constexpr,
    PTX: tl.constexpr,
    ACC: tl.constexpr,
):
    """The own columns times one gain for all channels, channel by channel, and the gain."""
    zero = tl.full([], 0.0, ACC)
    one = tl.full([], 1.0, ACC)
    fade = c * FADE
    reds: tl.tuple = ()
    greens: tl.tuple = ()
    blues: tl.tuple = ()
    gains: tl.tuple = ()
    for j in tl.static_range(COLS):
        red = clamp(x[j], zero, one)
        green = clamp(x[COLS + j], zero, one)
        blue = clamp(x[2 * COLS + j], zero, one)
        luma = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
        added = (light[j] - red) + (light[COLS + j] - green) + (light[2 * COLS + j] - blue)
        share = tl.minimum(added * SHARE, 0.5, propagate_nan=tl.PropagateNan.ALL) + 0.5
        # The maximum may drop a NaN; the luma keeps it.
        most = tl.maximum(tl.maximum(red, green), blue)
        gain = divide(c + share, c * most + share, PTX)
        reds = reds + (clamp(gain * (red + fade * (luma - red)), zero, one),)
        greens = greens + (clamp(gain * (green + fade * (luma - green)), zero, one),)
        blues = blues + (clamp(gain * (blue + fade * (luma - blue)), zero, one),)
        gains = gains + (gain,)
    return reds + greens + blues, gains


@triton.jit
def _unless_zero(c, values, others, COUNT: tl.constexpr):
    """`values`, but where c = 0 `others`, or 1 if these are ()."""
    result: tl.tuple = ()
    for j in tl.static_range(COUNT):
        result = result + (tl.where(c == 0, others[j] if len(others) > 0 else 1.0, values[j]),)
    return result


@triton.jit
def _store(
    ptr, plane, row, columns, inside, wanted, values, H, W, BYTES: tl.constexpr, VECTOR: tl.constexpr,
    COLS: tl.constexpr, N: tl.constexpr, CHANNELS: tl.constexpr = 3, ROUND: tl.constexpr = False,
):  # fmt: skip
    """Writes the own columns of a row, channel by channel, for the threads that are `wanted`.

    As BYTES, 255 times the value: rounded if ROUND, else truncated.
    """
    start = row_offsets(row, H, W, VECTOR)
    for channel in tl.static_range(CHANNELS):
        own = values[channel * COLS : (channel + 1) * COLS]
        if BYTES:
            for j in tl.static_range(COLS):
                if ROUND:
                    # 1.5 * 2^23 leaves the nearest integer, half to even, in the low bits.
                    byte = (own[j] * 255.0 + 12582912.0).to(tl.int32, bitcast=True)
                else:
                    byte = (own[j] * 255.0).to(tl.int32)
                own = own[:j] + (byte.to(tl.uint8),) + own[j + 1 :]
        store_own(
            ptr + channel * plane + start,
            columns if VECTOR else columns[1:],
            () if VECTOR else inside[3 : COLS + 3],
            wanted, own, VECTOR, COLS, N,
        )  # fmt: skip


# The exposures may be a view of a larger tensor: the alignment of their address is not worth a compilation of its own.
@triton.jit(do_not_specialize=["exposure_ptr", "H", "W", "march"])
def _enhance_kernel(
    x_ptr,
    result_ptr,
    light_ptr,
    gain_ptr,
    exposure_ptr,  # one for each image
    H,
    W,
    march,  # rows of the result that a thread writes
    WEIGHTS: tl.constexpr,  # the packed weights, one after another
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    LUMA: tl.constexpr,
    SHARE: tl.constexpr,
    FADE: tl.constexpr,
    EXPOSED: tl.constexpr,  # else divided
    LIGHT: tl.constexpr,  # whether the illumination is written
    GAIN: tl.constexpr,  # and the gain
    BYTES: tl.constexpr,  # uint8 in and out
    VECTOR: tl.constexpr,  # W % 4 == 0 and COLS == 4
    PTX: tl.constexpr,
    ACC: tl.constexpr,
    BANDS: tl.constexpr,
    STRIPS: tl.constexpr,
    COLS: tl.constexpr,
):
    N: tl.constexpr = BANDS * STRIPS
    if VECTOR:
        W = W // 4 * 4  # so the compiler knows that rows begin at multiples of 4
    image, top, left = strip_position(H, W, march, BANDS, STRIPS, COLS)
    columns, inside = _columns(left, W, COLS, VECTOR)
    plane = H.to(tl.int64) * W
    x_ptr += image * 3 * plane
    result_ptr += image * 3 * plane
    light_ptr += image * 3 * plane
    gain_ptr += image * plane
    c = tl.load(exposure_ptr + image) if EXPOSED else tl.full([], 0.0, ACC)
    f_older = biases(WEIGHTS, 0, COLS + 4, N, ACC)
    f_newer = biases(WEIGHTS, 0, COLS + 4, N, ACC)
    g_older = biases(WEIGHTS, 1, COLS + 2, N, ACC)
    g_newer = biases(WEIGHTS, 1, COLS + 2, N, ACC)
    z_older = biases(WEIGHTS, 2, COLS, N, ACC)
    z_newer = biases(WEIGHTS, 2, COLS, N, ACC)
    f_above = biases(WEIGHTS, 0, COLS + 4, N, ACC)
    for step in range(0, march + 6):
        row = top + step - 3
        x = _image_row(x_ptr, plane, row, columns, inside, H, W, 3, BYTES, VECTOR, COLS, N, ACC)
        f, f_older, f_newer = advance(f_older, f_newer, x, H, WEIGHTS, 0, COLS + 4, PTX, N, ACC)
        f = features(f, f, row - 1, left, H, W, 2, COLS, False)
        g, g_older, g_newer = advance(g_older, g_newer, f, H, WEIGHTS, 1, COLS + 2, PTX, N, ACC)
        g = features(g, f_above, row - 2, left, H, W, 1, COLS, True)
        f_above = f
        z, z_older, z_newer = advance(z_older, z_newer, g, H, WEIGHTS, 2, COLS, PTX, N, ACC)
        # The first rows of the march are incomplete, as they lack the rows above, and are not stored.
        row = row - 3
        wanted = (row >= top) & (row < H) & (left < W)
        x = _image_row(x_ptr, plane, row, columns, inside, H, W, 0, BYTES, VECTOR, COLS, N, ACC)
        light = illuminate(z, x, LOW, HIGH, COLS, PTX, ACC)
        if EXPOSED:
            result, gain = _expose(light, x, c, LUMA, SHARE, FADE, COLS, PTX, ACC)
            result = _unless_zero(c, result, x, 3 * COLS)
            if GAIN:
                gain = _unless_zero(c, gain, (), COLS)
                _store(gain_ptr, plane, row, columns, inside, wanted, gain, H, W, False, VECTOR, COLS, N, 1)
        else:
            result = _divide_by(light, x, COLS, PTX, ACC)
        _store(result_ptr, plane, row, columns, inside, wanted, result, H, W, BYTES, VECTOR, COLS, N, 3, EXPOSED)
        if LIGHT:
            _store(light_ptr, plane, row, columns, inside, wanted, light, H, W, BYTES, VECTOR, COLS, N)


_launch = Launcher(_enhance_kernel)


def launch_enhance(
    image: Tensor, weights: tuple[float, ...], illumination: bool, exposure: Tensor | None = None, black: float = 1.0,
    gain: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """The result, and illumination and gain if asked for, contiguous; result and illumination in the image's dtype.

    `weights` are the 252 numbers of `EnhanceWeights.packed` in order, `black` is their illumination of black.
    """
    x = aligned(image)
    dtype = compute_dtype(x)
    n, _, height, width = x.shape
    launch = enhance_launch(x, dtype)
    march, programs = tiles_of(x, launch)
    result = torch.empty_like(x)
    light = torch.empty_like(x) if illumination else None
    gains = x.new_empty((n, 1, height, width), dtype=dtype) if gain else None
    level = ptx_level(x, dtype)
    exposed = result if exposure is None else exposure.contiguous()
    tensors = (x, result, result if light is None else light, result if gains is None else gains, exposed)
    constants = (
        weights, ILLUMINATION_MIN, ILLUMINATION_MAX, LUMA, 0.5 / (3 * black), FADE, exposure is not None, illumination,
        gain, x.dtype == torch.uint8, width % 4 == 0 and launch.columns == 4, level, ACC[dtype], launch.bands,
        launch.strips, launch.columns,
    )  # fmt: skip
    _launch(programs, (*tensors, height, width, march), constants, launch.options(level))
    return result, light, gains
