"""Every launch of a kernel worth compiling, recorded as it would be made on a GPU that need not be present.

The launchers run on fake CUDA tensors of 3840x2160 while their launches are recorded, so what is compiled is what
ships: the same specialisations, strips and marches. Bytes a pixel are counted by hand: each input read once, each
output written once.
"""

import contextlib
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode

from sci_kernels import triton as launchers
from sci_kernels.constants import COLORS, MOST_SOURCES

from ..measure import GPUS

HEIGHT, WIDTH = 2160, 3840
DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
_POINTEES = DTYPES | {torch.uint8: "u8", torch.int64: "i64"}
# Rows above its own that a march begins with.
_ROWS_ABOVE = {"loss_bwd": 2, "enhance": 6, "denoise": 4, "conv": 2, "conv_weight_bwd": 2}


@dataclass(frozen=True)
class RecordedLaunch:
    """A kernel with everything its compilation depends on, and what its counts are divided by."""

    case: str
    name: str
    kernel: triton.JITFunction
    signature: dict[str, str]
    constants: dict[str, object]
    attributes: dict[tuple[int, ...], list]
    options: dict[str, int]
    trips: int  # of its loop; 0: it has none, and a branch for what needs a mask
    program_pixels: float  # pixels that a program completes
    bytes_a_pixel: float


@dataclass(frozen=True)
class Case:
    """One launcher call on fake CUDA tensors."""

    name: str
    call: Callable[[], None]
    nvidia_alone: bool = False


def cases() -> Iterator[Case]:
    """Every launcher call worth compiling."""
    for dtype in DTYPES:
        for color in COLORS:
            for channels in (1, 3) if color != "ycbcr" else (3,):
                for grads in ((True, True), (False, True), (True, False)):
                    # Half precision differs only in its loads and stores: one set of gradients shows that.
                    if dtype == torch.float32 or (channels == 3 and grads == (True, True)):
                        yield loss_case(dtype, color, channels, grads)
        yield loss_case(dtype, "ycbcr", 3, (True, True), width=WIDTH - 1)
        yield _retinex_case(dtype)
        yield _retinex_case(dtype, sigmoid=True)
        yield _batch_norm_case(dtype)
        yield _batch_norm_sums_case(dtype)
        yield _enhance_case(dtype)
        yield _enhance_case(dtype, exposed=True, gain=True)
        yield _denoise_case(dtype)
    yield from _convolution_cases()
    for dtype in (torch.float32, torch.float64):
        yield _exposure_case(dtype)
    yield _enhance_case(torch.uint8)
    yield _enhance_case(torch.uint8, exposed=True, gain=True)
    yield _enhance_case(torch.float32, exposed=True)
    yield _enhance_case(torch.float32, width=WIDTH - 1)
    yield _enhance_case(torch.float32, width=WIDTH - 1, exposed=True, gain=True)
    yield _enhance_case(torch.float32, illumination=True)
    yield _denoise_case(torch.uint8)
    yield _denoise_case(torch.float32, width=WIDTH - 1)
    # Two planes, a smoothness loss alone, and one illumination for three colours.
    yield loss_case(torch.float32, "rgb", 2, (True, True))
    yield loss_case(torch.float32, "ycbcr", 3, (True, True), fidelity=0.0)
    yield loss_case(torch.float32, "rgb", 3, (True, True), fidelity=0.0, l_channels=1)


def _fake(dtype: torch.dtype, channels: int = 3, width: int = WIDTH) -> torch.Tensor:
    return torch.empty(1, channels, HEIGHT, width, dtype=dtype, device="cuda")


def loss_case(
    dtype: torch.dtype,
    color: str,
    channels: int,
    grads: tuple[bool, bool],
    width: int = WIDTH,
    fidelity: float = 1.5,
    l_channels: int | None = None,
) -> Case:
    def call() -> None:
        x, light = _fake(dtype, channels, width), _fake(dtype, l_channels or channels, width)
        grad = torch.empty((), dtype=torch.promote_types(dtype, torch.float32), device="cuda")
        launchers.launch_loss_forward(x, light, 10.0, color, fidelity, 1.0)
        launchers.launch_loss_backward(grad, x, light, 10.0, color, fidelity, 1.0, *grads)

    wanted = {(True, True): "both", (False, True): "illumination", (True, False): "input"}[grads]
    name = f"{DTYPES[dtype]} {color} {channels} {wanted}"
    name += (
        (" unaligned" if width % 4 else "") + ("" if fidelity else " smooth") + (f" L{l_channels}" * bool(l_channels))
    )
    return Case(name, call)


