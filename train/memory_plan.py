"""How much memory a training step takes, and how large an image may be: `python -m train plan --memory 24GiB`.

A step is run with tensors that have sizes but no memory, treated as those of a GPU. Every storage counts from its
creation to its end; the largest sum is the peak. The peaks for two image sizes give the bytes per pixel and the bytes
that do not depend on the size. What libraries need in addition is not known: `RESERVE` is an estimate.
"""

import argparse
import contextlib
import dataclasses
import functools
import math
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import sci_kernels
from model.machine import memory_size
from model.network import CHECKPOINTS, FinetuneNetwork, Network, planned_for_gpu

from .config import Settings
from .step import stage_losses

GIB = 1 << 30
RESERVE = GIB  # context, kernels, workspaces of cuDNN, what the allocator cannot use
_SIDES = (96, 192)
_PARTS = ("images", "enhance", "calibrate", "loss")


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """The settings that the memory of a step depends on; the image size is given separately."""

    stage: int = 3
    amp: str = "off"
    checkpoint: str = "off"
    finetune: bool = False
    exact: bool = False
    color: str = "reference"
    impl: str = "triton"
    held: bool = False  # whether the outputs of the network are kept until the losses are known, as in official code


OFFICIAL = PlannedStep(exact=True, impl="reference", held=True)


class StepMemory(NamedTuple):
    """Bytes of one step: kept from forward for backward, by part, and the largest sum at any moment."""

    kept: dict[str, int]
    peak: int


