"""Compiles the kernels, as they are launched, for GPUs that need not be present, and counts what they execute.

    python -m bench kernels [--target sm_80 ...] [--only REGEX] [--json FILE]

The launchers run on fake CUDA tensors of 3840x2160 while the launches are recorded, so what is compiled is what
ships: the same specialisations, strips and marches. From the machine code: registers, stack, instructions and loads
a pixel, the loop counted by its trips, on the way that needs no mask. Bytes a pixel are counted by hand: each input
read once, each output written once. Issue and memory are the times that the instructions and the bytes take at least
on the GPU named; a kernel can be no faster than the larger. AMD's code keeps loads out of line, behind jumps: its
instructions are not counted.
"""

import argparse
import contextlib
import os
import re
import sys
import unittest.mock
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sci_kernels import triton as launchers
from sci_kernels.constants import COLORS

from .devices import GPUS
from .disassembly import executed, resource_usage, sass, shortest
from .measure import environment, write_json

HEIGHT, WIDTH = 2160, 3840
_DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
_POINTEES = _DTYPES | {torch.uint8: "u8"}
# Rows above its own that a march begins with.
_ROWS_ABOVE = {"loss_bwd": 2, "enhance": 6}


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


def cases() -> Iterator[Case]:
    """Every launcher call worth compiling."""
    for dtype in _DTYPES:
        for color in COLORS:
            for channels in (1, 3) if color != "ycbcr" else (3,):
                for grads in ((True, True), (False, True), (True, False)):
                    # Half precision differs only in its loads and stores: one set of gradients shows that.
                    if dtype == torch.float32 or (channels == 3 and grads == (True, True)):
                        yield _loss_case(dtype, color, channels, grads)
        yield _loss_case(dtype, "ycbcr", 3, (True, True), width=WIDTH - 1)
        yield _retinex_case(dtype)
        yield _retinex_case(dtype, sigmoid=True)
        yield _enhance_case(dtype)
    yield _enhance_case(torch.uint8)
    yield _enhance_case(torch.float32, width=WIDTH - 1)
    yield _enhance_case(torch.float32, illumination=True)
    # A smoothness loss alone, and one illumination for three colours.
    yield _loss_case(torch.float32, "ycbcr", 3, (True, True), fidelity=0.0)
    yield _loss_case(torch.float32, "rgb", 3, (True, True), fidelity=0.0, l_channels=1)


def _fake(dtype: torch.dtype, channels: int = 3, width: int = WIDTH) -> torch.Tensor:
    return torch.empty(1, channels, HEIGHT, width, dtype=dtype, device="cuda")


