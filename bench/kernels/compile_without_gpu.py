"""Compiles a kernel for a GPU that need not be present, and counts what its machine code executes."""

import re

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ..measure import GPUS, Row
from .recorded_launches import RecordedLaunch
from .sass import executed, resource_usage, sass, shortest

# Kernels whose loops iterate over all points of an image, several times.
_UNCOUNTED = {"exposure"}


def compiled_row(launch: RecordedLaunch, target: str) -> Row:
    """Compiles one launch for `target`; a row with the registers, instructions and loads that its code needs."""
    compiled = compile_launch(launch, target)
    warp = GPUS[target].warp_size
    if target.startswith("gfx"):
        assembly = compiled.asm["amdgcn"]
        registers = _number(r"\.vgpr_count:\s+(\d+)", assembly)
        stack = _number(r"\.private_segment_fixed_size:\s+(\d+)", assembly)
        counts = None
    else:
        usage = resource_usage(compiled.asm["cubin"])
        registers, stack = _number(r"REG:(\d+)", usage), _number(r"STACK:(\d+)", usage)
        code = sass(compiled.asm["cubin"])
        counts = executed(code, launch.trips) if launch.trips else shortest(code)
        if launch.name in _UNCOUNTED:
            counts = None
    pixels = launch.program_pixels / (launch.options["num_warps"] * warp)  # that a thread completes
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


def compile_launch(launch: RecordedLaunch, target: str) -> triton.compiler.CompiledKernel:
    """The compiled code of one launch."""
    source = ASTSource(launch.kernel, launch.signature, launch.constants, launch.attributes)
    is_amd = target.startswith("gfx")
    compute_capability = target if is_amd else int(target.removeprefix("sm_"))
    gpu = GPUTarget("hip" if is_amd else "cuda", compute_capability, GPUS[target].warp_size)
    return triton.compile(source, target=gpu, options=launch.options)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if not found:
        raise RuntimeError(f"the compiler's report has no {pattern!r}")
    return int(found[1])