class MemoryPlan(NamedTuple):
    """Bytes per pixel, kept by part and at the peak, and the bytes of the peak that do not depend on the size."""

    kept: dict[str, float]
    peak: float
    constant: float

    def total(self, pixels: int) -> float:
        """Bytes for a step of this many pixels, in all images of the batch together."""
        return self.peak * pixels + self.constant + RESERVE

    def pixels(self, memory: float) -> int:
        """The largest number of pixels for which this many bytes are enough."""
        return max(0, math.floor((memory - RESERVE - self.constant) / self.peak))

    def largest(self, memory: float, batch: int = 1) -> tuple[int, int]:
        """Height and width of the largest 16:9 image; (0, 0) where not even a small one fits."""
        unit = math.isqrt(self.pixels(memory) // batch // 144)
        return 9 * unit, 16 * unit


@functools.cache
def plan(step: PlannedStep) -> MemoryPlan:
    """The memory of a step on a GPU, as a function of the pixels."""
    small, large = (measure(step, side, side) for side in _SIDES)
    pixels = [side * side for side in _SIDES]
    peak = (large.peak - small.peak) / (pixels[1] - pixels[0])
    kept = {part: (large.kept[part] - small.kept[part]) / (pixels[1] - pixels[0]) for part in _PARTS}
    return MemoryPlan(kept, peak, small.peak - peak * pixels[0])


def measure(step: PlannedStep, height: int, width: int, fake: bool = True) -> StepMemory:
    """Count the memory of one step, forward and backward, with one image of a size.

    fake: with tensors without memory, treated as those of a GPU; otherwise with real ones, on the CPU.
    """
    with contextlib.ExitStack() as stack:
        if fake:
            stack.enter_context(planned_for_gpu())
            stack.enter_context(FakeTensorMode())
        live = stack.enter_context(_LiveBytes(step.color == "reference" and step.impl == "triton"))
        model = (
            FinetuneNetwork(step.impl, step.checkpoint)
            if step.finetune
            else Network(step.stage, step.impl, step.exact, step.checkpoint)
        ).train()
        criterion = sci_kernels.LossFunction(color=step.color, impl=step.impl)
        kept = stack.enter_context(_KeptBytes(model, criterion))
        image = torch.rand(1, 3, height, width) * 0.3
        kept.count("images", image)
        held = []
        if step.held:
            model.register_forward_hook(lambda *call: held.append(call[-1]))
        losses = stage_losses(model, criterion, image, step.amp)
        held.clear()
        losses.sum().backward()
    return StepMemory(kept.bytes, live.peak)


class _LiveBytes(TorchDispatchMode):
    """The largest sum of the bytes of all storages alive at a time; one whose memory was freed counts as 0 bytes.

    Args:
        transforms: whether the loss transforms colors, which takes memory that only its operator knows of.
    """

    def __init__(self, transforms: bool):
        super().__init__()
        self.transforms = transforms
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._enter(tensor.untyped_storage())
        now = sum(storage.nbytes() for storage in [known() for known in self._known.values()] if storage is not None)
        hidden = 0
        if self.transforms and func.namespace == "sci" and "loss" in func.name():
            # The transformed colors, and in backward their gradient as well, in float32.
            image = next(arg for arg in args if isinstance(arg, Tensor) and arg.dim() == 4)
            hidden = (2 if "bwd" in func.name() else 1) * image.numel() * 4
        self.peak = max(self.peak, now + hidden)
        return out

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = weakref.ref(storage, lambda _: self._known.pop(key))


class _KeptBytes(contextlib.ExitStack):
    """The bytes that autograd keeps, without parameters; a storage counts once, for the part that keeps it first."""

    def __init__(self, model: Network | FinetuneNetwork, criterion: nn.Module):
        super().__init__()
        self.bytes = dict.fromkeys(_PARTS, 0)
        self._part = "images"
        self._seen: dict[int, weakref.ref] = {}
        for tensor in (*model.parameters(), *model.buffers()):
            self._first(tensor)
        parts = {"enhance": model.enhance, "loss": criterion}
        if isinstance(model, Network):
            parts["calibrate"] = model.calibrate
        for part, module in parts.items():
            module.register_forward_pre_hook(lambda *_, part=part: self._begin(part))
            module.register_forward_hook(lambda *_: self._begin("images"))
        self.enter_context(torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor))

    def count(self, part: str, tensor: Tensor) -> None:
        """Count a tensor that is kept by `part`, unless its memory has been counted."""
        if self._first(tensor):
            self.bytes[part] += tensor.untyped_storage().nbytes()

    def _begin(self, part: str) -> None:
        self._part = part

    def _pack(self, tensor: Tensor) -> Tensor:
        self.count(self._part, tensor)
        return tensor.detach()  # the tensor itself refers to the graph, which would then keep itself alive

    def _first(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return False
        # Removed when the storage ends, as another may then get its address.
        self._seen[key] = weakref.ref(storage, lambda _: self._seen.pop(key, None))
        return True


def advice(settings: Settings, height: int, width: int, batch: int, memory: int | None) -> str:
    """What to do about a step that did not fit: the planned memory of settings that need less, and a crop that fits."""
    step = PlannedStep(settings.stage, settings.amp, settings.checkpoint, bool(settings.finetune))
    pixels, planned = height * width * batch, []
    for amp, checkpoint in (("off", "block"), ("bf16", "off"), ("bf16", "block")):
        other = dataclasses.replace(step, amp=amp, checkpoint=checkpoint)
        if plan(other).peak < plan(step).peak:
            planned.append(f"{plan(other).total(pixels) / GIB:.1f} with --amp {amp} --checkpoint {checkpoint}")
    words = f"planned for it: {', '.join([f'{plan(step).total(pixels) / GIB:.1f} GiB', *planned])}"
    if memory is None:
        return words
    h, w = plan(step).largest(memory, batch)
    return f"{words}; of the device: {memory / GIB:.1f}, enough for --crop {h} {w}"


def main(argv: list[str] | None = None) -> int:
    """`python -m train plan`."""
    parser = argparse.ArgumentParser(
        prog="python -m train plan",
        description="The largest image that can be trained on in a GPU's memory, planned from the tensors of a step.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--memory",
        type=memory_size,
        default=24 * GIB,
        metavar="SIZE",
        help="memory of the GPU, such as 24GiB (24GB is 7 %% less)",
    )
    add("--stage", type=int, default=3, metavar="N", help="stages (3)")
    add("--batch-size", type=int, default=1, metavar="N", help="images per step (1)")
    add("--amp", choices=("off", "bf16"), default="off", help="as for training (off)")
    add("--checkpoint", choices=CHECKPOINTS, default="off", help="as for training (off)")
    add("--exact", action="store_true", help="as for training")
    add("--finetune", action="store_true", help="the enhance network alone")
    add("--official", action="store_true", help="the step of the official code, to compare with")
    args = parser.parse_args(argv)
    for name in ("stage", "batch_size"):
        if not 1 <= getattr(args, name) <= 100:
            parser.error(f"--{name.replace('_', '-')}: expected a number from 1 to 100; got {getattr(args, name)}")
    step = PlannedStep(args.stage, args.amp, args.checkpoint, args.finetune, args.exact)
    if args.official:
        if args.checkpoint != "off":
            parser.error(f"--checkpoint: expected off with --official; got {args.checkpoint}; leave one of them out")
        step = dataclasses.replace(OFFICIAL, stage=args.stage, amp=args.amp, finetune=args.finetune)
    print("\n".join(_lines(step, args.memory, args.batch_size)))
    return 0


def _lines(step: PlannedStep, memory: float, batch: int) -> Iterator[str]:
    found = plan(step)
    kind = ("the official code, " if step.held else "") + ("fine-tuning" if step.finetune else f"{step.stage} stages")
    yield f"{kind}, amp {step.amp}, checkpoint {step.checkpoint}, batch {batch}: planned, not measured"
    for part, value in found.kept.items():
        yield f"  kept for backward, {part:10} {value:8.0f} bytes per pixel"
    yield f"  {'at the peak, in all':28}{found.peak:8.0f} bytes per pixel"
    height, width = found.largest(memory, batch)
    size = f"{width} x {height}" if height else "none"
    yield f"  largest 16:9 image in {memory / GIB:g} GiB, less {RESERVE / GIB:g} for CUDA and its libraries: {size}"
