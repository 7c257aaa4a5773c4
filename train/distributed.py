"""Several processes, started by `torchrun --nproc_per_node=N -m train ...`, that train one network.

Every process computes the gradient of its own photographs; DistributedDataParallel averages the gradients, so that a
step is that of one batch of `processes * batch_size` photographs. BatchNorm normalizes by the photographs of its own
process, and all take the running averages of process 0, unless `--sync-bn` shares them. Process 0 alone writes files.

Everything else that the processes exchange (errors, signals, losses) goes over gloo, so that no GPU waits for it and
the death of a process is noticed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from model.files import ImageError
from model.network import WeightsError

from .errors import TrainError

JOIN_SECONDS = 120  # within which all processes must have started
_MISTAKES = (TrainError, ImageError, WeightsError, OSError)

T = TypeVar("T")


class Elsewhere(Exception):
    """The run ends for a reason that process 0 prints."""


class Lost(TrainError):
    """Another process has ended."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; a run that torchrun did not start is one process."""

    rank: int = 0
    count: int = 1
    control: object = None  # the gloo group; None for a single process

    @property
    def first(self) -> bool:
        return self.rank == 0

    def together(self, call: Callable[..., T], *arguments) -> T:
        """The result of a call that every process makes; if it fails in one, all end and process 0 says why."""
        if self.control is None:
            return call(*arguments)
        try:
            result = call(*arguments)
        except _MISTAKES as error:
            self._exchange_error(str(error))
            raise
        self._exchange_error(None)
        return result

    def _exchange_error(self, text: str | None) -> None:
        """Tell the others of an error here, if any. Raises where another process has one that is to be told of."""
        texts: list[str | None] = [None] * self.count
        self.talk(dist.all_gather_object, texts, text)
        found = [(rank, other) for rank, other in enumerate(texts) if other is not None]
        if found and not self.first:
            raise Elsewhere from None
        if found and text is None:
            raise TrainError(f"process {found[0][0]} of {self.count}: {found[0][1]}")

    def largest(self, value: int) -> int:
        """The largest value that any process gives."""
        return int(self._reduce(value, dist.ReduceOp.MAX))

    def mean(self, value: float) -> float:
        """The mean of the values that the processes give."""
        return self._reduce(value, dist.ReduceOp.SUM) / self.count

    def _reduce(self, value: float, operation) -> float:
        if self.control is None:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)
        self.talk(dist.all_reduce, tensor, operation)
        return tensor.item()

    def talk(self, collective: Callable, *arguments) -> None:
        """A collective call among all processes. Raises Lost where one of them has ended."""
        try:
            collective(*arguments, group=self.control)
        except RuntimeError as error:
            self.check_lost(error)
            raise

    def check_lost(self, error: RuntimeError) -> None:
        """Raise Lost where the error says that another process has ended."""
        text = " ".join(str(error).split())
        if self.control is not None and (isinstance(error, dist.DistError) or "gloo" in text or "NCCL" in text):
            reason = text.split("] ", 1)[-1].split(". ")[0]  # without the place in the library, and its advice
            raise Lost(
                f"process {self.rank} of {self.count}: expected an answer from the others; one was killed, or ended "
                f"with an error of its own ({reason[:160]})"
            ) from None

    def check_sync_bn(self, device: torch.device) -> None:
        """Raise TrainError where PyTorch's SyncBatchNorm does not run."""
        if device.type != "cuda":
            raise TrainError(
                f"--sync-bn: expected GPUs, PyTorch has it for no other device; got {device}; leave it out"
            )

    def wrap(self, model: nn.Module, device: torch.device, sync_bn: bool) -> nn.Module:
        """The network to call in a training step; its parameters are those of `model`, alike in every process."""
        if self.control is None:
            return model
        if sync_bn:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if getattr(model, "stage", None) == 1:
            # With one stage the calibrate network gets no gradient, which DistributedDataParallel would wait for. Its
            # static_graph=True is no way out: from the second step on, it silently left gradients without their mean.
            model.calibrate.requires_grad_(False)
        devices = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def join(device: str) -> tuple[Processes, str]:
    """Connect to the other processes that the environment names; returns them and the name of this one's device.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them.

    Raises:
        TrainError: the environment is contradictory, there is no GPU for this process, the port is taken, or a
            process did not start within `JOIN_SECONDS`.
    """
    count = _number("WORLD_SIZE", 1)
    if count <= 1:
        return Processes(), device
    rank = _number("RANK")
    if not 0 <= rank < count:
        raise TrainError(f"RANK: expected a number from 0 to {count - 1}, for WORLD_SIZE {count}; got {rank}")
    device = _own_device(device, _number("LOCAL_RANK", rank))
    store = _meet(rank, count)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
        return Processes(rank, count, dist.new_group(backend="gloo")), device
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise TrainError(
            f"process {rank} of {count}: {backend} cannot connect the processes ({reason}); a host name that does not "
            "resolve is a common cause: GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the network to use"
        ) from None


def leave() -> None:
    """Disconnect from the other processes, which do the same now."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        if text is not None:
            return int(text)
    except ValueError:
        pass
    raise TrainError(
        f"{name}: expected a number in the environment, as torchrun sets it; got {text!r}; start with torchrun"
    )


def _own_device(name: str, local: int) -> str:
    """The device of this machine's process number `local`."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if name == "gpu" and not torch.cuda.is_available():
        return name  # `prepare.pick_device` takes the CPU instead, and says so
    if name not in ("auto", "cuda", "gpu"):
        raise TrainError(f"--device: expected auto, cpu or cuda, each process takes a GPU of its own; got {name}")
    present = torch.cuda.device_count()
    if local >= present:
        raise TrainError(
            f"--nproc_per_node: expected at most {present}, the GPUs of this machine; got {local + 1} or more; "
            "start fewer, or give --device cpu"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def _meet(rank: int, count: int) -> dist.Store:
    """The store through which the processes find each other, once all have started."""
    host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), _number("MASTER_PORT")
    wait = timedelta(seconds=JOIN_SECONDS)
    ours = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun keeps the store
    try:
        store = dist.TCPStore(host, port, count, is_master=ours, timeout=wait, wait_for_workers=False)
    except (RuntimeError, ValueError) as error:
        if "EADDRINUSE" in str(error):
            raise TrainError(
                f"MASTER_PORT {port}: expected a free port; it is in use, perhaps by another run; give another, or "
                "start with torchrun --standalone"
            ) from None
        reason = " ".join(str(error).split())[:120]
        raise TrainError(
            f"MASTER_ADDR {host}, MASTER_PORT {port}: expected process 0 of {count} to answer within {JOIN_SECONDS} s; "
            f"it did not ({reason}); check both, and that it was started"
        ) from None
    prefixed = dist.PrefixStore(f"train/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    keys = [f"here/{number}" for number in range(count)]
    prefixed.set(keys[rank], "1")
    try:
        prefixed.wait(keys, wait)
    except RuntimeError:
        missing = [str(number) for number, key in enumerate(keys) if not _has(prefixed, key)]
        raise TrainError(
            f"WORLD_SIZE {count}: expected {count} processes within {JOIN_SECONDS} s; process {', '.join(missing)} did "
            "not come; start as many as WORLD_SIZE says, each with its own RANK"
        ) from None
    return prefixed


def _has(store: dist.Store, key: str) -> bool:
    try:
        return store.check([key])
    except RuntimeError:  # process 0 has given up and taken the store with it
        return False
