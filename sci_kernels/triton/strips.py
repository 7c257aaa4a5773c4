"""Four pixels a thread: where they lie, and what lies around them.

A thread owns a strip of 4 consecutive pixels of a row. It reads a row of a plane as three vectors of 4 (16 bytes in
float32), at columns -4, 0 and +4 from its own. The strip shifted by dx is then put together from columns that the
thread already holds: nothing moves between threads, registers are renamed, and a loaded pixel serves every pixel of
the strip that it neighbours.
"""

import triton
import triton.language as tl


@triton.jit
def strip_position(H, W, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """This program's image, top row and left column on a one-dimensional grid over images and tiles, and whether
    everything within 2 rows and 4 columns of its tile is inside the image."""
    tiles_w = tl.cdiv(W, BLOCK_W)
    tiles_h = tl.cdiv(H, BLOCK_H)
    pid = tl.program_id(0)
    image = (pid // (tiles_h * tiles_w)).to(tl.int64)
    rest = pid % (tiles_h * tiles_w)
    top = (rest // tiles_w) * BLOCK_H
    left = (rest % tiles_w) * BLOCK_W
    interior = (top >= 2) & (top + BLOCK_H + 2 <= H) & (left >= 4) & (left + BLOCK_W + 4 <= W)
    return image, top, left, interior


@triton.jit
def strip_offsets(BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """Row [N, 1] and columns [N, 4] of each thread's strip within the tile; N = BLOCK_H * BLOCK_W / 4."""
    thread = tl.arange(0, BLOCK_H * BLOCK_W // 4)[:, None]
    return thread // (BLOCK_W // 4), thread % (BLOCK_W // 4) * 4 + tl.arange(0, 4)[None, :]


@triton.jit
def load_strip(ptr, offsets, mask, MASKED: tl.constexpr, ACC: tl.constexpr):
    """[N, 4] in ACC, 0 where masked."""
    if MASKED:
        return tl.load(ptr + offsets, mask=mask, other=0.0).to(ACC)
    else:
        return tl.load(ptr + offsets).to(ACC)


@triton.jit
def store_strip(ptr, offsets, mask, value, MASKED: tl.constexpr):
    """Writes [N, 4] in the pointer's dtype, but for what is masked."""
    if MASKED:
        tl.store(ptr + offsets, value, mask=mask)
    else:
        tl.store(ptr + offsets, value)


@triton.jit
def load_strips(
    ptr, offsets, plane, row_inside, columns, W,
    CHANNELS: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """For each channel the vectors at columns -4, 0 and +4: a tuple of 3 CHANNELS tensors [N, 4]."""
    result = ()
    for channel in tl.static_range(CHANNELS):
        for shift in tl.static_range(-4, 8, 4):
            inside = row_inside & (columns + shift >= 0) & (columns + shift < W)
            result = result + (load_strip(ptr + channel * plane, offsets + shift, inside, MASKED, ACC),)
    return result


@triton.jit
def _split(x, N: tl.constexpr):
    """The columns of [N, 4] as four [N]."""
    even, odd = tl.split(tl.reshape(x, [N, 2, 2]))
    c0, c2 = tl.split(even)
    c1, c3 = tl.split(odd)
    return c0, c1, c2, c3


@triton.jit
def _join(c0, c1, c2, c3, N: tl.constexpr):
    """Four [N] as the columns of [N, 4]."""
    return tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), [N, 4])


@triton.jit
def shifted(left, own, right, N: tl.constexpr):
    """The strip shifted by dx = -2 ... 2, from the vectors at columns -4, 0 and +4."""
    _, _, a, b = _split(left, N)
    c, d, e, f = _split(own, N)
    g, h, _, _ = _split(right, N)
    return (_join(a, b, c, d, N), _join(b, c, d, e, N), own, _join(d, e, f, g, N), _join(e, f, g, h, N))
