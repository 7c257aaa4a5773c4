"""Products of small matrices on the tensor cores of NVIDIA GPUs, with operands in registers in the layout of PTX.

A warp's 32 threads share a 16 x K matrix A, a K x 8 matrix B and a 16 x 8 matrix C, K being 8 or 4. Thread 4 g + t has

    A   rows g and g + 8 of column t, then of column t + 4          4 numbers, 2 where K = 4
    B   rows t and t + 4 of column g                                2 numbers, 1
    C   columns 2 t and 2 t + 1 of row g, then of row g + 8         4 numbers

each number a tensor [T], one for each of T threads. Which pixel or channel a row or column stands for is the kernel's
choice. If the numbers of a thread are consecutive in memory, operands are loaded directly, without shared memory.

Tensor cores read 11 bits of the significand of a float32 (TF32). PRECISION "tf32" rounds operands to these; "tf32x3"
splits a number into the sum of two such, high + low, and adds three products, all but that of both low parts, with an
error of about 2^-22. "exact" takes operands as they are: half precision fits in TF32, and ordinary arithmetic, which is
used where kernels are interpreted, needs no rounding.

A tensor core truncates its sums instead of rounding them. To keep that error small, "tf32x3" keeps sums short: the
products with low parts come first, while the sum is small, and the sum is added to the rest by an ordinary addition.
"""

import triton
import triton.language as tl


@triton.jit
def high(x, PRECISION: tl.constexpr):
    """A float32 rounded to TF32, to nearest."""
    if PRECISION == "exact":
        return x
    else:
        return ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def highs(xs, PRECISION: tl.constexpr):
    result: tl.tuple = ()
    for i in tl.static_range(len(xs)):
        result = result + (high(xs[i], PRECISION),)
    return result


@triton.jit
def lows(xs, PRECISION: tl.constexpr):
    """x - high(x) of each number, which is exact; () unless PRECISION needs it."""
    result: tl.tuple = ()
    if PRECISION == "tf32x3":
        for i in tl.static_range(len(xs)):
            result = result + (xs[i] - high(xs[i], PRECISION),)
    return result


@triton.jit
def multiply(a, b, c, PTX: tl.constexpr):
    """A B + C, with K = 8 or 4 by the number of operands."""
    if not PTX:
        return _multiply_plainly(a, b, c, a[0].shape[0] // 32, 4 * len(b))
    elif len(b) == 2:
        return tl.inline_asm_elementwise(
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};",
            "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
            [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], c[2], c[3]],
            dtype=(tl.float32, tl.float32, tl.float32, tl.float32),
            is_pure=True,
            pack=1,
        )
    else:
        return tl.inline_asm_elementwise(
            "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {$0,$1,$2,$3}, {$4,$5}, {$6}, {$7,$8,$9,$10};",
            "=f,=f,=f,=f,r,r,r,f,f,f,f",
            [a[0], a[1], b[0], c[0], c[1], c[2], c[3]],
            dtype=(tl.float32, tl.float32, tl.float32, tl.float32),
            is_pure=True,
            pack=1,
        )


@triton.jit
def _multiply_plainly(a, b, c, WARPS: tl.constexpr, K: tl.constexpr):
    """The same in ordinary arithmetic; each 32 elements of a tensor [T] are a warp."""
    if K == 8:
        # Axes after the warp: g, t, half of the rows (left alone), half of K.
        left = tl.reshape(tl.join(tl.join(a[0], a[1]), tl.join(a[2], a[3])), [WARPS, 8, 4, 2, 2])
        right = tl.reshape(tl.join(b[0], b[1]), [WARPS, 8, 4, 2])
        left = tl.reshape(tl.permute(left, [0, 3, 1, 4, 2]), [WARPS, 16, K])
        right = tl.reshape(tl.permute(right, [0, 3, 2, 1]), [WARPS, K, 8])
    else:
        left = tl.reshape(tl.permute(tl.reshape(tl.join(a[0], a[1]), [WARPS, 8, 4, 2]), [0, 3, 1, 2]), [WARPS, 16, K])
        right = tl.permute(tl.reshape(b[0], [WARPS, 8, 4]), [0, 2, 1])
    product = tl.sum(left[:, :, :, None] * right[:, None, :, :], 2)  # [WARPS, 16, 8]
    product = tl.permute(tl.reshape(product, [WARPS, 2, 8, 4, 2]), [0, 2, 3, 1, 4])
    even, odd = tl.split(product)
    even = tl.split(tl.reshape(even, [WARPS * 32, 2]))
    odd = tl.split(tl.reshape(odd, [WARPS * 32, 2]))
    return (c[0] + even[0], c[1] + odd[0], c[2] + even[1], c[3] + odd[1])


@triton.jit
def multiply_several(a, a_low, b, b_low, c, PRECISION: tl.constexpr, PTX: tl.constexpr):
    """c plus the products of the matrices in a with those in b; for the order see the module's docstring."""
    if PRECISION == "tf32x3":
        total = (tl.zeros_like(c[0]), tl.zeros_like(c[0]), tl.zeros_like(c[0]), tl.zeros_like(c[0]))
        for i in tl.static_range(len(a)):
            total = multiply(a_low[i], b[i], total, PTX)
            total = multiply(a[i], b_low[i], total, PTX)
    else:
        total = c
    for i in tl.static_range(len(a)):
        total = multiply(a[i], b[i], total, PTX)
    if PRECISION == "tf32x3":
        total = (c[0] + total[0], c[1] + total[1], c[2] + total[2], c[3] + total[3])
    return total
