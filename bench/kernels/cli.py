"""Compiles the kernels, as they are launched, for GPUs that need not be present, and counts what they execute.

    python -m bench kernels [--target sm_80 ...] [--only REGEX] [--json FILE]

From the machine code: registers, stack, instructions and loads a pixel, the loop counted by its trips, on the way that
needs no mask. Issue and memory are the times that the instructions and the bytes take at least on the GPU named; a
kernel can be no faster than the larger. AMD's code keeps loads out of line, behind jumps: its instructions are not
counted. What is compiled: `bench/kernels/recorded_launches.py`.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sci_kernels.triton import INTERPRETED

from ..measure import GPUS, Row, environment, write_json
from .recorded_launches import HEIGHT, WIDTH, RecordedLaunch, cases, record
from .sass import executed, resource_usage, sass, shortest

# Kernels whose loops run over all points of an image, several times.
_UNCOUNTED = {"exposure"}


def compile_for(launch: RecordedLaunch, target: str) -> Row:
    """Compiles one launch for `target` and returns what its code needs."""
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


def rows(targets: list[str], only: str = "") -> Iterator[Row]:
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


def _row(launch: tuple[str, int, int]) -> Row:
    target, index, number = launch
    recorded = record(list(cases())[index], target)[number]
    try:
        return compile_for(recorded, target)
    except Exception as error:
        cause: BaseException = error  # of a compiler's error, which says where, the one that says what
        while cause.__cause__:
            cause = cause.__cause__
        what = f"{recorded.name} of {recorded.case!r} for {target} does not compile: {cause}"
        raise RuntimeError(what if cause is error else f"{what}\n{error}") from error


def describe(row: Row) -> str:
    """One line of the table."""
    gpu, pixels = GPUS[row["target"]], HEIGHT * WIDTH
    if row["instructions"] is None:
        counted, issue = f"{'-':>8}{'-':>7}", f"{'-':>8}"
    else:
        counted = f"{row['instructions']:8.1f}{row['loads']:7.2f}"
        issue = f"{gpu.issue_ms(row['instructions'], pixels):8.3f}"
    return (
        f"{row['target']:8}{row['kernel']:22}{row['case']:32}{row['registers']:5}{row['stack']:6}{row['shared']:7}"
        f"{counted}{row['bytes']:6.0f}{row['warps']:4}/{gpu.warps}{issue}{gpu.memory_ms(row['bytes'], pixels):8.3f}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", choices=GPUS, default=["sm_90"], help="GPUs (sm_90)")
    parser.add_argument("--only", default="", metavar="REGEX", help="of the cases, those it is found in")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(argv)
    if INTERPRETED:
        print("bench kernels: TRITON_INTERPRET is set, which leaves nothing to compile; unset it", file=sys.stderr)
        return 2
    for target in args.target:
        gpu = GPUS[target]
        units = f"{gpu.multiprocessors} x {gpu.lanes} lanes at {gpu.clock_ghz} GHz"
        print(f"{target}: {gpu.name}, {units}, {gpu.bandwidth_tb} TB/s")
    print(f"{'':62}  regs stack shared instr/px ld/px  B/px  warps  issue  memory (ms, 3840x2160)")
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
