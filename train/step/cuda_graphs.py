"""Training steps recorded as CUDA graphs: a step of a size that comes back is one launch instead of a thousand.

What a recorded step computes, and in which order, is what the step computed when it was recorded, on the same memory:
the same bits. Its images are copied to where it expects them, its numbers from where it leaves them, and everything
else is where it always is: weights, BatchNorm statistics and the state of Adam, whose count of steps is on the device
as well. Recording executes nothing, so that step is replayed at once.

The first visits of a size are ordinary steps, which compile its kernels, choose its convolutions and make the state of
Adam: none of that may happen while recording. All steps are made on one stream of the run's own, since the default
stream cannot be recorded, and memory that one stream has freed is not given to another.

Graphs keep the memory that a step needs at its peak. All share it, since never two are replayed at once and none reads
what another wrote: together they take what the largest takes, besides a copy of the images of each. Ordinary steps, of
other sizes, need theirs in addition: at worst the memory is that of two steps. What is recorded stays, as every epoch
goes through all photographs once: to throw out the size that was used least recently would be to record nearly every
step anew.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..config import Settings

VISITS = 3  # the one at which a size is recorded
MOST = 4  # sizes that are recorded; with --crop there are two, since the last batch of an epoch may be short

# PyTorch's allocator keeps a pointer to a graph whose recording fails at the end, and asks it in the next recording.
_unfinished: list[torch.cuda.CUDAGraph] = []

Step = Callable[[Tensor], Tensor]
Replay = Callable[[], None]


class Recorder(Protocol):
    """What can record a step; on a GPU, `CudaRecorder`."""

    def stream(self) -> AbstractContextManager[None]:
        """Within this context all steps are made, recorded and replayed."""

    def record(self, call: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        """Record what a call would do, without doing it: what replays it, and the tensor that every replay fills.

        Raises whatever the call does, or an error of its own where something in the call cannot be recorded.
        """


class CudaRecorder:
    """CUDA graphs that share one pool of memory."""

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Makes a stream of its own the current one; what was begun before is waited for, and the other way round."""
        before = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(before)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            before.wait_stream(self._stream)

    def record(self, call: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads read photographs and pin memory meanwhile, which the default mode would take for a mistake.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                values = call()
        except Exception:
            _unfinished.append(graph)
            raise
        return graph.replay, values


class _Recorded(NamedTuple):
    """A step of one size."""

    images: Tensor  # where it reads them
    replay: Replay
    values: Tensor  # where it leaves its numbers


class Graphs:
    """Makes steps: those of a size that has come often enough from a recording, all others as they are.

    Args:
        optimizer: of the steps; fused, so that it decides on the device whether to count a step.
        recorder: records them.
        tell: called with a line for each size that is recorded, and one where that fails; then no more is recorded.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recorder: Recorder, tell: Callable[[str], None]):
        self._optimizer, self._recorder, self._tell = optimizer, recorder, tell
        self._visits: Counter[torch.Size] = Counter()
        self._recorded: dict[torch.Size, _Recorded] = {}
        self._most = MOST

    def stream(self) -> AbstractContextManager[None]:
        """Within this context all steps are to be made."""
        return self._recorder.stream()

    def __call__(self, step: Step, images: Tensor) -> Tensor:
        """What `step(images)` returns; the next call may overwrite it. `step` is to do the same in every call."""
        recorded = self._recorded.get(images.shape) or self._newly_recorded(step, images)
        if recorded is None:
            return step(images)
        recorded.images.copy_(images)
        recorded.replay()
        return recorded.values

    def _newly_recorded(self, step: Step, images: Tensor) -> _Recorded | None:
        """A step of this size, if it is one to record now and can be."""
        size = images.shape
        self._visits[size] += 1
        if self._visits[size] < VISITS or len(self._recorded) >= self._most:
            return None
        words = f"{len(images)} x {size[2]}x{size[3]} (height x width)"
        try:
            self._recorded[size] = self._record(step, images)
        except Exception as error:  # nothing was executed: the ordinary step that follows goes on, or raises it again
            self._recorded.clear()
            self._most = 0
            first = error.__context__ or error  # to end a recording that has failed fails as well
            reason = " ".join(str(first).split())[:160]
            self._tell(f"graphs: off from here on, a step of {words} cannot be recorded ({reason}); training goes on")
            return None
        self._tell(f"graphs: a step of {words} is recorded, and replayed from now on")
        return self._recorded[size]

    def _record(self, step: Step, images: Tensor) -> _Recorded:
        self._optimizer.zero_grad(set_to_none=True)  # nothing of the step before is then freed while recording
        held = images.clone()
        with _recordable(self._optimizer):
            return _Recorded(held, *self._recorder.record(lambda: step(held)))


@contextmanager
def _recordable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Adam lets itself be recorded only where `capturable` is set. Its fused kernel computes the same either way, with
    a count of steps that is on the device; set for no longer than this, the word is in no checkpoint."""
    before = [group["capturable"] for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["capturable"] = True
        yield
    finally:
        for group, value in zip(optimizer.param_groups, before, strict=True):
            group["capturable"] = value


def graphs_of(
    settings: Settings,
    device: torch.device,
    processes: int,
    impl: str,
    optimizer: torch.optim.Optimizer,
    tell: Callable[[str], None],
) -> Graphs | None:
    """The graphs of a run, or None: `--graph` decides, and where it was not given, whether every step has one size.

    Where they were asked for and cannot be, a line says why.
    """
    if not (settings.crop if settings.graph is None else settings.graph):
        return None
    if reason := refusal(settings, device, processes, impl):
        if settings.graph:
            tell(f"graphs: off, {reason}; training goes on without")
        return None
    tell(f"graphs: on, for at most {MOST} sizes of a batch, each recorded after {VISITS - 1} ordinary steps")
    return Graphs(optimizer, CudaRecorder(device), tell)


def refusal(settings: Settings, device: torch.device, processes: int, impl: str) -> str | None:
    """Why the steps of such a run cannot be recorded, or None."""
    if device.type != "cuda":
        return f"they need a GPU, and this is {device}"
    if processes > 1:
        return "several processes average their gradients in ways that are not recorded"
    if settings.compile:
        return "torch.compile makes the step (--no-compile leaves it to graphs)"
    if impl != "triton":
        return f"--impl {impl} copies constants to the GPU in every step (--impl triton does not)"
    return None
