"""Device functions with more than one caller.

Scalar arguments of kernels are annotated float64: Triton would round a Python float to float32 otherwise. Inside,
`tl.full([], scalar, ACC)` brings them to the arithmetic's dtype, compiled or interpreted.
"""

import triton
import triton.language as tl


@triton.jit
def load_pixel(ptr, offsets, mask, plane, CHANNELS: tl.constexpr, ACC: tl.constexpr):
    """The three channels at `offsets`, in ACC; zeros stand for the channels of a grey image."""
    c0 = tl.load(ptr + offsets, mask=mask, other=0.0).to(ACC)
    if CHANNELS == 3:
        c1 = tl.load(ptr + plane + offsets, mask=mask, other=0.0).to(ACC)
        c2 = tl.load(ptr + 2 * plane + offsets, mask=mask, other=0.0).to(ACC)
    else:
        c1 = tl.zeros_like(c0)
        c2 = tl.zeros_like(c0)
    return c0, c1, c2


@triton.jit
def store_pixel(ptr, offsets, mask, plane, c0, c1, c2, CHANNELS: tl.constexpr):
    """Writes the three channels, or the first of a grey image, in the pointer's dtype."""
    tl.store(ptr + offsets, c0, mask=mask)
    if CHANNELS == 3:
        tl.store(ptr + plane + offsets, c1, mask=mask)
        tl.store(ptr + 2 * plane + offsets, c2, mask=mask)


@triton.jit
def tile(H, W, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """This program's image, top row and left column on a one-dimensional grid over images and tiles."""
    tiles_w = tl.cdiv(W, BLOCK_W)
    tiles_h = tl.cdiv(H, BLOCK_H)
    pid = tl.program_id(0)
    image = pid // (tiles_h * tiles_w)
    rest = pid % (tiles_h * tiles_w)
    return image.to(tl.int64), (rest // tiles_w) * BLOCK_H, (rest % tiles_w) * BLOCK_W


@triton.jit
def divide(a, b):
    """IEEE division: `/` on float32 is approximate in PTX."""
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def signed(magnitude, x):
    """magnitude * sign(x), with sign(0) = 0."""
    return tl.where(x > 0, magnitude, tl.where(x < 0, -magnitude, 0.0))
