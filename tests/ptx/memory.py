"""Memory that knows what may be accessed, what has been written, and by whom."""

import numpy as np


class Fault(Exception):
    """What a GPU would not have done as meant."""

    access = 0  # of an instruction's accesses, which was wrong


class _Bytes:
    """Bytes with a note of which may be accessed, which have been written, and by whom (owner + 1; -1: several)."""

    def __init__(self, size: int):
        self.data = np.full(size, 0xFF, np.uint8)
        self.allocated = np.zeros(size, bool)
        self.written = np.zeros(size, bool)
        self.writer = np.zeros(size, np.int32)
        self.reader = np.zeros(size, np.int32)

    def _check(self, wrong: np.ndarray, what: str, at: np.ndarray) -> None:
        if wrong.any():
            fault = Fault(what)
            fault.access = int(np.flatnonzero(wrong.reshape(len(at), -1).any(1))[0])
            raise fault

    def load(self, at: np.ndarray, size: int, owner: np.ndarray) -> np.ndarray:
        """(accesses, size) bytes from the places `at`."""
        where = at[:, None] + np.arange(size)
        self._check(~self.allocated[where], "reads outside every tensor", at)
        self._check(~self.written[where], "reads what nobody has written", at)
        me = (owner + 1)[:, None]
        writer = self.writer[where]
        self._check((writer != 0) & (writer != me), "reads what another thread writes (a race)", at)
        before = self.reader[where]
        now = np.where((before == 0) | (before == me), me, -1)
        self.reader[where] = now
        clash = self.reader[where] != now
        if clash.any():
            self.reader[where[clash]] = -1
        return self.data[where]

    def store(self, at: np.ndarray, values: np.ndarray, owner: np.ndarray) -> None:
        where = at[:, None] + np.arange(values.shape[1])
        self._check(~self.allocated[where], "writes outside every tensor", at)
        me = np.broadcast_to((owner + 1)[:, None], where.shape)
        reader, writer = self.reader[where], self.writer[where]
        self._check((reader != 0) & (reader != me), "writes what another thread reads (a race)", at)
        different = self.data[where] != values
        self._check((writer != 0) & (writer != me) & different, "writes what another thread wrote (a race)", at)
        self.data[where] = values
        self.written[where] = True
        self.writer[where] = me
        self._check(self.data[where] != values, "is written by two threads at once (a race)", at)


class GlobalMemory(_Bytes):
    """Storages of so many bytes each, with nothing between them; closed until allowed."""

    BASE, GUARD = 0x7F4200000000, 4096

    def __init__(self, storages: list[int]):
        self.starts, size = [], self.GUARD
        for nbytes in storages:
            self.starts.append(size)
            size += -(-nbytes // 512) * 512 + self.GUARD
        super().__init__(size)

    def allow(self, place: slice, contents: np.ndarray, written: np.ndarray) -> None:
        """Makes a tensor accessible; `written` tells which of its bytes have contents."""
        self.data[place] = contents
        self.allocated[place] = True
        self.written[place] |= written

    def places(self, address: np.ndarray, size: int) -> np.ndarray:
        at = (address - np.uint64(self.BASE)).view(np.int64)
        self._check(address % np.uint64(size) != 0, f"is not aligned to its {size} bytes", at)
        self._check((at < 0) | (at + size > len(self.data)), "is far outside every tensor", at)
        return at


class SharedMemory(_Bytes):
    """The shared memory of the programs of a batch; its owners are warps, and barriers clear them."""

    def __init__(self, programs: int, size: int):
        super().__init__(programs * size)
        self.size = size
        self.allocated[:] = True
        self.barrier(slice(None))

    def places(self, address: np.ndarray, size: int, program: np.ndarray) -> np.ndarray:
        address = address.astype(np.int64)
        self._check(address % size != 0, f"is not aligned to its {size} bytes", address)
        self._check(address + size > self.size, "is outside shared memory", address)
        return program * self.size + address

    def barrier(self, programs) -> None:
        for notes in (self.writer, self.reader):
            notes.reshape(-1, max(self.size, 1))[programs] = 0
