"""What users of the official code, or of a fork, gain with each change to their script.

    python -m bench gain [--size 600x400] [--repeats 5] [--json FILE]

Times one training step in four ways, in one run: `official` is the official script; `accelerate` the same after
`sci_kernels.accelerate(network)`; `network` the same loop with this project's network and loss; `trainer` the step of
`python -m train`. All start from the same weights; one whose first loss or gradient differs from the official script's
is not timed. Memory is the peak beyond network and picture, each measured in a separate process. Finally the time that
`accelerate` itself takes is measured. Exits with status 1 if a result is wrong or, at the default size on a CPU,
misses its bound.
"""

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import sci_kernels
from model import Network
from train.step import make_optimizer, training_step

from ..measure import Row, choose_device, environment, extra_memory, interleave, loss_inputs, milliseconds, size_of
from . import official_script, one_picture
from .training_step import LR, SEED, STAGES

SIZE = "600x400"
# How many times faster than the official script each must be, on a CPU at the default size.
BOUNDS = {"official": None, "accelerate": 2.0, "network": 4.0, "trainer": 5.0}
WAYS = tuple(BOUNDS)
MODULES, SECONDS = 50, 1.0  # `accelerate` may take so many seconds for a network of so many modules
_PARITY = 1e-4  # relative

StepCall = Callable[[], tuple[float, float]]  # makes a step; returns the loss and the norm of the gradient before it


def step_of(way: str, image: Tensor) -> StepCall:
    """A call that makes one training step on an image, in one of the four ways."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        official = official_script.OfficialNetwork(STAGES).to(image).train()
    if way == "accelerate":
        sci_kernels.accelerate(official)
    if way in ("official", "accelerate"):
        optimizer = official_script.make_optimizer(official, LR)
        return lambda: official_script.step(official._loss(image), official, optimizer)
    network = Network(STAGES, exact=way == "network").to(image).train()
    network.load_state_dict(official.state_dict())
    criterion = sci_kernels.LossFunction()
    if way == "network":
        optimizer = official_script.make_optimizer(network, LR)
        return lambda: official_script.step(_sum(network, criterion, image), network, optimizer)
    optimizer = make_optimizer(network, LR)

    def step() -> tuple[float, float]:
        loss, norm, *_ = training_step(network, criterion, optimizer, image).read()
        return loss, norm

    return step


def _sum(network: Network, criterion: nn.Module, image: Tensor) -> Tensor:
    stages = network(image)
    return sum(map(criterion, stages.inputs, stages.illuminations))


def picture(height: int, width: int, device: str) -> Tensor:
    """The dark picture that the other comparisons use."""
    return loss_inputs(height, width)[0].detach().to(device)


def memory_call(way: str, height: int, width: int) -> Callable[[], object]:
    """A factory for `measure.extra_memory`; a small step comes first, so that PyTorch is set up."""
    step_of(way, picture(16, 18, "cpu"))()
    return step_of(way, picture(height, width, "cpu"))


def measure(height: int, width: int, device: str, repeats: int) -> list[Row]:
    """A row for each way."""
    image = picture(height, width, device)
    steps = {way: step_of(way, image) for way in WAYS}
    first = {way: step() for way, step in steps.items()}
    errors = {
        way: max(abs(a / b - 1) for a, b in zip(values, first["official"], strict=True))
        for way, values in first.items()
    }
    wrong = [way for way, error in errors.items() if not error <= _PARITY]
    times = interleave(
        {way: step for way, step in steps.items() if way not in wrong}, repeats, warm=False, device=device
    )
    rows = []
    for way in WAYS:
        row = {"way": way, "width": width, "height": height, "parity": errors[way], "status": "ok"}
        if way in wrong:
            rows.append(row | {"status": f"not measured: loss or gradient differs by {errors[way]:.1e}"})
            continue
        judged = device == "cpu" and (width, height) == size_of(SIZE)[::-1]
        row["ms"] = milliseconds(times[way])
        row["faster"] = times["official"].median / times[way].median
        row["bound"] = BOUNDS[way] if judged else None
        row["extra_bytes"] = (
            extra_memory("bench.networks.training_gain:memory_call", way, height, width) if device == "cpu" else None
        )
        rows.append(row)
    return rows


def accelerate_seconds(losses: int) -> float:
    """Seconds that `accelerate` takes for a network of 50 modules, of which so many are losses, after a first call."""

    def network() -> nn.Module:
        parts = [official_script.SmoothLoss() for _ in range(losses)]
        return nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(MODULES - 1 - losses)), *parts)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sci_kernels.accelerate(network())
        made = network()
        start = time.perf_counter()
        sci_kernels.accelerate(made)
        return time.perf_counter() - start


def text_of(row: Row) -> str:
    """A row as a line of text."""
    if row["status"] != "ok":
        return f"{row['way']:12}{row['status']}"
    memory = "" if row["extra_bytes"] is None else f", {row['extra_bytes'] / 1e6:.0f} MB"
    must = "" if row["bound"] is None else f" (must: >= {row['bound']:g}x{'' if kept(row) else ', MISSED'})"
    return f"{row['way']:12}{row['ms']['median']:.0f} ms{memory}, {row['faster']:.2f}x{must}"


def kept(row: Row) -> bool:
    """Whether the results agree and the bound, if there is one, is kept."""
    return row["status"] == "ok" and (row["bound"] is None or row["faster"] >= row["bound"])


def main(argv: list[str] | None = None) -> int:
    args = one_picture.parse("gain", __doc__.splitlines()[0], SIZE, 5, "steps", argv)
    device, machine = choose_device(args.device), environment()
    height, width = args.size
    rows = measure(height, width, device, args.repeats)
    print("\n".join(map(text_of, rows)))
    seconds = {losses: accelerate_seconds(losses) for losses in (1, MODULES - 1)}
    for losses, value in seconds.items():
        print(f"accelerate, {MODULES} modules, {losses} of them losses: {value:.2f} s (must: <= {SECONDS:g} s)")
    content = {"environment": machine, "rows": rows, "accelerate_seconds": seconds}
    if not one_picture.save(args, "gain", SIZE, device, content):
        return 2
    return 0 if all(map(kept, rows)) and max(seconds.values()) <= SECONDS else 1
