"""The enhance network and what brightens the image by it in one kernel: each pixel read once, each result written once.

A thread marches down its columns. Each new row of the image completes a row of the first convolution one row above
it, which completes one of the second a row higher, which completes one of the third: three rows behind the image, a
row of the result is written. Of each convolution the sums of the two rows that are not complete are kept, and nothing
else; the columns beside the thread's own are computed by both threads concerned, 365 multiplications a pixel instead
of 243. Rows above the march cost 6 further steps. The weights are constants of the code: as an operand of a
multiplication they cost neither a register nor a load.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...constants import FADE, ILLUMINATION_MAX, ILLUMINATION_MIN, LUMA
from ...reference import compute_dtype
from ..config import enhance_launch
from ..launcher import Launcher
from ..neighbours import tiles_of
from ..primitives import ACC, aligned, clamp, divide, in_order, ptx_level, sigmoid
from ..strips import row_offsets, split4, store_own, strip_position

_LAYER = tl.constexpr(84)  # weights of a layer: 3 times 27 and a bias
_CHANNEL = tl.constexpr(28)


@triton.jit
def _columns(left, W, COLS: tl.constexpr, VECTOR: tl.constexpr):
    """Columns of a row from -3 to COLS + 2 in the pieces they are read in, and which of them are inside the image.

    Vectors are three of 4 columns, from -4 on.
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
    """Columns -SIDE ... COLS + SIDE - 1 of a row, SIDE 3 or 0: a tensor [N] each, channel by channel; 0 outside."""
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
def _biases(WEIGHTS: tl.constexpr, LAYER: tl.constexpr, OUT: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """Sums of a new row: OUT columns [N] a channel."""
    result: tl.tuple = ()
    for o in tl.static_range(3):
        for _ in tl.static_range(OUT):
            result = result + (tl.full([N], WEIGHTS[LAYER * _LAYER + o * _CHANNEL + 27], ACC),)
    return result


@triton.jit
def _convolve(
    sums, x, WEIGHTS: tl.constexpr, LAYER: tl.constexpr, DY: tl.constexpr, OUT: tl.constexpr, PTX: tl.constexpr
):
    """The sums of a row of OUT columns a channel, with what row DY - 1 from it adds; `x` has OUT + 2 columns."""
    result: tl.tuple = ()
    for o in tl.static_range(3):
        for column in tl.static_range(OUT):
            total = sums[o * OUT + column]
            for i in tl.static_range(3):
                for dx in tl.static_range(3):
                    value = x[i * (OUT + 2) + column + dx]
                    total += WEIGHTS[LAYER * _LAYER + o * _CHANNEL + i * 9 + DY * 3 + dx] * value
            result = result + (in_order(total) if PTX >= 1 else total,)
    return result


@triton.jit
def _advance(
    older, newer, x, H, WEIGHTS: tl.constexpr, LAYER: tl.constexpr, OUT: tl.constexpr, PTX: tl.constexpr,
    N: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A new row of a convolution's input: the row it completes, and the sums of the two that it does not."""
    complete = older
    # Always true, a branch in float64: from sm_90 on its weights are no operands but need registers, which ptxas
    # then holds for one block of code at a time, not for all layers at once, where it spills.
    if tl.float32 == ACC or H >= 1:
        complete = _convolve(older, x, WEIGHTS, LAYER, 2, OUT, PTX)
        older = _convolve(newer, x, WEIGHTS, LAYER, 1, OUT, PTX)
        newer = _convolve(_biases(WEIGHTS, LAYER, OUT, N, ACC), x, WEIGHTS, LAYER, 0, OUT, PTX)
    return complete, older, newer


@triton.jit
def _features(sums, shortcut, row, left, H, W, SIDE: tl.constexpr, COLS: tl.constexpr, ADD: tl.constexpr):
    """relu of the sums, plus the middle columns of `shortcut` if ADD, 0 outside the image: columns -SIDE and on."""
    OUT: tl.constexpr = COLS + 2 * SIDE
    row_inside = (row >= 0) & (row < H)
    result: tl.tuple = ()
    for channel in tl.static_range(3):
        for j in tl.static_range(OUT):
            value = tl.maximum(sums[channel * OUT + j], 0.0, propagate_nan=tl.PropagateNan.ALL)
            if ADD:
                value += shortcut[channel * (OUT + 2) + j + 1]
            column = left + j - SIDE
            result = result + (tl.where(row_inside & (column >= 0) & (column < W), value, 0.0),)
    return result


@triton.jit
def _illuminate(
    totals, x, LOW: tl.constexpr, HIGH: tl.constexpr, COLS: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr
):
    """The illumination of the own columns, channel by channel, from the last convolution and the image."""
    result: tl.tuple = ()
    for j in tl.static_range(3 * COLS):
        # Infinite powers give 0, which the rounding of a quotient would turn into NaN.
        residual = sigmoid(totals[j], PTX, ACC)
        result = result + (clamp(residual + x[j], tl.full([], LOW, ACC), tl.full([], HIGH, ACC)),)
    return result


@triton.jit
def _divide_by(light, x, COLS: tl.constexpr, PTX: tl.constexpr, ACC: tl.constexpr):
    """The published division, channel by channel."""
    one = tl.full([], 1.0, ACC)
    result: tl.tuple = ()
    for j in tl.static_range(3 * COLS):
        # Clamped before it is divided, as in the Retinex kernel.
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
        # A NaN that the maximum drops comes back by the luma.
        most = tl.maximum(tl.maximum(red, green), blue)
        gain = divide(c + share, c * most + share, PTX)
        reds = reds + (clamp(gain * (red + fade * (luma - red)), zero, one),)
        greens = greens + (clamp(gain * (green + fade * (luma - green)), zero, one),)
        blues = blues + (clamp(gain * (blue + fade * (luma - blue)), zero, one),)
        gains = gains + (gain,)
    return reds + greens + blues, gains


@triton.jit
def _unless_zero(c, values, others, COUNT: tl.constexpr):
    """`values`, and `others` in their place where c = 0; the latter None: 1."""
    result: tl.tuple = ()
    for j in tl.static_range(COUNT):
        result = result + (tl.where(c == 0, others[j] if len(others) > 0 else 1.0, values[j]),)
    return result


@triton.jit
def _store(
    ptr, plane, row, columns, inside, wanted, values, H, W, BYTES: tl.constexpr, VECTOR: tl.constexpr,
    COLS: tl.constexpr, N: tl.constexpr, CHANNELS: tl.constexpr = 3, ROUND: tl.constexpr = False,
):  # fmt: skip
    """Writes the own columns of a row, channel by channel; bytes are 255 times the value, truncated unless ROUND."""
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


# Exposures may be a view of those of other images: their address is not worth a compilation of its own.
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
        W = W // 4 * 4  # tells the compiler that rows begin where vectors may
    image, top, left = strip_position(H, W, march, BANDS, STRIPS, COLS)
    columns, inside = _columns(left, W, COLS, VECTOR)
    plane = H.to(tl.int64) * W
    x_ptr += image * 3 * plane
    result_ptr += image * 3 * plane
    light_ptr += image * 3 * plane
    gain_ptr += image * plane
    c = tl.load(exposure_ptr + image) if EXPOSED else tl.full([], 0.0, ACC)
    f_older = _biases(WEIGHTS, 0, COLS + 4, N, ACC)
    f_newer = _biases(WEIGHTS, 0, COLS + 4, N, ACC)
    g_older = _biases(WEIGHTS, 1, COLS + 2, N, ACC)
    g_newer = _biases(WEIGHTS, 1, COLS + 2, N, ACC)
    z_older = _biases(WEIGHTS, 2, COLS, N, ACC)
    z_newer = _biases(WEIGHTS, 2, COLS, N, ACC)
    f_above = _biases(WEIGHTS, 0, COLS + 4, N, ACC)
    for step in range(0, march + 6):
        row = top + step - 3
        x = _image_row(x_ptr, plane, row, columns, inside, H, W, 3, BYTES, VECTOR, COLS, N, ACC)
        f, f_older, f_newer = _advance(f_older, f_newer, x, H, WEIGHTS, 0, COLS + 4, PTX, N, ACC)
        f = _features(f, f, row - 1, left, H, W, 2, COLS, False)
        g, g_older, g_newer = _advance(g_older, g_newer, f, H, WEIGHTS, 1, COLS + 2, PTX, N, ACC)
        g = _features(g, f_above, row - 2, left, H, W, 1, COLS, True)
        f_above = f
        z, z_older, z_newer = _advance(z_older, z_newer, g, H, WEIGHTS, 2, COLS, PTX, N, ACC)
        # The first rows are incomplete: what they lack lies above the march.
        row = row - 3
        wanted = (row >= top) & (row < H) & (left < W)
        x = _image_row(x_ptr, plane, row, columns, inside, H, W, 0, BYTES, VECTOR, COLS, N, ACC)
        light = _illuminate(z, x, LOW, HIGH, COLS, PTX, ACC)
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
    """Result, and illumination and gain if asked for, contiguous; the first two in the image's dtype.

    `weights` are the 252 packed ones in order, `black` is their illumination of black.
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
