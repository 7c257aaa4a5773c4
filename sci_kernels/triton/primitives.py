"""Device functions of the kernels, the level of PTX they may use, and how scalars reach them."""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from .config import INTERPRETED

# Triton's name for the dtype that arithmetic is done in.
ACC = {torch.float32: tl.float32, torch.float64: tl.float64}

LOG2_E = tl.constexpr(1.4426950408889634)

# Scales a weight below any difference of illuminations worth the name (1e-18), exactly; see `signed`.
TINY = tl.constexpr(2.0**-60)

# Names of the loss kernels' scalar arguments, the incoming gradient among them, which may be a view into anything: none
# of their values or addresses is worth a compilation of its own.
SCALARS = [
    "grad_loss_ptr",
    "u00", "u01", "u02", "u11", "u12", "u22", "row_ratio1", "row_ratio2", "column_ratio1", "column_ratio2",
    "pair_factor", "fidelity_factor", "H", "W", "march",
]  # fmt: skip


def scalar_bits(value: float, dtype: torch.dtype) -> int:
    """The bits of a scalar argument in `dtype`, for `scalar`: a float would reach the kernel rounded to float32."""
    single = dtype == torch.float32
    return int.from_bytes(struct.pack("<f" if single else "<d", value), "little", signed=True)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor contiguous, at an address that vectors may begin at: a copy where it is not."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.storage_offset() * tensor.element_size() % 16 else tensor


@triton.jit
def scalar(bits, ACC: tl.constexpr):
    """The number that `scalar_bits` was given. An argument of the kernel, it costs no register."""
    if tl.float32 == ACC:
        return bits.to(tl.int32).to(tl.float32, bitcast=True)
    else:
        return bits.to(tl.int64).to(tl.float64, bitcast=True)


def ptx_level(x: Tensor, dtype: torch.dtype) -> int:
    """0: plain Triton (float64, ROCm, interpreted); 1: NVIDIA; 2: NVIDIA from sm_86 on."""
    if dtype != torch.float32 or not x.is_cuda or torch.version.hip or INTERPRETED:
        return 0
    return 2 if torch.cuda.get_device_capability(x.device) >= (8, 6) else 1


@triton.jit
def exp2(x, PTX: tl.constexpr):
    """2^x; one instruction on NVIDIA, where the general one guards results below 2^-126, which are 0 here."""
    if PTX >= 1:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def clamp(x, low, high):
    """PTX min and max drop a NaN unless told otherwise."""
    return tl.clamp(x, low, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def signed(magnitude, xs, COUNT: tl.constexpr, PTX: tl.constexpr):
    """magnitude * sign(x) for each x, sign(0) = 0, for a magnitude >= 0; NaN where either is NaN.

    At level 2 it is the smaller of magnitude and |x| with the sign of x: two instructions fewer, and the same as
    long as 0 < |x| < magnitude does not occur. The caller sees to that by scaling the magnitude by TINY.
    """
    result: tl.tuple = ()
    for k in tl.static_range(COUNT):
        x = xs[k]
        if PTX >= 2:
            value = tl.inline_asm_elementwise(
                "min.NaN.xorsign.abs.f32 $0, $1, $2;", "=f,f,f", [x, magnitude], dtype=tl.float32, is_pure=True, pack=1
            )
        elif x.dtype == tl.float32:
            # The sign bit of x on the magnitude; where x has no sign, 0 or NaN.
            bits = magnitude.to(tl.int32, bitcast=True) | (x.to(tl.int32, bitcast=True) & -0x80000000)
            value = tl.where((x > 0) | (x < 0), bits.to(tl.float32, bitcast=True), x * magnitude)
        else:
            value = tl.where(x > 0, magnitude, tl.where(x < 0, -magnitude, x * magnitude))
        result = result + (value,)
    return result


@triton.jit
def in_order(x):
    """x itself, opaque to LLVM; for NVIDIA.

    Sums that pass through it are added up in the order written. Otherwise LLVM makes vectors of operations on
    neighboring columns, which no NVIDIA GPU has, takes them apart again, and leaves an order in which twice as many
    values are alive as there are registers.
    """
    return tl.inline_asm_elementwise("mov.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def divide(a, b, PTX: tl.constexpr, ROUNDED: tl.constexpr = True):
    """a / b rounded to nearest (`/` on float32 is approximate in PTX), or to 2 units in the last place if not ROUNDED.

    On NVIDIA the remainder of the approximate quotient corrects it, in 4 instructions where IEEE division takes 8 and a
    branch: exact but for about one in a million adversarial pairs, for a normal b, |a| > 2^-100 and a finite quotient;
    where that is infinite the result is NaN.
    """
    if PTX >= 1:
        reciprocal = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [b], dtype=tl.float32, is_pure=True, pack=1
        )
        quotient = a * reciprocal
        if ROUNDED:
            # Both fused, as launches ask for: fma with a negated argument would cost an instruction to negate it.
            quotient = (a - quotient * b) * reciprocal + quotient
        return quotient
    elif a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def reciprocal(b, PTX: tl.constexpr):
    """1 / b rounded to nearest; on NVIDIA nearly always, and for a normal b, in 3 instructions.

    a times it is a / b to a unit in the last place. Unlike `divide`, it leaves an infinite a, or one whose quotient
    overflows, infinite.
    """
    if PTX >= 1:
        approximate = divide(tl.full([], 1.0, tl.float32), b, PTX, ROUNDED=False)
        # Both fused, as launches ask for.
        return approximate - (b * approximate - 1.0) * approximate
    elif b.dtype == tl.float32:
        return tl.div_rn(tl.full(b.shape, 1.0, tl.float32), b)
    else:
        return 1.0 / b


@triton.jit
def sigmoid(x, PTX: tl.constexpr, ACC: tl.constexpr):
    """1 / (1 + e^-x), to 2 units in the last place and the rounding of x log2(e)."""
    one = tl.full([], 1.0, ACC)
    return divide(one, one + exp2(x * -LOG2_E, PTX), PTX, ROUNDED=False)


@triton.jit
def load_block(ptr, mask, MASKED: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """BLOCK consecutive elements in ACC, 0 where masked."""
    if MASKED:
        return tl.load(ptr + tl.arange(0, BLOCK), mask=mask, other=0.0).to(ACC)
    else:
        return tl.load(ptr + tl.arange(0, BLOCK)).to(ACC)


@triton.jit
def store_block(ptr, value, mask, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """Writes BLOCK consecutive elements in the pointer's dtype, but for what is masked."""
    if MASKED:
        tl.store(ptr + tl.arange(0, BLOCK), value, mask=mask)
    else:
        tl.store(ptr + tl.arange(0, BLOCK), value)


def tensor_cores(x: Tensor) -> bool:
    """Whether products on the tensor's device are those of `fragments`, on NVIDIA's tensor cores; from sm_80 on."""
    if not x.is_cuda or INTERPRETED:
        return False
    if torch.version.hip or torch.cuda.get_device_capability(x.device) < (8, 0):
        raise RuntimeError("convolutions by Triton need tensor cores that take float32: an NVIDIA GPU from sm_80 on")
    return True