def _retinex_case(dtype: torch.dtype, sigmoid: bool = False) -> Case:
    def call() -> None:
        residual, stage_input, image, grad_illumination, grad_reflectance = (_fake(dtype) for _ in range(5))
        launchers.launch_retinex_forward(residual, stage_input, image, dtype, sigmoid)
        launchers.launch_retinex_backward(
            grad_illumination, grad_reflectance, residual, stage_input, image, dtype, sigmoid
        )

    return Case(f"{DTYPES[dtype]} retinex" + " sigmoid" * sigmoid, call)


def _batch_norm_case(dtype: torch.dtype) -> Case:
    """Features of one channel, so that what is counted a pixel is counted a pixel and channel."""

    def call() -> None:
        z, residual, grad = (_fake(dtype, 1) for _ in range(3))
        channel = torch.empty(1, dtype=torch.promote_types(dtype, torch.float32), device="cuda")
        running = channel, channel, torch.empty((), dtype=torch.int64, device="cuda"), 0.1
        table = launchers.launch_batch_norm_statistics(z, channel, channel, channel, *running, 1e-5)
        launchers.launch_batch_norm_relu([z], [table], residual, False)
        launchers.launch_batch_norm_relu_gradient(grad, grad, None, z, table, table)

    return Case(f"{DTYPES[dtype]} batch_norm", call)


def _batch_norm_sums_case(dtype: torch.dtype) -> Case:
    """Likewise, of what is in several parts: as many layers as one pass takes, and a gradient of two."""

    def call() -> None:
        z, grad = (_fake(dtype, 1) for _ in range(2))
        table = torch.empty(4, 1, dtype=torch.promote_types(dtype, torch.float32), device="cuda")
        launchers.launch_batch_norm_relu([z] * MOST_SOURCES, [table] * MOST_SOURCES, None, False)
        launchers.launch_batch_norm_relu_gradient(grad, grad, z, z, table, table)

    return Case(f"{DTYPES[dtype]} batch_norm parts", call)


def _convolution_cases() -> Iterator[Case]:
    """Precisions and dtypes of 16 channels, what a network begins and ends with, and rows that hold no vectors."""
    for dtype, precision in (
        (torch.float32, "tf32x3"), (torch.float32, "tf32"), (torch.bfloat16, "exact"), (torch.float16, "exact")
    ):  # fmt: skip
        yield from _convolution_pair(dtype, precision)
    for c_in, c_out in ((3, 16), (16, 3)):
        yield from _convolution_pair(torch.float32, "tf32x3", c_in, c_out)
    yield from _convolution_pair(torch.float32, "tf32x3", width=WIDTH - 1)


def _convolution_pair(
    dtype: torch.dtype, precision: str, c_in: int = 16, c_out: int = 16, width: int = WIDTH
) -> Iterator[Case]:
    """Forward and the gradient of the weights; that of the input, which has the same kernel as forward."""

    def features(channels: int) -> torch.Tensor:
        return _fake(dtype, channels, width)

    def call() -> None:
        bias = torch.empty(c_out, dtype=dtype, device="cuda")
        launchers.launch_convolution(features(c_in), weight(), bias, precision)
        launchers.launch_convolution_weight_gradient(features(c_out), features(c_in), precision)

    def call_gradient() -> None:
        launchers.launch_convolution_input_gradient(features(c_out), weight(), precision)

    def weight() -> torch.Tensor:
        return torch.empty(c_out, c_in, 3, 3, dtype=dtype, device="cuda")

    name = f"{DTYPES[dtype]} conv" + f" {precision}" * (precision != "exact")
    name += ("" if c_in == c_out else f" {c_in} to {c_out}") + " unaligned" * (width % 4 > 0)
    yield Case(name, call, nvidia_alone=True)
    yield Case(f"{name} input", call_gradient, nvidia_alone=True)


def _enhance_case(
    dtype: torch.dtype, width: int = WIDTH, illumination: bool = False, exposed: bool = False, gain: bool = False
) -> Case:
    def call() -> None:
        image = _fake(dtype, 3, width)
        exposure = torch.empty(1, dtype=torch.promote_types(dtype, torch.float32), device="cuda") if exposed else None
        launchers.launch_enhance(image, weights, illumination, exposure, 0.4, gain)

    weights = tuple(index / 252 for index in range(252))  # all different, as those of a checkpoint are
    name = f"{_POINTEES[dtype]} enhance" + (" unaligned" if width % 4 else "") + " illumination" * illumination
    name += " exposed" * exposed + " gain" * gain
    return Case(name, call)


def _exposure_case(dtype: torch.dtype) -> Case:
    def call() -> None:
        launchers.launch_exposure(_fake(dtype), _fake(dtype), 0.4, 0.4)

    return Case(f"{DTYPES[dtype]} exposure", call)


