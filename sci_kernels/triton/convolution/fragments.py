"""Products of small matrices by the tensor cores of NVIDIA GPUs, their operands in registers as PTX lays them out.

A warp's 32 threads share a 16 x K matrix A, a K x 8 matrix B and a 16 x 8 matrix C, K being 8 or 4. Thread 4 g + t has

    A   rows g and g + 8 of column t, then of column t + 4          4 numbers, 2 where K = 4
    B   rows t and t + 4 of column g                                2 numbers, 1
    C   columns 2 t and 2 t + 1 of row g, then of row g + 8         4 numbers

each a tensor [T] of T threads. Which pixel or channel a row or column stands for is the kernel's choice: chosen so that
a thread's numbers lie side by side in memory, operands are read as they are needed, without shared memory.

Tensor cores read 11 digits of a float32 (TF32). PRECISION "tf32" rounds operands to those; "tf32x3" takes a number
apart into two such, high + low, and adds three products, all but that of both lows: an error of 2^-22 or so. "exact"
takes operands as they are: half precision fits in TF32, and plain arithmetic needs no rounding.

A tensor core cuts its sums off instead of rounding them. Where that is not to show, sums are short: the products with
lows come first, while the sum is small, and what was summed is added to the rest by an ordinary addition.
"""

import triton
import triton.language as tl


@triton.jit
def high(x, PRECISION: tl.constexpr):
    """What of a float32 a tensor core reads, rounded to nearest."""
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
    """The rest of each number, exact; () where it is not wanted."""
    result: tl.tuple = ()
    if PRECISION == "tf32x3":
        for i in tl.static_range(len(xs)):
            result = result + (xs[i] - high(xs[i], PRECISION),)
    return result


@triton.jit
def multiply(a, b, c, PTX: tl.constexpr):
    """A B + C"""
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
    """The same in ordinary arithmetic, every 32 threads of [T] a warp."""
    if K == 8:
        # Their axes: g, t, which 8 rows, which 4 columns.
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
    """The sum of the products of the pairs in a and b, added to c; see the module's docstring for its order."""
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
