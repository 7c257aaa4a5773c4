"""The trainer's step one kernel after the other, and replayed as a CUDA graph: `python -m bench step --graph`."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from train.step import VISITS, CudaRecorder, Graphs, Recorder, StepResult, make_optimizer, training_step

from ..measure import Repeated, Row, milliseconds, take_turns
from ..networks import LR, make_model
from .cases import Case

WAYS = ("ours", "ours --graph")
_SETS = 4  # of images in turns
_AGREE = 1e-3  # relative error of a loss: on a GPU, convolutions may add up in another order every time


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
    """Adds a row for each way of making the trainer's step, for batches of every size; whether all could be compared.

    The first steps by either way, the recording among them, must give the same losses, or nothing is timed. As in the
    trainer, no step waits for the numbers of the one before it.

    Args:
        sizes: height and width.
        recorder: in place of CUDA graphs.
    """
    good = True
    for height, width in sizes:
        case = Case("step", height, width)
        row: Row = {"op": "step", "width": width, "height": height, "dtype": "float32", "color": None, "batch": batch}
        row |= {"part": f"step of {batch} {width}x{height}"}
        if time.perf_counter() > deadline:
            add(row | {"provider": None, "status": "not measured: the time given by --seconds was spent"})
            continue
        images = [torch.cat([case.inputs(device, batch * k + n)[0] for n in range(batch)]) for k in range(_SETS)]
        said: list[str] = []
        recorder = recorder or CudaRecorder(images[0].device)
        with recorder.stream():
            steps = {way: _step_of(way, images, recorder, said.append) for way in WAYS}
            losses = [[step(k % _SETS).loss for k in range(VISITS + _SETS)] for step in steps.values()]
            problem = next((line for line in said if "cannot" in line), None) or _disagreement(*losses)
            if problem:
                good = False
                add(row | {"provider": WAYS[1], "status": f"not timed: {problem}"})
            elif not check:
                for figures in _turns(steps, repeats, device):
                    add(row | figures)
    return good


def _step_of(
    way: str, images: list[Tensor], recorder: Recorder, tell: Callable[[str], None]
) -> Callable[[int], StepResult]:
    """A step of the trainer's on one of the batches."""
    model, criterion = make_model("ours", images[0])
    optimizer = make_optimizer(model, LR)
    graphs = Graphs(optimizer, recorder, tell) if way == WAYS[1] else None

    def step(index: int) -> StepResult:
        return training_step(model, criterion, optimizer, images[index], graphs=graphs)

    return step


def _disagreement(ordinary: list[float], replayed: list[float]) -> str | None:
    worst = max(abs(a - b) / abs(a) if math.isfinite(b) else math.inf for a, b in zip(ordinary, replayed, strict=True))
    return f"parity, a loss is {worst:.1e} from the ordinary step's" if worst > _AGREE else None


def _turns(steps: dict[str, Callable[[int], StepResult]], repeats: int, device: str) -> list[Row]:
    """What a row tells of each way, timed in turns."""
    calls = {way: Repeated(step, _SETS, device) for way, step in steps.items()}
    times = take_turns(calls, repeats, device)
    rows = []
    for way, (called, queued) in times.items():
        row: Row = {
            "provider": way,
            "status": "ok",
            "ms": milliseconds(called),
            "device_ms": queued and milliseconds(queued),
        }
        row |= {"repeats": called.repeats, "gb_per_s": None, "copy_share": None, "extra_bytes": None}
        row["times_faster_than"] = {w: theirs.median / called.median for w, (theirs, _) in times.items() if w != way}
        rows.append(row)
    return rows
