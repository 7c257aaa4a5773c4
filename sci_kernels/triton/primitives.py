"""Arithmetic that the kernels share, the PTX instructions that they may use for it, and how scalars reach them.

PTX is the level that `ptx_level` returns: 0 for plain Triton, 1 and 2 for inline assembly. A function's plain branch is
also what is interpreted. `is_pure` assembly may be moved and merged by the compiler like any arithmetic.
"""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from .config import INTERPRETED

# The dtype of the arithmetic, as Triton's.
ACC = {torch.float32: tl.float32, torch.float64: tl.float64}

LOG2_E = tl.constexpr(1.4426950408889634)

# Scales a weight, without rounding, below all differences of illuminations that matter (1e-18); see `signed`.
TINY = tl.constexpr(2.0**-60)

# The loss kernels' scalar arguments, for `do_not_specialize`: no value of theirs is worth a compilation of its own, nor
# is the alignment of the incoming gradient, which may be a view into any tensor.
SCALARS = [
    "grad_loss_ptr",
    "u00", "u01", "u02", "u11", "u12", "u22", "row_ratio1", "row_ratio2", "column_ratio1", "column_ratio2",
    "pair_factor", "fidelity_factor", "H", "W", "march",
]  # fmt: skip


def scalar_bits(value: float, dtype: torch.dtype) -> int:
    """The bits of a number in `dtype`, to be passed as an integer: as a float it would be rounded to float32."""
    single = dtype == torch.float32
    return int.from_bytes(struct.pack("<f" if single else "<d", value), "little", signed=True)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that is contiguous and begins at a multiple of 16 bytes, as vectors must."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.storage_offset() * tensor.element_size() % 16 else tensor


@triton.jit
def scalar(bits, ACC: tl.constexpr):
    """The number that `scalar_bits` was given. As it is an argument of the kernel, it occupies no register."""
    if tl.float32 == ACC:
        return bits.to(tl.int32).to(tl.float32, bitcast=True)
    else:
        return bits.to(tl.int64).to(tl.float64, bitcast=True)


def ptx_level(x: Tensor, dtype: torch.dtype) -> int:
    """0: plain Triton (float64, ROCm, or interpreted); 1: PTX of any NVIDIA GPU; 2: PTX from sm_86 on."""
    if dtype != torch.float32 or not x.is_cuda or torch.version.hip or INTERPRETED:
        return 0
    return 2 if torch.cuda.get_device_capability(x.device) >= (8, 6) else 1


@triton.jit
def exp2(x, PTX: tl.constexpr):
    """2^x. On NVIDIA one instruction, which gives 0 for results below 2^-126; Triton's takes more to avoid that."""
    if PTX >= 1:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def clamp(x, low, high):
    """x within [low, high]; NaN stays NaN, which PTX min and max drop unless told otherwise."""
    return tl.clamp(x, low, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def signed(magnitude, xs, COUNT: tl.constexpr, PTX: tl.constexpr):
    """magnitude * sign(x) for each x, sign(0) = 0, for a magnitude >= 0; NaN where either is NaN.

    At level 2 it is the smaller of magnitude and |x|, with the sign of x: two instructions fewer, and the same unless
    0 < |x| < magnitude. To exclude that, the caller scales the magnitude by TINY, and the result back.
    """
    result: tl.tuple = ()
    for k in tl.static_range(COUNT):
        x = xs[k]
        if PTX >= 2:
            value = tl.inline_asm_elementwise(
                "min.NaN.xorsign.abs.f32 $0, $1, $2;", "=f,f,f", [x, magnitude], dtype=tl.float32, is_pure=True, pack=1
            )
        elif x.dtype == tl.float32:
            # The magnitude with the sign bit of x; where x is 0 or NaN, the product.
            bits = magnitude.to(tl.int32, bitcast=True) | (x.to(tl.int32, bitcast=True) & -0x80000000)
            value = tl.where((x > 0) | (x < 0), bits.to(tl.float32, bitcast=True), x * magnitude)
        else:
            value = tl.where(x > 0, magnitude, tl.where(x < 0, -magnitude, x * magnitude))
        result = result + (value,)
    return result


@triton.jit
def in_order(x):
    """x itself, in a form that LLVM does not see through; for NVIDIA.

    Sums that pass through it are computed in the order written. Otherwise LLVM combines operations on neighboring
    columns to vector operations, which no NVIDIA GPU has. Taken apart again, they leave an order in which twice as many
    values are alive as there are registers.
    """
    return tl.inline_asm_elementwise("mov.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def divide(a, b, PTX: tl.constexpr, ROUNDED: tl.constexpr = True):
    """a / b rounded to nearest (`/` on float32 is approximate in PTX), or to 2 units in the last place if not ROUNDED.

    On NVIDIA the approximate quotient is corrected by its remainder, in 4 instructions; IEEE division takes 8 and a
    branch. For a normal b, |a| > 2^-100 and a finite quotient, the result is wrong in the last place for about one in a
    million adversarial pairs. For an infinite quotient it is NaN.
    """
    if PTX >= 1:
        reciprocal = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [b], dtype=tl.float32, is_pure=True, pack=1
        )
        quotient = a * reciprocal
        if ROUNDED:
            # Two fused multiply-adds, by `config.FUSED`. With tl.fma, negating an argument would cost an instruction.
            quotient = (a - quotient * b) * reciprocal + quotient
        return quotient
    elif a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def reciprocal(b, PTX: tl.constexpr):
    """1 / b rounded to nearest. On NVIDIA, in 3 instructions: nearly always, and for a normal b.

    a times the result is a / b within a unit in the last place. Unlike the result of `divide`, it is infinite if a is,
    or if the quotient overflows.
    """
    if PTX >= 1:
        approximate = divide(tl.full([], 1.0, tl.float32), b, PTX, ROUNDED=False)
        # Two fused multiply-adds, by `config.FUSED`.
        return approximate - (b * approximate - 1.0) * approximate
    elif b.dtype == tl.float32:
        return tl.div_rn(tl.full(b.shape, 1.0, tl.float32), b)
    else:
        return 1.0 / b


@triton.jit
def sigmoid(x, PTX: tl.constexpr, ACC: tl.constexpr):
    """1 / (1 + e^-x), within 2 units in the last place besides the rounding of x log2(e)."""
    one = tl.full([], 1.0, ACC)
    return divide(one, one + exp2(x * -LOG2_E, PTX), PTX, ROUNDED=False)


@triton.jit
def load_block(ptr, mask, MASKED: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """BLOCK consecutive elements as ACC; with MASKED, 0 where the mask is false."""
    if MASKED:
        return tl.load(ptr + tl.arange(0, BLOCK), mask=mask, other=0.0).to(ACC)
    else:
        return tl.load(ptr + tl.arange(0, BLOCK)).to(ACC)


@triton.jit
def store_block(ptr, value, mask, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """Writes BLOCK consecutive elements in the pointer's dtype; with MASKED, only where the mask is true."""
    if MASKED:
        tl.store(ptr + tl.arange(0, BLOCK), value, mask=mask)
    else:
        tl.store(ptr + tl.arange(0, BLOCK), value)


def tensor_cores(x: Tensor) -> bool:
    """Whether convolutions run on tensor cores: if not interpreted. RuntimeError for a GPU that has none that fit."""
    if not x.is_cuda or INTERPRETED:
        return False
    if torch.version.hip or torch.cuda.get_device_capability(x.device) < (8, 0):
        raise RuntimeError("convolutions by Triton need tensor cores that take float32: an NVIDIA GPU from sm_80 on")
    return True
