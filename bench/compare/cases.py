"""What is compared: operations, their inputs, and the providers that compute them.

To add a provider, name it in `PROVIDERS` with the memory that it needs, and return its function from `function_of`.
Implementations that serve as baselines alone are in `bench/baselines.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sci_kernels import retinex, smooth_loss
from sci_kernels.constants import ILLUMINATION_MAX, ILLUMINATION_MIN, SIGMA
from sci_kernels.reference import compute_dtype

from ..baselines import twelve_pairs, written_out

# A provider with a larger error is not timed. The errors are those of rounding gradients to their argument's dtype.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 1e-5, torch.float64: 1e-11}
# One of the about 80 levels of a dark picture in bytes: each implementation truncates to a level by itself.
TOLERANCE |= {torch.uint8: 1 / 80}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCE}
# The dtypes in which each operation can be compared: where networks are in it, those in which rounding says little.
_FLOATS = ("float16", "bfloat16", "float32", "float64")
OP_DTYPES: dict[str, tuple[str, ...]] = {"loss": _FLOATS, "retinex": _FLOATS}
OP_DTYPES |= {"enhance": ("uint8", "float32", "float64"), "step": ("float32", "float64")}

# Bytes per pixel that a call needs beyond its inputs in float32. They were measured on a CPU, except those of triton,
# which are counted (gradients and partial sums), and those of compiled networks, for which the reference's are taken.
PROVIDERS = {
    "loss": {
        "reference": 1000,
        "pairs": 570,
        "blocked": 150,
        "native": 50,
        "triton": 50,
        "compiled": 430,
        "compiled-dynamic": 430,
        "written-out": 1000,
    },
    "retinex": {
        "reference": 140,
        "blocked": 150,
        "native": 60,
        "triton": 60,
        "compiled": 75,
        "compiled-dynamic": 75,
    },
    "enhance": {"reference": 140, "compiled": 140, "ours": 75},
    "step": {"reference": 5300, "compiled": 5300, "ours": 2200, "ours-convolutions": 2200},
}
# Providers that run only when asked for: the first is there to judge the reference, the second is not the default.
ON_REQUEST = ("written-out", "ours-convolutions")
# Values per pixel that must pass between memory and processor: those read + those written, each once, three channels
# of each image. The last part of an operation is the whole of it.
VALUES: dict[str, dict[str, int | None]] = {
    "loss": {
        "forward": 2 * 3,  # input, illumination
        "backward": 2 * 3 + 2 * 3,  # input, illumination + both gradients
        "backward illumination": 2 * 3 + 3,  # input, illumination + its gradient
        "forward+backward": 6 + 12,
    },
    "retinex": {
        "forward": 3 * 3 + 2 * 3,  # residual, stage input, image + illumination, reflectance
        "backward": 5 * 3 + 2 * 3,  # those three and two incoming gradients + one of the sum, one of the image
        "forward+backward": 15 + 21,
    },
    # image + reflectance, as pictures are enhanced; image + illumination, reflectance. What is between need not move.
    "enhance": {"reflectance": 3 + 3, "forward": 3 + 2 * 3},
    "step": {"step": None},  # not counted for networks
}
# The tolerances of a training step. In float32 rounding decides signs at ties, and so digits of the gradient.
STEP_TOLERANCE = {torch.float32: 2e-2, torch.float64: 1e-9}


Operation = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One operation on one image of 3 channels. `color` is None for operations without a color transform."""

    op: str
    height: int
    width: int
    dtype: torch.dtype = torch.float32
    color: str | None = None

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return " ".join(filter(None, (self.op, self.color, f"{self.width}x{self.height}", dtype)))

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def input_bytes(self) -> int:
        """The bytes of one set of inputs."""
        return {"loss": 2, "retinex": 3, "enhance": 1, "step": 1}[self.op] * 3 * self.pixels * self.dtype.itemsize

    @property
    def main_part(self) -> str:
        """The name of the part that is the whole operation."""
        return list(VALUES[self.op])[-1]

    @property
    def tolerance(self) -> float:
        """A provider with a larger error is not timed."""
        return (STEP_TOLERANCE if self.op == "step" else TOLERANCE)[self.dtype]

    def error(self, got: list[Tensor], expected: list[Tensor]) -> float:
        """The largest error of all tensors, to be compared with `tolerance`.

        The error of a step's loss is scaled up, since it must keep the tolerance of a loss, not that of gradients.
        """
        worst = worst_error(got, expected)
        if self.op == "step":
            worst = max(worst, worst_error(got[:1], expected[:1]) * self.tolerance / TOLERANCE[self.dtype])
        return worst

    def moved_bytes(self, part: str) -> int | None:
        """The bytes that a call must move between memory and processor, each once; None where they are not counted."""
        values = VALUES[self.op][part]
        return None if values is None else values * self.pixels * self.dtype.itemsize

    def needed_bytes(self, provider: str, sets: int = 1) -> int:
        """An estimate of the memory that the whole operation needs on so many sets of inputs, besides the inputs."""
        return PROVIDERS[self.op][provider] * self.pixels * max(4, self.dtype.itemsize) // 4 * sets

    def small(self) -> "Case":
        """The same on an image of a few tiles and the same alignment, which is fast even in float64."""
        return replace(self, height=131, width=256 + self.width % 4)

    def another_size(self) -> "Case":
        """The same on an image that is a little smaller, of the same alignment."""
        return replace(self, height=max(3, self.height - 2), width=self.width - 4 if self.width > 8 else self.width)

    def inputs(self, device: str, seed: int = 0) -> list[Tensor]:
        """Random arguments of the operation, away from values where rounding would decide the side of a clamp."""
        generator = torch.Generator(device).manual_seed(seed)
        shape = (1, 3, self.height, self.width)
        if self.op in ("enhance", "step"):
            picture = 0.3 * torch.rand(shape, generator=generator, device=device)
            return [(255 * picture if self.dtype == torch.uint8 else picture).to(self.dtype)]
        first, second, third = (torch.rand(shape, generator=generator, device=device) for _ in range(3))
        if self.op == "loss":
            picture = 0.3 * first
            return [picture.to(self.dtype), (picture + 0.5 * second).to(self.dtype)]
        residual, stage_input, quotient = 0.05 + 0.9 * first, 0.5 * second, 1.5 * third
        quotient[(quotient - 1).abs() < 0.05] = 0.5
        image = quotient * (residual + stage_input).clamp(ILLUMINATION_MIN, ILLUMINATION_MAX)
        return [tensor.to(self.dtype) for tensor in (residual, stage_input, image)]

    def cotangents(self, device: str) -> list[Tensor]:
        """The incoming gradients, if any. The loss's is large, so that gradients do not underflow in half precision."""
        if self.op in ("enhance", "step"):
            return []
        if self.op == "loss":
            dtype = compute_dtype(torch.empty(0, dtype=self.dtype))
            return [torch.tensor(float(self.pixels), dtype=dtype, device=device)]
        generator = torch.Generator(device).manual_seed(1)
        shape = (1, 3, self.height, self.width)
        return [torch.randn(shape, generator=generator, device=device).to(self.dtype) for _ in range(2)]


