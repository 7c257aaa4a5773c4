"""The launches of kernels that are worth compiling: each a call of a launcher on fake CUDA tensors of 3840x2160."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from sci_kernels import triton as launchers
from sci_kernels.constants import COLORS, MOST_SOURCES

HEIGHT, WIDTH = 2160, 3840
DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
TYPE_NAMES = DTYPES | {torch.uint8: "u8", torch.int64: "i64"}


@dataclass(frozen=True)
class LaunchCase:
    """One call of launchers on fake CUDA tensors."""

    name: str
    call: Callable[[], None]
    nvidia_alone: bool = False  # uses NVIDIA's tensor cores


def cases() -> Iterator[LaunchCase]:
    """Every call of launchers that is worth compiling."""
    for dtype in DTYPES:
        for color in COLORS:
            for channels in (1, 3) if color != "ycbcr" else (3,):
                for grads in ((True, True), (False, True), (True, False)):
                    # Half precision differs only in its loads and stores, which one set of gradients shows.
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
    # Two channels, a smoothness loss alone, and an illumination of one channel for an input of three.
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
) -> LaunchCase:
    """The loss and the gradients (of the input, of the illumination) that `grads` asks for."""

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
    return LaunchCase(name, call)


def _retinex_case(dtype: torch.dtype, sigmoid: bool = False) -> LaunchCase:
    def call() -> None:
        residual, stage_input, image, grad_illumination, grad_reflectance = (_fake(dtype) for _ in range(5))
        launchers.launch_retinex_forward(residual, stage_input, image, dtype, sigmoid)
        launchers.launch_retinex_backward(
            grad_illumination, grad_reflectance, residual, stage_input, image, dtype, sigmoid
        )

    return LaunchCase(f"{DTYPES[dtype]} retinex" + " sigmoid" * sigmoid, call)


def _batch_norm_case(dtype: torch.dtype) -> LaunchCase:
    """Features of one channel, so that counts per pixel are counts per pixel and channel."""

    def call() -> None:
        z, residual, grad = (_fake(dtype, 1) for _ in range(3))
        channel = torch.empty(1, dtype=torch.promote_types(dtype, torch.float32), device="cuda")
        running = channel, channel, torch.empty((), dtype=torch.int64, device="cuda"), 0.1
        table = launchers.launch_batch_norm_statistics(z, channel, channel, channel, *running, 1e-5)
        launchers.launch_batch_norm_relu([z], [table], residual, False)
        launchers.launch_batch_norm_relu_gradient(grad, grad, None, z, table, table)

    return LaunchCase(f"{DTYPES[dtype]} batch_norm", call)


def _batch_norm_sums_case(dtype: torch.dtype) -> LaunchCase:
    """The same of sums: forward with as many layers as one pass adds up, backward with a gradient in two parts."""

    def call() -> None:
        z, grad = (_fake(dtype, 1) for _ in range(2))
        table = torch.empty(4, 1, dtype=torch.promote_types(dtype, torch.float32), device="cuda")
        launchers.launch_batch_norm_relu([z] * MOST_SOURCES, [table] * MOST_SOURCES, None, False)
        launchers.launch_batch_norm_relu_gradient(grad, grad, z, z, table, table)

    return LaunchCase(f"{DTYPES[dtype]} batch_norm parts", call)


def _convolution_cases() -> Iterator[LaunchCase]:
    """16 channels in each precision and dtype, a network's first and last layers, and rows that are not aligned."""
    for dtype, precision in (
        (torch.float32, "tf32x3"), (torch.float32, "tf32"), (torch.bfloat16, "exact"), (torch.float16, "exact")
    ):  # fmt: skip
        yield from _convolution_pair(dtype, precision)
    for c_in, c_out in ((3, 16), (16, 3)):
        yield from _convolution_pair(torch.float32, "tf32x3", c_in, c_out)
    yield from _convolution_pair(torch.float32, "tf32x3", width=WIDTH - 1)


def _convolution_pair(
    dtype: torch.dtype, precision: str, c_in: int = 16, c_out: int = 16, width: int = WIDTH
) -> Iterator[LaunchCase]:
    """Forward with the gradient of the weights, and by itself the gradient of the input, which has forward's kernel."""

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
    yield LaunchCase(name, call, nvidia_alone=True)
    yield LaunchCase(f"{name} input", call_gradient, nvidia_alone=True)


def _enhance_case(
    dtype: torch.dtype, width: int = WIDTH, illumination: bool = False, exposed: bool = False, gain: bool = False
) -> LaunchCase:
    def call() -> None:
        image = _fake(dtype, 3, width)
        exposure = torch.empty(1, dtype=torch.promote_types(dtype, torch.float32), device="cuda") if exposed else None
        launchers.launch_enhance(image, weights, illumination, exposure, 0.4, gain)

    weights = tuple(index / 252 for index in range(252))  # all different, as those of a checkpoint are
    name = f"{TYPE_NAMES[dtype]} enhance" + (" unaligned" if width % 4 else "") + " illumination" * illumination
    name += " exposed" * exposed + " gain" * gain
    return LaunchCase(name, call)


def _exposure_case(dtype: torch.dtype) -> LaunchCase:
    def call() -> None:
        launchers.launch_exposure(_fake(dtype), _fake(dtype), 0.4, 0.4)

    return LaunchCase(f"{DTYPES[dtype]} exposure", call)


def _denoise_case(dtype: torch.dtype, width: int = WIDTH) -> LaunchCase:
    def call() -> None:
        gain = _fake(torch.float64 if dtype == torch.float64 else torch.float32, 1, width)
        launchers.launch_denoise(_fake(dtype, 3, width), gain, 1.0)

    return LaunchCase(f"{TYPE_NAMES[dtype]} denoise" + (" unaligned" if width % 4 else ""), call)
