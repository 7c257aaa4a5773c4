"""Launches of kernels, recorded as they would be made on a GPU that need not be present.

The launchers run on fake CUDA tensors while their launches are recorded. So the kernels are compiled exactly as they
are shipped: with the same specializations, strips and marches. Bytes per pixel are counted by hand: each input is read
once, each output written once.
"""

import contextlib
import unittest.mock
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode

from ..measure import GPUS
from .launch_cases import HEIGHT, TYPE_NAMES, WIDTH, LaunchCase

# A march down the rows of an image begins with so many rows above those that it completes.
_ROWS_ABOVE = {"loss_bwd": 2, "enhance": 6, "denoise": 4, "conv": 2, "conv_weight_bwd": 2}


@dataclass(frozen=True)
class RecordedLaunch:
    """A kernel with everything that its compilation depends on, and the pixels that its counts are divided by."""

    case: str
    name: str
    kernel: triton.JITFunction
    signature: dict[str, str]
    constants: dict[str, object]
    attributes: dict[tuple[int, ...], list]
    options: dict[str, int]
    trips: int  # of its loop; 0: it has no loop, but a branch for blocks that need a mask
    program_pixels: float  # pixels that a program completes
    bytes_a_pixel: float


def record(case: LaunchCase, target: str) -> list[RecordedLaunch]:
    """The launches that a case would make on `target`, without executing them.

    The list is empty where the kernels of the case cannot run on that target.
    """
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
            "sci_kernels.triton.neighbors.multiprocessors", lambda device: GPUS[target].multiprocessors
        ),
        unittest.mock.patch.object(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext()),
        FakeTensorMode(),
    ):
        case.call()
    return launches


def _recorded(case: str, kernel: triton.JITFunction, args: tuple, options: dict) -> RecordedLaunch:
    """What a launch with these arguments compiles."""
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
            signature[param.name] = "*" + TYPE_NAMES[value.dtype]
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
        # A block is a number of values, of which the kernel has `count`: as many as pixels, or a few for each pixel.
        block = values["BLOCK"] if "BLOCK" in values else values["N"] * values["TRIPLES"]
        pixels = block * HEIGHT * WIDTH / values.get("count", HEIGHT * WIDTH)
    return RecordedLaunch(
        case, name, kernel, signature, constants, attributes, options, trips, pixels, _bytes_a_pixel(name, values)
    )


def _bytes_a_pixel(kernel: str, values: dict[str, Any]) -> float:
    """The bytes that the kernel must read and write of tensors as large as the image."""
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
        moved += ["other", "grad"]  # `other` is read, `grad` is written as well
    if values.get("LIGHT"):
        moved += ["light"]
    if values.get("GAIN"):
        moved += ["gain"]
    if values.get("SIGMOID") and kernel == "retinex_bwd":
        moved += ["grad_residual"]
    tensors = [values[f"{name}_ptr"] for name in moved]
    return sum(t.numel() * t.element_size() for t in tensors) / (tensors[0].shape[-1] * HEIGHT)
