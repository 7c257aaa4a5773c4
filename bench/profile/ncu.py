"""Runs this library's kernels under NVIDIA's ncu: the time of each, how busy the GPU was, what its warps waited for.

    python -m bench.profile.ncu [--json FILE]

Every kernel runs once, at whatever clock the GPU has (`--clock-control none`): on an image of 3840x2160, or on 16
channels of 1920x1080.
"""

import argparse
import csv
import functools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import sci_kernels
from sci_kernels import EnhanceWeights, batch_norm, convolution

from ..compare import DTYPES, Case, function_of, part_call
from ..measure import ROOT, SIZES, Row, environment, find_tool, write_json

SECTIONS = (
    "SpeedOfLight", "LaunchStats", "Occupancy", "SchedulerStats", "WarpStateStats", "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
)  # fmt: skip
KERNELS = "^_(loss|color|retinex|enhance|exposure|denoise|batch_norm|conv)"
# What is read from ncu's raw page, by ncu's names.
METRICS = {
    "time_us": r"gpu__time_duration\.sum",
    "clock_ghz": r"gpc__cycles_elapsed\.avg\.per_second",
    "registers": r"launch__registers_per_thread",
    "occupancy": r"sm__warps_active\.avg\.pct_of_peak_sustained_active",
    "issue": r"(smsp|sm)__inst_issued\.avg\.pct_of_peak_sustained_active|smsp__issue_active\.avg\.pct\S*",
    "issued_a_cycle": r"smsp__issue_active\.avg\.per_cycle_active",
    "compute": r"sm__throughput\.avg\.pct_of_peak_sustained_elapsed",
    "memory": r"gpu__compute_memory_throughput\.avg\.pct_of_peak_sustained_elapsed",
    "dram": r"(gpu__dram_throughput|dram__throughput)\.avg\.pct_of_peak_sustained_elapsed",
    "l1_hits": r"l1tex__t_sector_hit_rate\.pct",
    "l2_hits": r"lts__t_sector_hit_rate\.pct",
}
_STALL = re.compile(r"smsp__average_warps?_issue_stalled_(\w+?)_per_issue_active\.ratio")
_SCALES = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "hz": 1e-9, "khz": 1e-6, "mhz": 1e-3, "ghz": 1.0}
_CASES = (
    ("loss", "ycbcr", "forward+backward", "float32"),
    ("loss", "ycbcr", "backward illumination", "float32"),
    ("loss", "reference", "forward+backward", "float32"),
    ("retinex", None, "forward+backward", "float32"),
    ("enhance", None, "forward", "uint8"),
    ("enhance", None, "forward", "float32"),
)


def command(ncu: str, program: list[str], kernels: str) -> list[str]:
    """The command that runs a program under ncu.

    ncu looks at the kernels whose names match, between the program's start and stop of the profiler.
    """
    sections = [word for section in SECTIONS for word in ("--section", section)]
    options = ["--profile-from-start", "off", "--clock-control", "none", "--csv", "--page", "raw"]
    return [ncu, *options, "--kernel-name", f"regex:{kernels}", *sections, *program]


def parse(text: str) -> list[Row]:
    """A row for each kernel launch in ncu's output: its raw page as CSV, after its messages. Largest stalls come first.

    A stall of 2.0 means that on average two warps of a scheduler wait for that reason whenever it issues.
    """
    lines = [line for line in text.splitlines() if line.startswith('"')]
    launches = list(csv.DictReader(lines))
    if not launches:
        return []
    units, *launches = launches  # the first row has the units of the columns
    rows = []
    for launch in launches:
        row: Row = {"kernel": launch["Kernel Name"].strip("_").removesuffix("_kernel")}
        for name, pattern in METRICS.items():
            column = next((column for column in launch if column and re.fullmatch(pattern, column)), None)
            row[name] = column and _number(launch[column], units[column])
        stalls = {
            found[1]: _number(launch[column], "")
            for column in launch
            if column and (found := _STALL.fullmatch(column)) and not found[1].endswith("not_issued")
        }
        row["stalls"] = dict(sorted(stalls.items(), key=lambda stall: -(stall[1] or 0.0)))
        rows.append(row)
    return rows