def _denoise_case(dtype: torch.dtype, width: int = WIDTH) -> Case:
    def call() -> None:
        gain = _fake(torch.float64 if dtype == torch.float64 else torch.float32, 1, width)
        launchers.launch_denoise(_fake(dtype, 3, width), gain, 1.0)

    return Case(f"{_POINTEES[dtype]} denoise" + (" unaligned" if width % 4 else ""), call)


def record(case: Case, target: str) -> list[RecordedLaunch]:
    """The launches that a case would make on `target`, none of them executed; none where its kernels cannot run."""
    launches: list[RecordedLaunch] = []
    is_amd = target.startswith("gfx")
    if is_amd and case.nvidia_alone:
        return launches
    capability = None if is_amd else divmod(int(target.removeprefix("sm_")), 10)

    def run(kernel: triton.JITFunction, *args: object, **options: object) -> None:
        launches.append(_recorded(case.name, kernel, args, options))

    with (
        unittest.mock.patch.object(triton.JITFunction, "run", run),
        unittest.mock.patch.object(torch.version, "hip", "any" if is_amd else None),
        unittest.mock.patch.object(torch.cuda, "get_device_capability", lambda device: capability),
        unittest.mock.patch(
            "sci_kernels.triton.neighbours.multiprocessors", lambda device: GPUS[target].multiprocessors
        ),
        unittest.mock.patch.object(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext()),
        FakeTensorMode(),
    ):
        case.call()
    return launches


def _recorded(case: str, kernel: triton.JITFunction, args: tuple, options: dict) -> RecordedLaunch:
    signature: dict[str, str] = {}
    constants: dict[str, object] = {}
    attributes: dict[tuple[int, ...], list] = {}
    values: dict[str, Any] = {}  # of all arguments, by name
    for index, (param, value) in enumerate(zip(kernel.params, args, strict=True)):
        values[param.name] = value
        if param.is_constexpr:
            signature[param.name] = "constexpr"
            constants[param.name] = value
        elif isinstance(value, torch.Tensor):
            signature[param.name] = "*" + _POINTEES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[param.name] = param.annotation_type or "i32"
    options = {name: value for name, value in options.items() if name not in ("grid", "warmup")}
    name = kernel.fn.__name__.strip("_").removesuffix("_kernel")
    march = values.get("march", 0)
    trips = march + _ROWS_ABOVE.get(name, 0) if march else 0
    if march:
        pixels = march * values["BANDS"] * values["STRIPS"] * values["COLS"]
    else:
        # Of planes one after another in one channel, the block is that many pixels; else of so many channels.
        taken = values["BLOCK"] if "BLOCK" in values else values["N"] * values["TRIPLES"]
        pixels = taken * HEIGHT * WIDTH / values.get("count", HEIGHT * WIDTH)
    return RecordedLaunch(
        case, name, kernel, signature, constants, attributes, options, trips, pixels, _bytes_a_pixel(name, values)
    )


def _bytes_a_pixel(kernel: str, values: dict[str, Any]) -> float:
    """What the kernel must read and write of tensors as large as the image."""
    moved = {
        "color_fwd": ["x", "y"],
        "color_bwd": ["grad_y", "grad_x"],
        "loss_fwd": ["y", "l"],
        "loss_bwd": ["y", "l", "grad_y", "grad_l"],
        "enhance": ["x", "result"],
        "exposure": ["x", "light"],
        "denoise": ["y", "gain", "result"],
        "conv": ["x", "out"],
        "conv_weight_bwd": ["x", "grad"],
        "batch_norm_statistics": ["z"],
        "batch_norm_table": ["partial"],
        "batch_norm_slopes": ["partial"],
        "batch_norm_relu_fwd": [f"z{source}" for source in range(values.get("SOURCES", 0))] + ["out"],
        "batch_norm_relu_sums": ["z", "grad"],
        "batch_norm_relu_bwd": ["z", "grad", "out"],
        "retinex_fwd": ["residual", "stage_input", "image", "illumination", "reflectance"],
        "retinex_bwd": [
            "grad_illumination", "grad_reflectance", "residual", "stage_input", "image", "grad_sum", "grad_image",
        ],
    }[kernel]  # fmt: skip
    if values.get("FIDELITY"):
        if kernel == "color_bwd":
            moved += ["x", "l"]
        elif values["x_ptr"] is not values["y_ptr"] and values.get("L_GRAD", True):
            moved += ["x"]
    if values.get("RESIDUAL"):
        moved += ["residual"]
    if values.get("OTHER"):
        moved += ["other", "grad"]  # read, and written once more
    if values.get("LIGHT"):
        moved += ["light"]
    if values.get("GAIN"):
        moved += ["gain"]
    if values.get("SIGMOID") and kernel == "retinex_bwd":
        moved += ["grad_residual"]
    tensors = [values[f"{name}_ptr"] for name in moved]
    return sum(t.numel() * t.element_size() for t in tensors) / (tensors[0].shape[-1] * HEIGHT)
