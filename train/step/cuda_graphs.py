"""Training steps recorded as CUDA graphs: a step of a size seen before is one launch instead of a thousand.

A replayed step does the same operations in the same order on the same memory as the recorded step: it gives the same
bits. Its images are copied to where it reads them, its numbers from where it leaves them, and everything else stays
in place: weights, running averages of BatchNorm and the state of Adam, whose count of steps is on the device as well.
Recording executes nothing, so the recorded step is replayed at once.

The first steps of a size are ordinary ones, which compile kernels for it, choose its convolutions and create the state
of Adam: none of that may happen while recording. The whole run uses one stream of its own, since the default stream
cannot be recorded, and memory that was freed on one stream is not reused on another.

Graphs keep the memory that a step needs at its peak. They share it, since two are never replayed at once and none reads
what another wrote: together they take what the largest takes, plus a copy of the images for each. Ordinary steps, of
other sizes, need memory in addition: at worst that of two steps in all. No recording is ever evicted: every epoch
takes each photograph once, so evicting the least recently used size would mean to record nearly every step.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..config import Settings

VISITS = 3  # a size is recorded at this many-th step of it
MOST = 4  # sizes that are recorded; with --crop there are two, since the last batch of an epoch may be short

# PyTorch's allocator keeps a pointer to a graph whose recording failed at the end, and uses it in the next recording:
# such graphs must stay alive.
_unfinished: list[torch.cuda.CUDAGraph] = []

StepFunction = Callable[[Tensor], Tensor]
Replay = Callable[[], None]


class Recorder(Protocol):
    """What can record a step; on a GPU, `CudaRecorder`."""

    def stream(self) -> AbstractContextManager[None]:
        """Within this context all steps are made, recorded and replayed."""

    def record(self, call: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        """Record a call without executing it; returns what replays it, and the tensor that every replay fills.

        Raises what the call raises, or an error of its own where something in the call cannot be recorded.
        """


class CudaRecorder:
    """CUDA graphs that share one pool of memory."""

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Makes a stream of its own the current one; each stream waits for what was begun before on the other."""
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
            # Other threads read photographs and pin memory meanwhile, which the default mode would refuse.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                values = call()
        except Exception:
            _unfinished.append(graph)
            raise
        return graph.replay, values


class _Recorded(NamedTuple):
    """The recorded step of one size."""

    images: Tensor  # which it reads
    replay: Replay
    values: Tensor  # which it fills


class Graphs:
    """Runs steps: those of a size that came often enough by replaying a recording, all others as usual.

    Args:
        optimizer: of the steps; fused, so that the device decides whether a step counts.
        recorder: records them.
        tell: called with a line for each size that is recorded, or whose recording failed; then no more is recorded.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recorder: Recorder, tell: Callable[[str], None]):
        self._optimizer, self._recorder, self._tell = optimizer, recorder, tell
        self._visits: Counter[torch.Size] = Counter()
        self._recorded: dict[torch.Size, _Recorded] = {}
        self._most = MOST

    def stream(self) -> AbstractContextManager[None]:
        """The context within which all steps have to be run."""
        return self._recorder.stream()

    def __call__(self, step: StepFunction, images: Tensor) -> Tensor:
        """The result of `step(images)`, which the next call may overwrite. `step` must do the same in every call."""
        recorded = self._recorded.get(images.shape) or self._newly_recorded(step, images)
        if recorded is None:
            return step(images)
        recorded.images.copy_(images)
        recorded.replay()
        return recorded.values

    def _newly_recorded(self, step: StepFunction, images: Tensor) -> _Recorded | None:
        """Record the step of this size, if it is due and can be recorded."""
        size = images.shape
        self._visits[size] += 1
        if self._visits[size] < VISITS or len(self._recorded) >= self._most:
            return None
        words = f"{len(images)} x {size[2]}x{size[3]} (height x width)"
        try:
            self._recorded[size] = self._record(step, images)
        except Exception as error:  # nothing was executed: an ordinary step follows, which may raise the error again
            self._recorded.clear()
            self._most = 0
            first = error.__context__ or error  # ending a failed recording fails as well
            reason = " ".join(str(first).split())[:160]
            self._tell(f"graphs: off from here on, a step of {words} cannot be recorded ({reason}); training goes on")
            return None
        self._tell(f"graphs: a step of {words} is recorded, and replayed from now on")
        return self._recorded[size]

    def _record(self, step: StepFunction, images: Tensor) -> _Recorded:
        self._optimizer.zero_grad(set_to_none=True)  # so that no gradient of the step before is freed while recording
        held = images.clone()
        with _recordable(self._optimizer):
            return _Recorded(held, *self._recorder.record(lambda: step(held)))


@contextmanager
def _recordable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Set `capturable`, without which Adam refuses to be recorded.

    Its fused kernel computes the same either way, with its count of steps on the device. The option is reset, so that
    it never gets into a checkpoint.
    """
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
    """The graphs of a run, or None: as `--graph` says, and by default with `--crop`, where all steps have one size.

    If they were asked for and are not possible, a line says why.
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
