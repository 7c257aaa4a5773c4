"""`python -m bench step --graph`: the trainer's step as usual, and replayed as a CUDA graph."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from train.step import VISITS, CudaRecorder, Graphs, Recorder, StepResult, make_optimizer, training_step

from ..measure import Repeated, Row, milliseconds, take_turns
from ..networks import LR, make_model
from .cases import Case

KINDS = ("ours", "ours --graph")
_SETS = 4  # of images in turns
_TOLERANCE = 1e-3  # relative, of a loss: on a GPU, convolutions may add up in another order every time


def graph_rows(
    sizes: list[tuple[int, int]],
    batch: int,
    device: str,
    repeats: int,
    check: bool,
    deadline: float,
    add: Callable[[Row], None],
    recorder: Recorder | None = None,
) -> bool:
    """Measures both kinds of the trainer's step for batches of every size; returns whether all of them agreed.

    The first steps of both, up to and including the recording and some replays, must give the same losses, or nothing
    is timed. As in the trainer, no step waits for the numbers of the step before it.

    Args:
        sizes: height and width of the images.
        add: is given each row.
        recorder: used instead of CUDA graphs.
    """
    good = True
    for height, width in sizes:
        case = Case("step", height, width)
        row: Row = {"op": "step", "width": width, "height": height, "dtype": "float32", "color": None, "batch": batch}
        row |= {"part": f"step of {batch}"}
        if time.perf_counter() > deadline:
            add(row | {"provider": None, "status": "not measured: the time given by --seconds is up"})
            continue
        images = [torch.cat([case.inputs(device, batch * k + n)[0] for n in range(batch)]) for k in range(_SETS)]
        messages: list[str] = []
        recorder = recorder or CudaRecorder(images[0].device)
        with recorder.stream():
            steps = {kind: _step_of(kind, images, recorder, messages.append) for kind in KINDS}
            losses = [[step(k % _SETS).loss for k in range(VISITS + _SETS)] for step in steps.values()]
            problem = next((line for line in messages if "cannot" in line), None) or _disagreement(*losses)
            if problem:
                good = False
                add(row | {"provider": KINDS[1], "status": f"not timed: {problem}"})
            elif not check:
                for numbers in _timed(steps, repeats, device):
                    add(row | numbers)
    return good


def _step_of(
    kind: str, images: list[Tensor], recorder: Recorder, tell: Callable[[str], None]
) -> Callable[[int], StepResult]:
    """A function of an index that makes the trainer's step on that batch."""
    model, criterion = make_model("ours", images[0])
    optimizer = make_optimizer(model, LR)
    graphs = Graphs(optimizer, recorder, tell) if kind == KINDS[1] else None

    def step(index: int) -> StepResult:
        return training_step(model, criterion, optimizer, images[index], graphs=graphs)

    return step


def _disagreement(ordinary: list[float], replayed: list[float]) -> str | None:
    worst = max(abs(a - b) / abs(a) if math.isfinite(b) else math.inf for a, b in zip(ordinary, replayed, strict=True))
    return f"parity, a loss is {worst:.1e} from the ordinary step's" if worst > _TOLERANCE else None


def _timed(steps: dict[str, Callable[[int], StepResult]], repeats: int, device: str) -> list[Row]:
    """The numbers for a row of each kind of step, timed in turns."""
    calls = {kind: Repeated(step, _SETS, device) for kind, step in steps.items()}
    times = take_turns(calls, repeats, device)
    rows = []
    for kind, (called, queued) in times.items():
        row: Row = {
            "provider": kind,
            "status": "ok",
            "ms": milliseconds(called),
            "device_ms": queued and milliseconds(queued),
        }
        row |= {"repeats": called.repeats, "gb_per_s": None, "copy_share": None, "extra_bytes": None}
        row["times_faster_than"] = {
            other: theirs.median / called.median for other, (theirs, _) in times.items() if other != kind
        }
        rows.append(row)
    return rows