def function_of(op: str, provider: str, color: str | None) -> Operation:
    """The operation by a provider: each time a new function, of which nothing is compiled yet."""
    if op == "enhance":
        from ..networks import Enhance  # imported here, since networks need packages that the operators do not need

        return Enhance(provider)
    if op == "step":
        from ..networks import TrainingStep

        return TrainingStep(provider)
    impl = "reference" if provider.startswith("compiled") else provider
    function = _retinex(impl) if op == "retinex" else _loss(impl, color or "reference")
    if impl == provider:
        return function
    return torch.compile(function, fullgraph=True, dynamic=provider == "compiled-dynamic")


def _loss(impl: str, color: str) -> Operation:
    if impl == "pairs":
        return lambda input, illumination: twelve_pairs(input, illumination, SIGMA, color)
    if impl == "written-out":
        return lambda input, illumination: written_out(input, illumination, SIGMA, color)
    return lambda input, illumination: smooth_loss(input, illumination, SIGMA, color, impl)


def _retinex(impl: str) -> Operation:
    return lambda residual, stage_input, image: retinex(residual, stage_input, image, impl)


def part_call(
    function: Operation, part: str, sets: list[list[Tensor]], cotangents: list[Tensor]
) -> Callable[[int], object]:
    """A function of an index that computes one part on that set of inputs; the graphs that it needs are made here."""
    if part == "forward":
        return torch.no_grad()(lambda index: function(*sets[index]))
    if part in ("step", "reflectance"):
        method = getattr(function, part)  # of TrainingStep and Enhance
        return lambda index: method(*sets[index])
    first = 1 if part == "backward illumination" else 0  # index of the first argument that gets a gradient
    leaves = [[t.detach().requires_grad_(i >= first) for i, t in enumerate(inputs)] for inputs in sets]

    def gradients(outputs: Tensor | tuple[Tensor, ...], index: int, keep: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs, leaves[index][first:], cotangents, retain_graph=keep)

    if part == "forward+backward":
        return lambda index: gradients(function(*leaves[index]), index, False)
    graphs = [function(*inputs) for inputs in leaves]
    return lambda index: gradients(graphs[index], index, True)


def evaluate(function: Operation, inputs: list[Tensor], cotangents: list[Tensor]) -> list[Tensor]:
    """Outputs and all gradients; without `cotangents` the outputs alone."""
    leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if not cotangents:
        return list(outputs)
    grads = torch.autograd.grad(outputs, leaves, cotangents)
    return [*(output.detach() for output in outputs), *grads]


def worst_error(got: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative error of all tensors, in the Euclidean and in the maximum norm; NaN counts as infinite."""
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        difference, exact = a.double() - b.double(), b.double()
        for order in (2, math.inf):
            size = float(torch.linalg.vector_norm(exact, order))
            error = float(torch.linalg.vector_norm(difference, order))
            error = error / size if size else (math.inf if error else 0.0)
            worst = max(worst, error if error == error else math.inf)
    return worst


def memory_call(op: str, provider: str, color: str | None, height: int, width: int, dtype: str) -> Callable[[], object]:
    """A factory for `measure.extra_memory`: the whole operation, after PyTorch has set up what it sets up once."""
    case = Case(op, height, width, DTYPES[dtype], color)
    function = function_of(op, provider, color)
    tiny = replace(case, height=16, width=16)
    evaluate(function, tiny.inputs("cpu"), tiny.cotangents("cpu"))
    call = part_call(function, case.main_part, [case.inputs("cpu")], case.cotangents("cpu"))
    return lambda: call(0)
