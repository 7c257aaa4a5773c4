"""Device functions of the kernels, the level of PTX they may use, and how scalars reach them."""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

# Triton's name for the dtype that arithmetic is done in.
ACC = {torch.float32: tl.float32, torch.float64: tl.float64}

# Scales a weight below any difference of illuminations worth the name (1e-18), exactly; see `signed`.
TINY = tl.constexpr(2.0**-60)


def scalar_bits(value: float, dtype: torch.dtype) -> int:
    """The bits of a scalar argument in `dtype`, for `scalar`: a float would reach the kernel rounded to float32."""
    single = dtype == torch.float32
    return int.from_bytes(struct.pack("<f" if single else "<d", value), "little", signed=True)


@triton.jit
def scalar(bits, ACC: tl.constexpr):
    """The number that `scalar_bits` was given. An argument of the kernel, it costs no register."""
    if ACC == tl.float32:
        return bits.to(tl.int32).to(tl.float32, bitcast=True)
    else:
        return bits.to(tl.int64).to(tl.float64, bitcast=True)


def ptx_level(x: Tensor, dtype: torch.dtype) -> int:
    """0: plain Triton (float64, ROCm, interpreted); 1: NVIDIA; 2: NVIDIA from sm_86 on."""
    if dtype != torch.float32 or not x.is_cuda or torch.version.hip or triton.knobs.runtime.interpret:
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
def signed(magnitude, xs, COUNT: tl.constexpr, PTX: tl.constexpr):
    """magnitude * sign(x) for each x, sign(0) = 0, for a magnitude >= 0; NaN where either is NaN.

    At level 2 it is the smaller of magnitude and |x| with the sign of x: two instructions fewer, and the same as
    long as 0 < |x| < magnitude does not occur. The caller sees to that by scaling the magnitude by TINY.
    """
    result = ()
    for k in tl.static_range(COUNT):
        x = xs[k]
        if PTX >= 2:
            value = tl.inline_asm_elementwise(
                "min.NaN.xorsign.abs.f32 $0, $1, $2;", "=f,f,f", [x, magnitude], dtype=tl.float32, is_pure=True, pack=1
            )
        elif x.dtype == tl.float32:
            # The sign bit of x on the magnitude; x itself, which is 0 or NaN, where it has no sign.
            bits = magnitude.to(tl.int32, bitcast=True) | (x.to(tl.int32, bitcast=True) & -0x80000000)
            value = tl.where((x > 0) | (x < 0), bits.to(tl.float32, bitcast=True), x)
        else:
            value = tl.where(x > 0, magnitude, tl.where(x < 0, -magnitude, x))
        result = result + (value,)
    return result


@triton.jit
def in_order(x, PTX: tl.constexpr):
    """x itself, opaque to LLVM on NVIDIA.

    Sums that pass through it are added up in the order written. Otherwise LLVM makes vectors of operations on
    neighbouring columns, which no NVIDIA GPU has, takes them apart again, and leaves an order in which twice as many
    values are alive as there are registers.
    """
    if PTX >= 1:
        return tl.inline_asm_elementwise("mov.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    else:
        return x


@triton.jit
def divide(a, b):
    """IEEE division: `/` on float32 is approximate in PTX."""
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b
