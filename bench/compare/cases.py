"""What is compared: operations, sizes, providers, the bytes they must move and the memory they need."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sci_kernels import retinex, smooth_loss
from sci_kernels.constants import ILLUMINATION_MAX, ILLUMINATION_MIN, SIGMA
from sci_kernels.reference import compute_dtype

from ..baselines import twelve_pairs, written_out

# With the error at which a provider is not timed: the rounding of gradients, which have their argument's dtype.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 1e-5, torch.float64: 1e-11}
# One level of a dark picture in bytes, which every implementation truncates to on its own.
TOLERANCE |= {torch.uint8: 1 / 80}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCE}
# What each operation can be compared in: convolutions and training where rounding says little.
_FLOATS = ("float16", "bfloat16", "float32", "float64")
OP_DTYPES: dict[str, tuple[str, ...]] = {"loss": _FLOATS, "retinex": _FLOATS}
OP_DTYPES |= {"enhance": ("uint8", "float32", "float64"), "step": ("float32", "float64")}

# Bytes a pixel that a call needs beyond its inputs in float32; measured on a CPU, for triton counted: the gradients and
# partial sums; for compiled networks not measured, and taken to be the reference's.
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
# Only when asked for: the one is there to judge the reference, the other is a choice that is not the default.
ON_REQUEST = ("written-out", "ours-convolutions")
# Values of 3 channels that pass between memory and processor, once each: what is read + what is written. The last part
# is the whole operation.
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
    # image + reflectance, as a picture is enhanced; image + illumination, reflectance. What lies between need not move.
    "enhance": {"reflectance": 3 + 3, "forward": 3 + 2 * 3},
    "step": {"step": None},  # what a network has to move is not counted
}
# Of a training step in float32: rounding decides signs at ties, and with them digits of the gradient.
STEP_TOLERANCE = {torch.float32: 2e-2, torch.float64: 1e-9}


Operation = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One operation on one image of 3 channels. `color` is None where the operation knows none."""

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
        """Of one set of inputs."""
        return {"loss": 2, "retinex": 3, "enhance": 1, "step": 1}[self.op] * 3 * self.pixels * self.dtype.itemsize

    @property
    def main_part(self) -> str:
        """The part that is the whole operation."""
        return list(VALUES[self.op])[-1]

    @property
    def tolerance(self) -> float:
        """The error at which a provider is not timed."""
        return (STEP_TOLERANCE if self.op == "step" else TOLERANCE)[self.dtype]

    def error(self, got: list[Tensor], expected: list[Tensor]) -> float:
        """The worst of all tensors' errors. A step's loss is held to the tolerance of a loss, not to its gradients'."""
        worst = worst_error(got, expected)
        if self.op == "step":
            worst = max(worst, worst_error(got[:1], expected[:1]) * self.tolerance / TOLERANCE[self.dtype])
        return worst

    def moved_bytes(self, part: str) -> int | None:
        """What a call must move between memory and processor if it moves everything once; None if it is not counted."""
        values = VALUES[self.op][part]
        return None if values is None else values * self.pixels * self.dtype.itemsize

    def needed_bytes(self, provider: str, sets: int = 1) -> int:
        """An estimate of what the whole operation on each of `sets` sets of inputs needs beside the inputs."""
        return PROVIDERS[self.op][provider] * self.pixels * max(4, self.dtype.itemsize) // 4 * sets

    def small(self) -> "Case":
        """A few tiles of the same alignment, cheap enough for float64."""
        return replace(self, height=131, width=256 + self.width % 4)

    def another_size(self) -> "Case":
        """An image a little smaller, of the same alignment."""
        return replace(self, height=max(3, self.height - 2), width=self.width - 4 if self.width > 8 else self.width)

    def inputs(self, device: str, seed: int = 0) -> list[Tensor]:
        """Random arguments of the operation, far from where rounding would decide which side of a clamp is taken."""
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
        """The incoming gradients, if any. That of the loss is large enough for gradients in half precision."""
        if self.op in ("enhance", "step"):
            return []
        if self.op == "loss":
            dtype = compute_dtype(torch.empty(0, dtype=self.dtype))
            return [torch.tensor(float(self.pixels), dtype=dtype, device=device)]
        generator = torch.Generator(device).manual_seed(1)
        shape = (1, 3, self.height, self.width)
        return [torch.randn(shape, generator=generator, device=device).to(self.dtype) for _ in range(2)]


def function_of(op: str, provider: str, color: str | None) -> Operation:
    """The operation as `provider` has it; a new function each time, so that nothing of it is compiled yet."""
    if op == "enhance":
        from ..networks import Enhance  # here, since networks need packages that the operators do without

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
    """A call of one part on the set of inputs it is given the number of; graphs that it needs are made here."""
    if part == "forward":
        return torch.no_grad()(lambda index: function(*sets[index]))
    if part in ("step", "reflectance"):
        method = getattr(function, part)  # of TrainingStep and Enhance
        return lambda index: method(*sets[index])
    wanted = 1 if part == "backward illumination" else 0  # the first argument that gets a gradient
    leaves = [[t.detach().requires_grad_(i >= wanted) for i, t in enumerate(inputs)] for inputs in sets]

    def gradients(outputs: Tensor | tuple[Tensor, ...], index: int, keep: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs, leaves[index][wanted:], cotangents, retain_graph=keep)

    if part == "forward+backward":
        return lambda index: gradients(function(*leaves[index]), index, False)
    graphs = [function(*inputs) for inputs in leaves]
    return lambda index: gradients(graphs[index], index, True)


def evaluate(function: Operation, inputs: list[Tensor], cotangents: list[Tensor]) -> list[Tensor]:
    """Outputs and all gradients; of a function without gradients, or that returns its own, its outputs."""
    leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if not cotangents:
        return list(outputs)
    grads = torch.autograd.grad(outputs, leaves, cotangents)
    return [*(output.detach() for output in outputs), *grads]


def worst_error(got: list[Tensor], expected: list[Tensor]) -> float:
    """The worst of all tensors' errors, in norm and of the worst element to the largest; NaN counts as infinite."""
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
    """A factory for `measure.extra_memory`: the whole operation; what PyTorch sets up once is set up here."""
    case = Case(op, height, width, DTYPES[dtype], color)
    function = function_of(op, provider, color)
    tiny = replace(case, height=16, width=16)
    evaluate(function, tiny.inputs("cpu"), tiny.cotangents("cpu"))
    call = part_call(function, case.main_part, [case.inputs("cpu")], case.cotangents("cpu"))
    return lambda: call(0)
