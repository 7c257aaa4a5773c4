"""Execution of PTX: all threads of many programs at once, each virtual register one numpy array of lanes.

A lane is a thread of a program; lanes are independent but for shuffles, barriers and memory. Each has its own block to
execute next; those at the lowest block run together under a mask, so diverged lanes meet again where code lies in
order, as compilers lay it out.
"""

import numpy as np

from tests.ptx.instructions import WARP, Builder
from tests.ptx.memory import Fault, GlobalMemory, SharedMemory
from tests.ptx.parse import Kernel

LANES = 16384  # executed at once, in whole programs


class _Registers(dict):
    def __missing__(self, name):
        raise Fault(f"reads {name}, which was never written")


class _Batch:
    """Whole programs, all their threads."""

    def __init__(self, kernel: Kernel, first: int, programs: int, grid: int, params, memory, shared: int):
        self.lanes = programs * kernel.threads
        self.registers, self.params, self.memory = _Registers(), params, memory
        self.mask: np.ndarray | None = None
        self.thread = np.tile(np.arange(kernel.threads, dtype=np.uint32), programs)
        self.program = np.repeat(np.arange(programs), kernel.threads)
        self.threads = kernel.threads
        number = (first + self.program).astype(np.uint32)
        self.owner = ((first * kernel.threads + np.arange(self.lanes)) % (2**31 - 2)).astype(np.int32)
        self.shared = SharedMemory(programs, shared)
        self.special = {"%tid.x": self.thread, "%ctaid.x": number, "%nctaid.x": np.full(1, grid, np.uint32)}

    def put(self, name: str, value: np.ndarray) -> None:
        if value.shape[0] != self.lanes:
            value = np.broadcast_to(value, (self.lanes,))
        if self.mask is not None:
            old = self.registers.get(name)
            if old is None:  # lanes that are elsewhere have not written it: all ones, a NaN
                old = True if value.dtype == bool else np.full(value.itemsize, 0xFF, np.uint8).view(value.dtype)
            value = np.where(self.mask, value, old)
        self.registers[name] = np.ascontiguousarray(value)

    def param(self, name: str, offset: int, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(self.params[name], dtype, 1, offset)

    def _access(self, space: str, address: np.ndarray, offset: int, size: int, store: np.ndarray | None = None):
        """Reads `size` bytes for each active lane, or writes those in `store`."""
        active = slice(None) if self.mask is None else np.flatnonzero(self.mask)
        address = np.broadcast_to(address, (self.lanes,))[active]
        address = address + address.dtype.type(offset % 2 ** (8 * address.itemsize))
        try:
            if space == "global":
                memory, places, owner = self.memory, self.memory.places(address, size), self.owner[active]
            else:
                places = self.shared.places(address, size, self.program[active])
                memory, owner = self.shared, self.owner[active] // WARP
            return memory.load(places, size, owner) if store is None else memory.store(places, store[active], owner)
        except Fault as error:
            lane = np.arange(self.lanes)[active][error.access]
            where = f"program {self.special['%ctaid.x'][lane]}, thread {self.thread[lane]}"
            raise Fault(f"{error} ({where}, address 0x{int(address[error.access]):x})") from None

    def load(self, space: str, address: np.ndarray, offset: int, dtype: np.dtype, count: int) -> np.ndarray:
        """(lanes, count) values."""
        found = self._access(space, address, offset, dtype.itemsize * count).view(dtype)
        if self.mask is None:
            return found
        values = np.zeros((self.lanes, count), dtype)
        values[self.mask] = found
        return values

    def store(self, space: str, address: np.ndarray, offset: int, sources: list[np.ndarray], dtype: np.dtype) -> None:
        values = np.stack([np.broadcast_to(source, (self.lanes,)) for source in sources], 1)
        self._access(space, address, offset, dtype.itemsize * len(sources), values.view(np.uint8))

    def require_whole(self, size: int, what: str) -> None:
        if self.mask is not None:
            whole = self.mask.reshape(-1, size)
            if (whole.any(1) != whole.all(1)).any():
                raise Fault(f"{what} that only some of its {size} threads reach")

    def barrier(self) -> None:
        self.require_whole(self.threads, "a barrier")
        self.shared.barrier(slice(None) if self.mask is None else self.mask.reshape(-1, self.threads).any(1))


def run(kernel: Kernel, grid: int, params: list[bytes], memory: GlobalMemory, shared: int, programs: range) -> None:
    """Executes `programs` of a grid, by their numbers; changes `memory`. `shared`: bytes of dynamic shared memory."""
    sizes = [size for _, size in kernel.params]
    if [len(value) for value in params] != sizes:
        raise Fault(f"{kernel.name} takes parameters of {sizes} bytes; given {[len(value) for value in params]}")
    named = {name: value for (name, _), value in zip(kernel.params, params, strict=True)}
    kernel.built = kernel.built or _build(kernel)
    at_once = max(1, LANES // kernel.threads)
    with np.errstate(all="ignore"):
        for first in programs[::at_once]:
            count = min(at_once, programs.stop - first)
            _run_batch(kernel, _Batch(kernel, first, count, grid, named, memory, shared))


def _build(kernel: Kernel) -> list:
    """Of each block its functions, and its jump if it ends with one."""
    builder, blocks = Builder(kernel), []
    for block in kernel.blocks:
        jump = block[-1] if block and block[-1].base in ("bra", "ret", "exit") else None
        body = block[:-1] if jump else block
        target = None
        if jump:
            target = kernel.labels[jump.operands[0]] if jump.base == "bra" else len(kernel.blocks)
        blocks.append(([(builder.build(one), one) for one in body], jump, target))
    return blocks


def _run_batch(kernel: Kernel, batch: _Batch) -> None:
    at = np.zeros(batch.lanes, np.int64)  # each lane's next block
    while True:
        block = int(at.min())
        if block >= len(kernel.built):
            return
        functions, jump, target = kernel.built[block]
        here = at == block
        batch.mask = None if here.all() else here
        for function, one in functions:
            try:
                function(batch)
            except Fault as error:
                raise Fault(f"{kernel.name}: {one.text}: {error} [{one.line}]") from None
        at[here] = block + 1
        if jump is not None:
            taken = here if jump.guard is None else here & (batch.registers[jump.guard] != jump.negated)
            at[taken] = target
