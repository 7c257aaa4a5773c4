"""The training step of three stages by each provider, from the same start, and where its time goes.

`reference` is the plain network and loss, operator by operator; `compiled` is torch.compile of both as one graph;
`ours` is the trainer's default. All three go through the trainer's own `training_step`: gradients clipped, then Adam.

`graph_rows` compares two ways of making the trainer's step: one kernel after the other, and replayed as a CUDA graph.
"""

import math
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from model import Network
from sci_kernels import LossFunction
from train.graph import VISITS, CudaRecorder, Graphs, Recorder
from train.step import StepResult, make_optimizer, training_step

from .cases import Case
from .rows import milliseconds
from .timing import Repeated, synchronize, take_turns

STAGES, SEED, LR = 3, 2, 3e-4
PARTS = ("network", "loss", "backward", "optimizer")
WAYS = ("ours", "ours --graph")
_SETS = 4  # of images in turns
_AGREE = 1e-3  # relative error of a loss: on a GPU, convolutions may add up in another order every time


class _WithLoss(nn.Module):
    """A network that returns its loss, so that both are one graph; `(loss, nothing)`, as of a single stage."""

    def __init__(self, network: Network, criterion: nn.Module):
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        stages = self.network(image)
        losses = map(self.criterion, stages.inputs, stages.illuminations)
        return torch.stack(list(losses)).sum(), None


class _Given(nn.Module):
    """The criterion of a network that has computed its loss itself."""

    def forward(self, image: Tensor, loss: Tensor) -> Tensor:
        return loss


class TrainingStep:
    """One provider's network, loss and optimizer, made at the first image for its device and dtype.

    Called with an image `(N, 3, H, W)` in [0, 1], it makes the first step from the start that all providers share and
    returns what preceded the update: the loss and the gradients, clipped. `step` trains on from there.
    """

    def __init__(self, provider: str):
        self._provider, self._made = provider, None

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        model, _, _, start = self._for(image)
        model.load_state_dict(start)
        self._made[2].state.clear()
        loss = torch.tensor(self.step(image), dtype=image.dtype)
        noise = _without_gradient(model)
        return loss, *(p.grad.clone() for p in model.parameters() if id(p) not in noise)

    def step(self, image: Tensor) -> float:
        """One training step; returns the loss before it."""
        model, criterion, optimizer, _ = self._for(image)
        return training_step(model, criterion, optimizer, image).loss

    def breakdown(self, image: Tensor) -> dict[str, float]:
        """Seconds of the parts of one more step; clipping counts as backward. Each part waits for the device."""
        model, criterion, optimizer, _ = self._for(image)
        marks: list[float] = []

        def mark(*_) -> None:
            synchronize(image.device.type)
            marks.append(time.perf_counter())

        hooks = [model.register_forward_pre_hook(mark), model.register_forward_hook(mark)]
        hooks += [criterion.register_forward_hook(mark)]  # once a stage; the last counts
        hooks += [optimizer.register_step_pre_hook(mark), optimizer.register_step_post_hook(mark)]
        try:
            self.step(image)
        finally:
            for hook in hooks:
                hook.remove()
        begin, network, *_, loss, backward, end = marks
        return {
            name: b - a for name, (a, b) in zip(PARTS, pairwise((begin, network, loss, backward, end)), strict=True)
        }

    def _for(self, image: Tensor) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, dict[str, Tensor]]:
        key = (image.device, image.dtype)
        if self._made is None or self._made[4] != key:
            model, criterion = _model(self._provider, image)
            start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            self._made = (model, criterion, make_optimizer(model, LR), start, key)
        return self._made[:4]


def graph_rows(
    sizes: list[tuple[int, int]],
    batch: int,
    device: str,
    repeats: int,
    check: bool,
    deadline: float,
    add: Callable[[dict], None],
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
        row = {"op": "step", "width": width, "height": height, "dtype": "float32", "color": None, "batch": batch}
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


def _step_of(way: str, images: list[Tensor], recorder: Recorder, tell: Callable[[str], None]):
    """A step of the trainer's on one of the batches."""
    model, criterion = _model("ours", images[0])
    optimizer = make_optimizer(model, LR)
    graphs = Graphs(optimizer, recorder, tell) if way == WAYS[1] else None

    def step(index: int) -> StepResult:
        return training_step(model, criterion, optimizer, images[index], graphs=graphs)

    return step


def _disagreement(ordinary: list[float], replayed: list[float]) -> str | None:
    worst = max(abs(a - b) / abs(a) if math.isfinite(b) else math.inf for a, b in zip(ordinary, replayed, strict=True))
    return f"parity, a loss is {worst:.1e} from the ordinary step's" if worst > _AGREE else None


def _turns(steps: dict[str, Callable[[int], StepResult]], repeats: int, device: str) -> list[dict]:
    """What a row tells of each way, timed in turns."""
    calls = {way: Repeated(step, _SETS, device) for way, step in steps.items()}
    times = take_turns(calls, repeats, device)
    rows = []
    for way, (called, queued) in times.items():
        row = {
            "provider": way,
            "status": "ok",
            "ms": milliseconds(called),
            "device_ms": queued and milliseconds(queued),
        }
        row |= {"repeats": called.repeats, "gb_per_s": None, "copy_share": None, "extra_bytes": None}
        row["times_faster_than"] = {w: theirs.median / called.median for w, (theirs, _) in times.items() if w != way}
        rows.append(row)
    return rows


def _model(provider: str, image: Tensor) -> tuple[nn.Module, nn.Module]:
    """Network and criterion, the same numbers for every provider."""
    ours = provider.startswith("ours")
    impl, convolutions = "auto" if ours else "reference", "triton" if provider == "ours-convolutions" else "auto"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        # The reference computes all that the official code computes; ours, what training needs.
        network = Network(stage=STAGES, impl=impl, exact=not ours, convolutions=convolutions)
    network, criterion = network.to(image).train(), LossFunction(impl=impl)
    if provider != "compiled":
        return network, criterion
    return torch.compile(_WithLoss(network, criterion), fullgraph=True, dynamic=False), _Given()


def _without_gradient(model: nn.Module) -> set[int]:
    """Biases that a BatchNorm after their convolution takes out again: their gradient is rounding noise."""
    parts = [part for part in model.modules() if isinstance(part, nn.Sequential)]
    pairs = [pair for part in parts for pair in pairwise(part)]
    return {id(conv.bias) for conv, after in pairs if isinstance(after, nn.BatchNorm2d)}
