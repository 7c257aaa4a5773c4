"""Divide a run among processes: those that torchrun starts, or the shards of a scheduler.

A hash of its relative name decides which share a file belongs to. So no process has to ask another, and no file is
missed or done twice if their listings differ, as they do while results appear in the folder that is listed.
"""

import os
import zlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

# How long to wait for the other processes to start, and for the slowest of them to finish its share.
_JOIN, _LAST = timedelta(minutes=2), timedelta(days=7)

T = TypeVar("T")


class SharingError(Exception):
    """The processes cannot reach each other, or one of them has ended; the message is one line."""


@dataclass(frozen=True)
class Share:
    """One of `count` shares; `index` counts from 0."""

    index: int = 0
    count: int = 1

    def has(self, name: Path) -> bool:
        """Whether the file with this relative name belongs to this share."""
        return self.count == 1 or zlib.crc32(os.fsencode(name.as_posix())) % self.count == self.index


ALL = Share()


class Processes:
    """The processes of this run that torchrun started; without torchrun, this one alone.

    Raises SharingError if they cannot reach each other.
    """

    def __init__(self) -> None:
        self.count = _number("WORLD_SIZE", 1)
        self.rank = _number("RANK", 0) if self.count > 1 else 0
        self.local_rank = _number("LOCAL_RANK", self.rank) if self.count > 1 else None
        if self.count > 1:
            try:
                dist.init_process_group("gloo", timeout=_JOIN)
                dist.barrier()
                # A group of its own, as `_JOIN` is a limit for the start only.
                self._group = dist.new_group(backend="gloo", timeout=_LAST)
            except (RuntimeError, ValueError) as error:
                raise SharingError(
                    f"process {self.rank} of {self.count}: the others cannot be reached ({_reason(error)}); "
                    "start all of them by torchrun"
                ) from None

    @property
    def first(self) -> bool:
        """Whether this is the process that prints for all."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """The share of this process."""
        return Share(self.rank, self.count)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, given to each of them. Raises SharingError if one has ended."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        try:
            dist.all_gather_object(values, value, group=self._group)
        except RuntimeError as error:
            raise SharingError(f"another process of this run has ended ({_reason(error)})") from None
        return values

    def leave(self) -> None:
        """Leave the group; all processes have to call this."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise SharingError(f"{name}: expected a number in the environment, as torchrun sets it; got {text!r}")
    return int(text)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).split("] ", 1)[-1].split(". ")[0][:160]
