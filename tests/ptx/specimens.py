"""Kernels that the executor is tested with, and calls of them that it has to refuse; for its own process."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .execute import run
from .memory import GlobalMemory
from .parse import parse


@triton.jit
def _add_kernel(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    tl.store(out_ptr + index, tl.load(a_ptr + index, mask=mask) + tl.load(b_ptr + index, mask=mask), mask=mask)


@triton.jit
def _sum_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    tl.store(out_ptr + tl.program_id(0), tl.sum(x))


@triton.jit
def _branching_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    step = 0
    while step < tl.program_id(0):
        x = tl.where(x > step, tl.exp2(-x), x * 2 + 1)
        step += 1
    tl.store(out_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), x)


@triton.jit
def _shifting_kernel(x_ptr, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(x_ptr + (index + 1) % BLOCK, tl.load(x_ptr + index))


@triton.jit
def _transposing_kernel(x_ptr, out_ptr, N: tl.constexpr):
    rows, columns = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + rows * N + columns)
    tl.store(out_ptr + rows * N + columns, tl.trans(x) - tl.sum(x, 1)[:, None])


def add(a: Tensor, b: Tensor, elements: int, count: int) -> Tensor:
    """The first `count` sums, in a result of so many elements; with 32-bit offsets."""
    out = torch.empty(1, 1, 1, elements)
    _add_kernel[(4,)](a, b, out, count, 256)
    return out


def add_unwritten(a: Tensor) -> Tensor:
    return add(a, torch.empty(1000), 1000, 1000)


def sums(x: Tensor, warps: int) -> Tensor:
    """Of each row, across so many warps."""
    out = torch.empty(x.shape[0])
    _sum_kernel[(x.shape[0],)](x, out, x.shape[1], num_warps=warps)
    return out


def branch(x: Tensor) -> Tensor:
    """As many rounds as the number of the row says."""
    out = torch.empty_like(x)
    _branching_kernel[(x.shape[0],)](x, out, x.shape[1])
    return out


def shift(x: Tensor) -> None:
    """Each element to the next place, while another thread reads it."""
    _shifting_kernel[(1,)](x, x.numel(), num_warps=4)


def transpose(x: Tensor) -> Tensor:
    """x^T less the sum of each row, through shared memory."""
    out = torch.empty_like(x)
    _transposing_kernel[(1,)](x, out, x.shape[0], num_warps=4)
    return out


def altered_sum(old: str, new: str, offset: int) -> None:
    """The sum of 1024 elements with something replaced in its PTX, of a tensor that begins `offset` bytes later."""
    x, out = torch.rand(1024), torch.empty(1)
    text = _sum_kernel.run(x, out, 1024, grid=(1,), warmup=True, num_warps=4).asm["ptx"]
    assert old in text
    memory = GlobalMemory([8192])
    place = slice(memory.starts[0], memory.starts[0] + 8192)
    memory.allow(place, 0, True)
    addresses = (memory.BASE + place.start + offset, memory.BASE + place.start + 8000, 0, 0)
    params = [address.to_bytes(8, "little") for address in addresses]
    run(parse(text.replace(old, new, 1)), (1, 1, 1), params, memory, 4096, range(1))
