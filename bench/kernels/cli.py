"""Compiles the kernels, as they are launched, for GPUs that need not be present, and counts what they execute.

    python -m bench kernels [--target sm_80 ...] [--only REGEX] [--json FILE]

Prints from the machine code: registers, stack, and the instructions and loads per pixel. A loop counts as often as it
is repeated; where there is a branch for blocks that need a mask, the path without a mask counts. "issue" and "memory"
are the least times that issuing the instructions and moving the bytes can take on the GPU named: the kernel takes at
least the longer of the two. Code for AMD keeps loads out of line, behind jumps, so its instructions are not counted.
`launch_cases.py` lists what is compiled.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from sci_kernels.triton import INTERPRETED

from ..measure import GPUS, Row, environment, pattern, save_json
from .compile_without_gpu import compiled_row
from .launch_cases import HEIGHT, WIDTH, cases
from .recorded_launches import record


def rows(targets: list[str], only: str = "") -> Iterator[Row]:
    """A row for each kernel, in order; compiled in as many processes as there are processors."""
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
    # In fresh processes: a JIT function cannot be sent to another process, and LLVM is not safe after a fork.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_row, launches)


def _row(launch: tuple[str, int, int]) -> Row:
    target, index, number = launch
    recorded = record(list(cases())[index], target)[number]
    try:
        return compiled_row(recorded, target)
    except Exception as error:
        # The compiler's error says where; the first of its causes says what is wrong.
        cause: BaseException = error
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
    parser.add_argument("--target", nargs="+", choices=GPUS, default=["sm_90"], help="compile for these GPUs (sm_90)")
    parser.add_argument("--only", default="", type=pattern, metavar="REGEX", help="only the cases whose names match")
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
    if not result:
        parser.error(f"--only: {args.only!r} matches no case")
    unsaved = save_json(args.json, {"environment": environment(), "rows": result}) if args.json else 0
    spilled = [row for row in result if row["stack"]]
    print(f"{len(result)} kernels compiled, {len(spilled)} with a stack")
    return unsaved or (1 if spilled else 0)


if __name__ == "__main__":
    sys.exit(main())