def _loss_case(
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
    name = f"{_DTYPES[dtype]} {color} {channels} {wanted}"
    name += (
        (" unaligned" if width % 4 else "") + ("" if fidelity else " smooth") + (f" L{l_channels}" * bool(l_channels))
    )
    return Case(name, call)


def _retinex_case(dtype: torch.dtype, sigmoid: bool = False) -> Case:
    def call() -> None:
        tensors = [_fake(dtype) for _ in range(5)]
        launchers.launch_retinex_forward(*tensors[:3], dtype, sigmoid)
        launchers.launch_retinex_backward(*tensors, dtype, sigmoid)

    return Case(f"{_DTYPES[dtype]} retinex" + " sigmoid" * sigmoid, call)


def _enhance_case(dtype: torch.dtype, width: int = WIDTH, illumination: bool = False) -> Case:
    def call() -> None:
        image = _fake(dtype, 3, width)
        launchers.launch_enhance(image, weights, illumination)

    weights = tuple(index / 252 for index in range(252))  # all different, as those of a checkpoint are
    name = f"{_POINTEES[dtype]} enhance" + (" unaligned" if width % 4 else "") + " illumination" * illumination
    return Case(name, call)


def record(case: Case, target: str) -> list[RecordedLaunch]:
    """The launches that a case would make on `target`, none of them executed."""
    launches: list[RecordedLaunch] = []
    is_amd = target.startswith("gfx")
    capability = None if is_amd else divmod(int(target.removeprefix("sm_")), 10)

    def run(kernel: triton.JITFunction, *args: object, **options: object) -> None:
        launches.append(_recorded(case.name, kernel, args, options))

    with (
        unittest.mock.patch.object(triton.JITFunction, "run", run),
        unittest.mock.patch.object(torch.version, "hip", "any" if is_amd else None),
        unittest.mock.patch.object(torch.cuda, "get_device_capability", lambda device: capability),
        unittest.mock.patch.object(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext()),
        FakeTensorMode(),
    ):
        case.call()
    return launches


def _recorded(case: str, kernel: triton.JITFunction, args: tuple, options: dict) -> RecordedLaunch:
    signature, constants, attributes, values = {}, {}, {}, {}
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
        pixels = values["BLOCK"] * HEIGHT * WIDTH / values["count"]
    return RecordedLaunch(
        case, name, kernel, signature, constants, attributes, options, trips, pixels, _bytes_a_pixel(name, values)
    )


def _bytes_a_pixel(kernel: str, values: dict[str, object]) -> float:
    """What the kernel must read and write of tensors as large as the image."""
    moved = {
        "color_fwd": ["x", "y"],
        "color_bwd": ["grad_y", "grad_x"],
        "loss_fwd": ["y", "l"],
        "loss_bwd": ["y", "l", "grad_y", "grad_l"],
        "enhance": ["x", "result"],
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
    if values.get("LIGHT"):
        moved += ["light"]
    if values.get("SIGMOID") and kernel == "retinex_bwd":
        moved += ["grad_residual"]
    tensors = [values[f"{name}_ptr"] for name in moved]
    return sum(t.numel() * t.element_size() for t in tensors) / (tensors[0].shape[-1] * HEIGHT)


def compile_for(launch: RecordedLaunch, target: str) -> dict[str, object]:
    """Compiles one launch for `target` and returns what its code needs."""
    source = ASTSource(launch.kernel, launch.signature, launch.constants, launch.attributes)
    is_amd = target.startswith("gfx")
    warp = GPUS[target].warp_size
    compute_capability = target if is_amd else int(target.removeprefix("sm_"))
    compiled = triton.compile(
        source, target=GPUTarget("hip" if is_amd else "cuda", compute_capability, warp), options=launch.options
    )
    if is_amd:
        assembly = compiled.asm["amdgcn"]
        registers, stack = _number(r"\.vgpr_count:\s+(\d+)", assembly), _number(r"_fixed_size:\s+(\d+)", assembly, -1)
        counts = None
    else:
        usage = resource_usage(compiled.asm["cubin"])
        registers, stack = _number(r"REG:(\d+)", usage), _number(r"STACK:(\d+)", usage)
        code = sass(compiled.asm["cubin"])
        counts = executed(code, launch.trips) if launch.trips else shortest(code)
    pixels = launch.program_pixels / (launch.options["num_warps"] * warp)  # of a thread
    return {
        "target": target,
        "kernel": launch.name,
        "case": launch.case,
        "registers": registers,
        "stack": stack,
        "shared": compiled.metadata.shared,
        "instructions": counts and round(sum(counts.values()) / pixels, 1),
        "loads": counts and round(sum(n for name, n in counts.items() if name.startswith("LDG")) / pixels, 2),
        "bytes": launch.bytes_a_pixel,
        "warps": GPUS[target].resident_warps(registers, launch.options["num_warps"]),
    }


def _number(pattern: str, text: str, which: int = 0) -> int:
    found = re.findall(pattern, text)
    if not found:
        raise RuntimeError(f"the compiler's report has no {pattern!r}")
    return int(found[which])


def rows(targets: list[str], only: str = "") -> Iterator[dict[str, object]]:
    """The report's rows, in order; compiled in as many processes as there are processors."""
    launches, seen = [], set()
    for target in targets:
        for index, case in enumerate(cases()):
            if not re.search(only, case.name):
                continue
            for number, launch in enumerate(record(case, target)):
                key = repr((target, launch.kernel, launch.signature, launch.constants, launch.options))
                if key not in seen:
                    seen.add(key)
                    launches.append((target, index, number))
    # Fresh processes: a JIT function cannot be sent, and a forked LLVM is not to be trusted.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_row, launches)


def _row(launch: tuple[str, int, int]) -> dict[str, object]:
    target, index, number = launch
    return compile_for(record(list(cases())[index], target)[number], target)


def describe(row: dict[str, object]) -> str:
    """One line of the table."""
    gpu, pixels = GPUS[row["target"]], HEIGHT * WIDTH
    if row["instructions"] is None:
        counted, issue = f"{'-':>8}{'-':>7}", f"{'-':>8}"
    else:
        counted = f"{row['instructions']:8.1f}{row['loads']:7.2f}"
        issue = f"{gpu.issue_ms(row['instructions'], pixels):8.3f}"
    return (
        f"{row['target']:8}{row['kernel']:12}{row['case']:32}{row['registers']:5}{row['stack']:6}{row['shared']:7}"
        f"{counted}{row['bytes']:6.0f}{row['warps']:4}/{gpu.warps}{issue}{gpu.memory_ms(row['bytes'], pixels):8.3f}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", choices=GPUS, default=["sm_90"], help="GPUs (sm_90)")
    parser.add_argument("--only", default="", metavar="REGEX", help="of the cases, those it is found in")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(argv)
    if launchers.INTERPRETED:
        print("bench kernels: TRITON_INTERPRET is set, which leaves nothing to compile; unset it", file=sys.stderr)
        return 2
    for target in args.target:
        gpu = GPUS[target]
        units = f"{gpu.multiprocessors} x {gpu.lanes} lanes at {gpu.clock_ghz} GHz"
        print(f"{target}: {gpu.name}, {units}, {gpu.bandwidth_tb} TB/s")
    print(f"{'':52}  regs stack shared instr/px ld/px  B/px  warps  issue  memory (ms, 3840x2160)")
    result = []
    for row in rows(args.target, args.only):
        result.append(row)
        print(describe(row), flush=True)
    if args.json:
        write_json(args.json, {"environment": environment(), "rows": result})
    spilled = [row for row in result if row["stack"]]
    print(f"{len(result)} kernels compiled, {len(spilled)} with a stack")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