def _number(text: str | None, unit: str | None) -> float | None:
    try:
        return round(float((text or "").replace(",", "")) * _SCALES.get((unit or "").lower(), 1.0), 4)
    except ValueError:
        return None


def describe(row: Row) -> str:
    """A row as a line of text."""
    numbers = [f"{name} {row[name]:g}" for name in METRICS if row[name] is not None]
    stalls = [f"{reason} {value:.2f}" for reason, value in list(row["stalls"].items())[:5] if value]
    return f"  {row['kernel']:12} {', '.join(numbers)}; waits for {', '.join(stalls) or 'nothing that it names'}"


def run(program: list[str], seconds: float, kernels: str = KERNELS) -> tuple[list[Row], str]:
    """The rows of the kernels whose names match `kernels`; where there are none, the reason."""
    ncu = find_tool("ncu")
    if ncu is None:
        return [], "ncu is neither on PATH nor in CUDA_HOME; it comes with NVIDIA Nsight Compute"
    try:
        done = subprocess.run(command(ncu, program, kernels), cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return [], f"ncu did not finish within {seconds:.0f} s"
    rows = parse(done.stdout)
    return rows, "" if rows else "ncu reported no numbers:\n" + (done.stdout + done.stderr)[-2000:]


def picture_calls(size: tuple[int, int], device: str) -> list[Callable[[], object]]:
    """Exposing a picture in bytes, and the filter against noise."""
    image = torch.randint(0, 80, (1, 3, *size), dtype=torch.uint8, device=device)
    gain = 1 + 7 * torch.rand(1, 1, *size, device=device)
    weights = EnhanceWeights.pack(*((0.3 * torch.rand(3, 3, 3, 3) - 0.15, torch.rand(3)) for _ in range(3)))
    return [
        lambda: sci_kernels.exposure(image, weights, impl="triton"),
        lambda: sci_kernels.enhance(image, weights, exposure=8.0, return_gain=True, impl="triton"),
        lambda: sci_kernels.denoise(image, gain, impl="triton"),
    ]


def layer_calls(size: tuple[int, int], device: str) -> list[Callable[[], object]]:
    """Convolution, BatchNorm and ReLU of 16 channels, and their gradients."""
    z, grad, residual = (torch.rand(1, 16, *size, device=device) for _ in range(3))
    weight, ones = torch.rand(16, 16, 3, 3, device=device), torch.ones(16, device=device)
    table = batch_norm.statistics(z, ones, ones, 1e-5, "triton")
    sums = torch.zeros_like(table)
    return [
        lambda: convolution.forward(z, weight),
        lambda: convolution.input_gradient(grad, weight),
        lambda: convolution.weight_gradient(grad, z),
        lambda: batch_norm.statistics(z, ones, ones, 1e-5, "triton"),
        lambda: batch_norm.forward([z], [table], "triton", residual),
        lambda: batch_norm.gradient(grad, z, table, sums, "triton"),
    ]


def _launch_all() -> int:
    """Calls every case twice, the second time under the profiler; this is the program that ncu runs."""
    height, width = SIZES["4k"]
    calls: list[Callable[[], object]] = []
    for op, color, part, dtype in _CASES:
        case = Case(op, height, width, DTYPES[dtype], color)
        provider = "ours" if op == "enhance" else "triton"
        timed = part_call(function_of(op, provider, color), part, [case.inputs("cuda")], case.cotangents("cuda"))
        calls.append(functools.partial(timed, 0))
    calls += picture_calls(SIZES["4k"], "cuda") + layer_calls(SIZES["1080p"], "cuda")
    for call in calls:
        call()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    for call in calls:
        call()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile.ncu", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--seconds", type=float, default=150.0, help="give ncu so much time (%(default)s)")
    parser.add_argument("--under-ncu", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.under_ncu:
        return _launch_all()
    rows, reason = run([sys.executable, "-m", "bench.profile.ncu", "--under-ncu"], args.seconds)
    print("\n".join(map(describe, rows)) or reason)
    if rows and args.json:
        write_json(args.json, {"kind": "ncu", "environment": environment(), "device": "cuda", "rows": rows})
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
