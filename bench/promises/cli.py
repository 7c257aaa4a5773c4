"""The numbers that the project promises, measured on this machine and compared with their bounds.

    python -m bench figures [--json FILE]

The official weights and photographs are looked for in the folder that SCI_OFFICIAL names (default:
shared/sci-official next to the repository). Where they are absent, their row is skipped and says so. Times are those
of the CPU, even if the machine has a GPU. Exits with status 1 if a number misses its bound.
"""

import argparse
import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import FinetuneNetwork, Network, enhance_image, load_weights, quantize, read_image
from sci_kernels import LossFunction, default_impl, native, smooth_loss
from train import FINETUNE_LR
from train.step import make_optimizer, training_step

from ..baselines import twelve_pairs
from ..measure import ROOT, environment, extra_memory, interleave, loss_inputs, save_json
from ..networks import LR, step_times
from . import golden_losses

OFFICIAL = Path(os.environ.get("SCI_OFFICIAL", ROOT.parent / "shared" / "sci-official"))
LOSS_SIZE = (1080, 1920)
STEP_SIZE = (400, 600)


class Promise(NamedTuple):
    """A number that the project promises, and what was measured."""

    what: str
    bound: str
    measured: str
    passed: bool | None  # None: it could not be measured


def golden_rows(dtype: torch.dtype) -> Iterator[Promise]:
    """The golden losses and both gradients; a row for each implementation."""
    limits = (1e-10, 1e-10, 1e-10) if dtype == torch.float64 else (2e-6, 2e-6, 1e-5)
    name = str(dtype).removeprefix("torch.")
    bound = "loss {:.0e}, gradients {:.0e} in norm, {:.0e} an element".format(*limits)
    for impl in ("reference", "blocked", "native", "triton"):
        if impl == "triton" and importlib.util.find_spec("triton") is None:
            yield Promise(f"golden losses, {name}, {impl}", bound, "skipped: Triton is not installed", None)
            continue
        if impl == "native" and (reason := native.compiler_error()):
            yield Promise(f"golden losses, {name}, {impl}", bound, f"skipped: {reason}", None)
            continue
        try:
            how, errors = (
                golden_losses.triton_errors(dtype)
                if impl == "triton"
                else (impl, golden_losses.golden_errors(impl, dtype))
            )
        except RuntimeError as error:
            yield Promise(f"golden losses, {name}, {impl}", bound, f"did not run: {error}", False)
            continue
        passed = all(error <= limit for error, limit in zip(errors, limits, strict=False))
        measured = f"{errors.loss:.1e}, {errors.norm:.1e}, {errors.element:.1e} ({errors.compared} losses)"
        yield Promise(f"golden losses, {name}, {how}", bound, measured, passed)


def trajectory_row(name: str, model: Network | FinetuneNetwork, lr: float) -> Promise:
    """A golden training run, repeated in float64 with the trainer's step."""
    golden = golden_losses.load_golden(golden_losses.GOLDEN / f"{name}.npz")
    model.double().train()
    model.load_state_dict({key.removeprefix("init/"): golden[key] for key in golden if key.startswith("init/")})
    optimizer, criterion = make_optimizer(model, lr), LossFunction()
    images = golden["images"].double().unsqueeze(1)
    losses = [
        training_step(model, criterion, optimizer, images[step % len(images)]).loss
        for step in range(len(golden["losses"]))
    ]
    error = float((torch.tensor(losses, dtype=torch.float64) / golden["losses"] - 1).abs().max())
    return Promise(f"golden run {name}, float64", f"{len(losses)} losses within 1e-9", f"{error:.1e}", error <= 1e-9)


def official_row() -> Promise:
    """The official weights on the official photographs, compared with the published outputs, in float32 on the CPU."""
    what, bound = "official weights, every picture", "1 gray level, on 2 in 100,000 values"
    if not OFFICIAL.is_dir():
        return Promise(what, bound, f"skipped: no folder {OFFICIAL}; set SCI_OFFICIAL", None)
    pictures = worst_level = 0
    worst_share = 0.0
    for weights in sorted((OFFICIAL / "weights").glob("*.pt")):
        model = FinetuneNetwork()
        load_weights(model, weights)
        for path in sorted((OFFICIAL / "images" / weights.stem).glob("*.png")):
            _, reflectance = enhance_image(model, read_image(path).tensor()[None])
            expected = read_image(OFFICIAL / "expected" / weights.stem / path.name).pixels
            level = np.abs(quantize(reflectance[0]).astype(int) - expected)
            pictures += 1
            worst_level = max(worst_level, int(level.max()))
            worst_share = max(worst_share, float((level > 0).mean()))
    if not pictures:
        return Promise(what, bound, f"skipped: no photographs below {OFFICIAL / 'images'}", None)
    measured = f"{worst_level} level(s), on {worst_share * 1e5:.2f} in 100,000, worst of {pictures} pictures"
    return Promise(what, bound, measured, worst_level <= 1 and worst_share <= 2e-5)


