"""Counts, without a GPU, the operators that a training step dispatches and the bytes of memory that they move.

For a GPU, a step is made with tensors that have sizes but no memory, and are treated as a GPU's would be; for a CPU,
with real ones. It is assumed that each operator reads its tensors once and writes its results once, and that views and
allocations move nothing. BatchNorm's gradient has two passes that read, and both are counted. Memory that an operator
moves internally is not seen, such as for the loss's color transform or a convolution's change of layout.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from model import Network
from model.network import planned_for_gpu
from sci_kernels import LossFunction
from train.step import make_optimizer, step_values

from .training_step import LR, STAGES

SIDE = 96
_ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


class Dispatched(NamedTuple):
    """The counts of one step."""

    operators: int
    bytes_a_pixel: float  # in float32


def dispatched_step(gpu: bool) -> Dispatched:
    """The counts of a step of three stages with the optimizer, as on a GPU or on this CPU."""
    with contextlib.ExitStack() as stack:
        if gpu:
            stack.enter_context(planned_for_gpu())
            stack.enter_context(FakeTensorMode())
        impl = "triton" if gpu else "auto"
        model, criterion = Network(STAGES, impl=impl, exact=False).train(), LossFunction(impl=impl)
        optimizer = make_optimizer(model, LR)
        image = 0.3 * torch.rand(1, 3, SIDE, SIDE)
        step_values(model, criterion, optimizer, image)  # the first step allocates the optimizer's state
        count = stack.enter_context(_Count())
        step_values(model, criterion, optimizer, image)
    return Dispatched(count.operators, count.bytes / SIDE**2)


def step_text() -> tuple[dict[str, dict[str, float]], str]:
    """The counts for a GPU and for this CPU, as rows have them, and as a line of text."""
    counts = {"gpu": dispatched_step(True), "cpu": dispatched_step(False)}
    gpu, cpu = counts["gpu"], counts["cpu"]
    text = (
        f"a step of {STAGES} stages dispatches {gpu.operators} operators on a GPU, which move {gpu.bytes_a_pixel:,.0f} "
        f"bytes per pixel in float32, and {cpu.operators} on this CPU (counted, not timed)"
    )
    return {device: count._asdict() for device, count in counts.items()}, text


class _Count(TorchDispatchMode):
    """Counts the operators on tensors and the bytes that they move."""

    def __init__(self):
        super().__init__()
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.namespace not in ("prim", "profiler"):  # these ask for a tensor's device, or mark events for profilers
            self.operators += 1
            self.bytes += _moved(func, args, out)
        return out


def _moved(func: torch._ops.OpOverload, args: tuple, out: object) -> int:
    if func.is_view or func._opname in (*_ALLOCATIONS, "detach"):
        return 0
    if func._opname.startswith("batch_norm_relu_bwd"):
        _, other, z, *_ = args
        # Both passes read grad and z, one writes the result; with `other`, that is read and a sum written as well.
        return _size(z) * (5 if other is None else 7)
    written = [arg for arg, of in zip(args, func._schema.arguments, strict=False) if of.alias_info]
    return sum(map(_size, _tensors(args))) + sum(map(_size, _tensors(written or out)))


def _tensors(values: object) -> Iterator[Tensor]:
    return (leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, Tensor))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
