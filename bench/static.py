"""Compiles the kernels, as they are launched, for GPUs that need not be present.

    python -m bench static [--target sm_80 ...] [--json FILE]

The launchers run on fake CUDA tensors while the launches are recorded, so what is compiled is what ships:
the same specialisations, tiles and warps. Registers, stack and spills come from the compiled code.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from model.files import write_atomically
from sci_kernels import triton as launchers
from sci_kernels.constants import COLORS

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx90a", "gfx942")
_DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}


@dataclass(frozen=True)
class RecordedLaunch:
    """A kernel with everything its compilation depends on."""

    case: str
    kernel: triton.JITFunction
    signature: dict[str, str]
    constants: dict[str, object]
    attributes: dict[tuple[int, ...], list]
    options: dict[str, int]


def cases() -> Iterator[tuple[str, Callable[[], None]]]:
    """Every launcher call worth compiling: (name, call on fake CUDA tensors)."""
    for dtype in _DTYPES:
        for color in COLORS:
            channels = (1, 3) if dtype == torch.float32 and color != "ycbcr" else (3,)
            for c in channels:
                for grads in ((True, True), (False, True), (True, False)):
                    # Half precision differs only in its loads and stores: one set of gradients shows that.
                    if dtype == torch.float32 or grads == (True, True):
                        yield _name("loss", dtype, color, c, *grads), _loss_case(dtype, color, c, grads)
        yield _name("loss", dtype, "ycbcr 3 unaligned"), _loss_case(dtype, "ycbcr", 3, (True, True), width=639)
        yield _name("retinex", dtype), _retinex_case(dtype)


def _name(*parts: object) -> str:
    words = {True: "grad", False: "-"}
    return " ".join(_DTYPES.get(p) or (words[p] if isinstance(p, bool) else str(p)) for p in parts)


def _fake(dtype: torch.dtype, channels: int = 3, width: int = 640) -> torch.Tensor:
    return torch.empty(2, channels, 480, width, dtype=dtype, device="cuda")


def _loss_case(
    dtype: torch.dtype, color: str, channels: int, grads: tuple[bool, bool], width: int = 640
) -> Callable[[], None]:
    def call() -> None:
        x, light = _fake(dtype, channels, width), _fake(dtype, channels, width)
        grad = torch.empty((), dtype=torch.promote_types(dtype, torch.float32), device="cuda")
        launchers.launch_loss_forward(x, light, 10.0, color, 1.5, 1.0)
        launchers.launch_loss_backward(grad, x, light, 10.0, color, 1.5, 1.0, *grads)

    return call


def _retinex_case(dtype: torch.dtype) -> Callable[[], None]:
    def call() -> None:
        tensors = [_fake(dtype) for _ in range(5)]
        launchers.launch_retinex_forward(*tensors[:3], dtype)
        launchers.launch_retinex_backward(*tensors, dtype)

    return call


def record(case: str, call: Callable[[], None], target: str) -> list[RecordedLaunch]:
    """The launches that `call` would make on `target`, none of them executed."""
    launches: list[RecordedLaunch] = []

    def run(kernel: triton.JITFunction, *args: object, **options: object) -> None:
        launches.append(_recorded(case, kernel, args, options))

    is_amd = target.startswith("gfx")
    capability = None if is_amd else divmod(int(target.removeprefix("sm_")), 10)
    with (
        unittest.mock.patch.object(triton.JITFunction, "run", run),
        unittest.mock.patch.object(torch.version, "hip", "any" if is_amd else None),
        unittest.mock.patch.object(torch.cuda, "get_device_capability", lambda device: capability),
        unittest.mock.patch.object(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext()),
        FakeTensorMode(),
    ):
        call()
    return launches


def _recorded(case: str, kernel: triton.JITFunction, args: tuple, options: dict) -> RecordedLaunch:
    signature, constants, attributes = {}, {}, {}
    for index, (param, value) in enumerate(zip(kernel.params, args, strict=True)):
        if param.is_constexpr:
            signature[param.name] = "constexpr"
            constants[param.name] = value
        elif isinstance(value, torch.Tensor):
            signature[param.name] = "*" + _DTYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[param.name] = "i32" if isinstance(value, int) else param.annotation_type
    return RecordedLaunch(
        case,
        kernel,
        signature,
        constants,
        attributes,
        {name: value for name, value in options.items() if name not in ("grid", "warmup")},
    )


def compile_for(launch: RecordedLaunch, target: str) -> dict[str, object]:
    """Compiles one launch for `target` and returns what its code needs."""
    source = ASTSource(launch.kernel, launch.signature, launch.constants, launch.attributes)
    is_amd = target.startswith("gfx")
    gpu = GPUTarget("hip", target, 64) if is_amd else GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
    compiled = triton.compile(source, target=gpu, options=launch.options)
    usage = _amd_usage(compiled.asm["amdgcn"]) if is_amd else _nvidia_usage(compiled.asm["cubin"])
    name = launch.kernel.fn.__name__.strip("_").removesuffix("_kernel")
    return {"target": target, "kernel": name, "case": launch.case, **usage, "shared": compiled.metadata.shared}


def _nvidia_usage(cubin: bytes) -> dict[str, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True)
    return {"registers": _number(r"REG:(\d+)", text.stdout), "stack": _number(r"STACK:(\d+)", text.stdout)}


def _amd_usage(assembly: str) -> dict[str, int]:
    return {
        "registers": _number(r"\.vgpr_count:\s+(\d+)", assembly),
        "stack": _number(r"\.private_segment_fixed_size:\s+(\d+)", assembly),
    }


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"the compiler's report has no {pattern!r}")
    return int(found.group(1))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench static", description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=["sm_90"], help="GPUs (sm_90)")
    parser.add_argument("--only", default="", metavar="REGEX", help="of the cases, those it is found in")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(argv)
    if launchers.INTERPRETED:
        print("bench static: TRITON_INTERPRET is set, which leaves nothing to compile; unset it", file=sys.stderr)
        return 2
    rows, seen = [], set()
    print(f"{'target':8} {'kernel':12} {'case':34} registers  stack  shared")
    for target in args.target:
        for case, call in cases():
            if not re.search(args.only, case):
                continue
            for launch in record(case, call, target):
                key = repr((target, launch.kernel, launch.signature, launch.constants))
                if key in seen:
                    continue
                seen.add(key)
                row = compile_for(launch, target)
                rows.append(row)
                sizes = f"{row['registers']:9} {row['stack']:6} {row['shared']:7}"
                print(f"{target:8} {row['kernel']:12} {case:34} {sizes}", flush=True)
    if args.json:
        write_atomically(args.json, json.dumps(rows, indent=1).encode())
    spilled = [row for row in rows if row["stack"]]
    print(f"{len(rows)} kernels compiled, {len(spilled)} with a stack")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