def loss_call(impl: str, height: int, width: int) -> Callable[[], list[Tensor]]:
    """A call that computes the smoothness loss and both gradients, after a small one that sets PyTorch up.

    impl: as for `smooth_loss`, or "12 pairs" for the eager rewrite.
    """
    function = twelve_pairs if impl == "12 pairs" else functools.partial(smooth_loss, impl=impl)
    function(*loss_inputs(8, 8)).backward()
    leaves = loss_inputs(height, width)

    def call() -> list[Tensor]:
        for leaf in leaves:
            leaf.grad = None
        loss = function(*leaves)
        loss.backward()
        return [loss.detach(), *golden_losses.gradients(*leaves)]

    return call


def loss_rows(size: tuple[int, int] = LOSS_SIZE, repeats: int = 3) -> Iterator[Promise]:
    """The fused loss compared with the reference: parity first, then time, then memory.

    Most of the reference's time on a CPU is `torch.norm`, as in the official code. The time of the eager rewrite, which
    has no bound to keep, shows what remains without that.
    """
    name = f"loss, forward and backward, {size[1]}x{size[0]}, CPU"
    ours = default_impl("cpu")
    calls = {impl: loss_call(impl, *size) for impl in (ours, "reference", "12 pairs")}
    expected = calls["reference"]()
    error = max(max(golden_losses.compare(calls[impl](), expected)) for impl in (ours, "12 pairs"))
    if error > 1e-5:
        yield Promise(f"{name}: time", ">= 70x faster", f"not timed: parity {error:.1e}", False)
        return
    times = interleave(calls, repeats, warm=False)  # parity was the warm-up
    fused, reference, rewrite = (times[impl].median for impl in calls)
    measured = f"{reference / fused:.1f}x ({ours}, {fused * 1e3:.0f} ms, {reference:.2f} s; parity {error:.0e})"
    measured += f"; {rewrite / fused:.1f}x a 12-pair eager rewrite"
    yield Promise(f"{name}: time", ">= 70x faster", measured, reference >= 70 * fused)
    memory = {impl: extra_memory("bench.promises.cli:loss_call", impl, *size) for impl in (ours, "reference")}
    share = memory[ours] / memory["reference"]
    measured = f"{share:.1%} ({memory[ours] / 1e6:.0f} MB, {memory['reference'] / 1e6:.0f} MB)"
    yield Promise(f"{name}: extra memory", "at most 25 %", measured, share <= 0.25)


def step_row(size: tuple[int, int] = STEP_SIZE, repeats: int = 5) -> Promise:
    """The training step compared with the reference: first losses, then time."""
    fused, reference, difference = step_times(size, repeats)
    what = f"training step, 3 stages, {size[1]}x{size[0]}, CPU"
    if difference > 1e-5:
        return Promise(what, ">= 5x faster", f"not compared: first losses differ by {difference:.1e}", False)
    measured = f"{reference / fused:.1f}x ({fused:.3f} s, {reference:.3f} s; first losses within {difference:.0e})"
    return Promise(what, ">= 5x faster", measured, reference >= 5 * fused)


def all_rows() -> Iterator[Promise]:
    """Every promise, those that are quick to measure first."""
    yield from golden_rows(torch.float64)
    yield from golden_rows(torch.float32)
    yield trajectory_row("train_3stage", Network(stage=3), LR)
    yield trajectory_row("finetune", FinetuneNetwork(), FINETUNE_LR)
    yield official_row()
    yield step_row()
    yield from loss_rows()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench figures", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows, with machine and versions")
    args = parser.parse_args(argv)
    machine = environment()
    print(", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
    rows = []
    for row in all_rows():
        rows.append(row)
        verdict = {True: "pass", False: "FAIL", None: "skip"}[row.passed]
        print(f"{verdict}  {row.what}\n      must: {row.bound}\n      got:  {row.measured}", flush=True)
    if args.json:
        content = {"environment": machine, "figures": [row._asdict() for row in rows]}
        if save_json(args.json, content):
            return 2
    counts = [sum(row.passed is passed for row in rows) for passed in (True, False, None)]
    print("{} pass, {} fail, {} skipped".format(*counts))
    return 1 if counts[1] else 0
