"""Where the time of one call goes, for the fused operator and for the reference.

    python -m bench profile loss|retinex|enhance|step [--size 1080p] [--color ycbcr] [--out DIR]

Writes a trace of each to DIR, which https://ui.perfetto.dev opens, and prints the ten most expensive kernels; on a CPU,
the ten most expensive operators, without the time of operators that they call. Where NVIDIA's `ncu` is installed, the
fused call is also run under it, and its report on each kernel is printed.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from model.machine import free_memory
from sci_kernels import default_impl
from sci_kernels.constants import COLORS

from ..compare import DTYPES, OP_DTYPES, PROVIDERS, Case, function_of, missing_package, part_call
from ..measure import (
    SIZES,
    Cost,
    choose_device,
    find_tool,
    most_expensive,
    one_of,
    profiled,
    size_of,
    synchronize,
    write_trace,
)
from .ncu import describe
from .ncu import run as run_ncu

_WIDTH = 56  # of a column
_NCU_SECONDS = 300


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench profile", description=__doc__.splitlines()[0])
    parser.add_argument("case", type=one_of(list(PROVIDERS)), metavar="CASE", help=", ".join(PROVIDERS))
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: on a GPU if there is one"
    )
    parser.add_argument("--size", type=size_of, help=f"{', '.join(SIZES)} or WIDTHxHEIGHT")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--color", choices=COLORS, default="ycbcr", help="color transform of the loss (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("profile"), metavar="DIR", help="for the traces (%(default)s)")
    parser.add_argument("--under-ncu", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = _parse(argv)
    device = choose_device(args.device)
    if missing := missing_package(args.case):
        print(f"{args.case}: needs the package {missing}, which is not installed; pip install it", file=sys.stderr)
        return 2
    height, width = args.size or SIZES["1080p" if device == "cuda" else "600x400"]
    case = Case(args.case, height, width, DTYPES[args.dtype], args.color if args.case == "loss" else None)
    if refusal := _refusal(case, args.dtype, device):
        print(refusal, file=sys.stderr)
        return 2
    fused = "ours" if "ours" in PROVIDERS[case.op] else default_impl(device)
    if args.under_ncu:
        return _profile_for_ncu(_warm_call(case, fused, device))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        columns = {provider: _profile(case, provider, device, args.out) for provider in (fused, "reference")}
    except OSError as error:
        print(f"--out: {args.out}: cannot be written ({error.strerror or error}); name another folder", file=sys.stderr)
        return 2
    except (torch.OutOfMemoryError, MemoryError):
        print(f"{case}: out of memory; use a smaller --size", file=sys.stderr)
        return 1
    print("\n".join(side_by_side(columns)))
    return _run_ncu(argv, device)


def _refusal(case: Case, dtype: str, device: str) -> str | None:
    """Why the case cannot be run; None: it can be tried."""
    if dtype not in OP_DTYPES[case.op]:
        return f"--dtype: {case.op} is computed in {' or '.join(OP_DTYPES[case.op])}; got {dtype}"
    needed, free = case.needed_bytes("reference") + 2 * case.input_bytes, free_memory(device)
    if needed > 0.9 * free:
        return f"--size: {case} needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; use a smaller size"
    return None


def _warm_call(case: Case, provider: str, device: str) -> Callable[[], object]:
    function = function_of(case.op, provider, case.color)
    call = part_call(function, case.main_part, [case.inputs(device)], case.cotangents(device))
    for _ in range(2):
        call(0)
    synchronize(device)
    return lambda: call(0)


def _profile(case: Case, provider: str, device: str, folder: Path) -> list[Cost]:
    """Writes the trace of one call; returns its most expensive kernels or operators."""
    result = profiled(_warm_call(case, provider, device), device)
    path = folder / f"{'-'.join([*str(case).split(), device, provider])}.json"
    write_trace(result, path)
    print(f"{provider}: {path}", flush=True)
    return most_expensive(result, device)


def side_by_side(columns: dict[str, list[Cost]]) -> list[str]:
    """A table with a line for each rank and a column for each provider."""
    heads = [f"{provider + ', ten most expensive':{_WIDTH}}" for provider in columns]
    lines = ["  ".join(heads)]
    for rank in range(max(map(len, columns.values()))):
        cells = [_cell(costs[rank]) if rank < len(costs) else "" for costs in columns.values()]
        lines.append("  ".join(f"{cell:{_WIDTH}}" for cell in cells))
    return [line.rstrip() for line in lines]


def _cell(cost: Cost) -> str:
    name = cost.name if len(cost.name) <= 32 else cost.name[:29] + "..."
    return f"{cost.ms:10.3f} ms {cost.calls:5}x  {name}"


def _profile_for_ncu(call: Callable[[], object]) -> int:
    torch.cuda.profiler.start()
    call()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    return 0


def _run_ncu(argv: list[str], device: str) -> int:
    if find_tool("ncu") is None:
        print("ncu is not on PATH, so what the kernels wait for is not shown; it comes with NVIDIA Nsight Compute")
        return 0
    if device == "cpu":
        print("ncu: not run, as it sees only kernels on a GPU")
        return 0
    program = [sys.executable, "-m", "bench", "profile", *argv, "--under-ncu"]
    print(f"ncu runs: {shlex.join(program)}", flush=True)
    rows, reason = run_ncu(program, _NCU_SECONDS, kernels=".*")
    print("\n".join(map(describe, rows)) or reason)
    return 0 if rows else 1
