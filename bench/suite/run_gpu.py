"""Everything that only a GPU can show, in stages of a few minutes, the most important first.

    python -m bench gpu [--stages compile,parity,...] [--seconds N] [--out DIR] [--rehearse]       also `make gpu`

    compile    every kernel, in as many processes as there are processors
    parity     every kernel compared with float64, on small images
    speed      loss, Retinex, enhancing and training, timed with the reference at 3840x2160 and 1920x1080; a training
               step as a CUDA graph, the convolutions of training, and exposing
    tests      all tests marked `gpu`
    compiled   the same timed with torch.compile of the reference
    sanitizer  small cases under compute-sanitizer's memcheck and racecheck
    ncu        what the kernels wait for, by NVIDIA's profiler

When a stage ends, its results are written to bench/results/<device> and copied to --out (default: $OUT). checks.json
has what each stage printed last, and the end of its log if it failed. The first three stages take about four minutes on
16 cores; after nine minutes, what still runs is stopped. --rehearse runs the same stages on a CPU, on tiny images; the
results are thrown away unless --out names a folder. Exits with status 1 if anything failed; a missed bound does not
count as a failure.
"""

import argparse
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..measure import (
    ROOT,
    Command,
    CommandResult,
    Row,
    environment,
    find_tool,
    one_of,
    run_together,
    status_text,
    write_json,
)
from . import run_all
from .smoke import SMALL

TOTAL_SECONDS = 540
_TOOLS = ("memcheck", "racecheck")
_RUN_CASES = "import sys; from bench.compare import main; sys.exit(max(main(case.split()) for case in sys.argv[1:]))"
_TINY = "--size 48x32 --repeats 1"  # for a rehearsal


@dataclass
class GpuRun:
    """One run of the command: where files go, and how its commands ended."""

    device: str
    results: Path
    logs: Path
    out: Path | None
    checks: list[Row] = field(default_factory=list)
    failed: bool = False

    @property
    def rehearsed(self) -> bool:
        return self.device == "cpu"

    def finish(self, stage: str, ended: list[CommandResult]) -> None:
        """Prints and writes how the commands of a stage ended."""
        for result in ended:
            lines = last_lines(result, self.logs / f"{result.name}.log")
            print("\n".join(lines), flush=True)
            self.failed |= result.status not in (0, None)
            self.checks.append({"stage": stage, "step": result.name, "status": result.status})
            self.checks[-1] |= {"seconds": round(result.seconds, 1), "lines": lines[1:]}
        merge_compiled(self.logs, self.results / "compiled.json")
        content = {"kind": "checks", "environment": environment(), "device": self.device, "rows": self.checks}
        write_json(self.results / "checks.json", content)
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.results.glob("*.json")):
                shutil.copy(path, self.out)


def compile_stage(run: GpuRun) -> list[list[Command]]:
    only = ["--only", "^fp32 retinex$"] if run.rehearsed else []
    command = [sys.executable, "-m", "bench.kernels.compile_ahead", *only, "--json", str(run.results / "compile.json")]
    return [[_logged(run, "compile", command, 120)]]


def parity_stage(run: GpuRun) -> list[list[Command]]:
    return [[_logged(run, "parity", [sys.executable, "-m", "bench.suite.smoke", "--device", run.device], 60)]]


def speed_stage(run: GpuRun) -> list[list[Command]]:
    if run.rehearsed:
        planned = [run_all.BenchCommand(text.split()[0], 60, text) for text in _REHEARSED]
    else:
        planned = run_all.speeds(run.device)
    return [[command] for command in run_all.as_commands(planned, run.device, run.results, "--keep-cache")]


_REHEARSED = (
    f"loss {_TINY} --providers reference,blocked",
    f"retinex {_TINY} --providers reference,blocked",
    f"enhance {_TINY} --providers reference,ours",
    "convolutions --size 48x32",
)


def tests_stage(run: GpuRun) -> list[list[Command]]:
    files = [str(ROOT / "tests" / "library" / "test_ops_gpu.py")] if run.rehearsed else gpu_tests()
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-x" if run.rehearsed else "--maxfail=20", *files]
    if importlib.util.find_spec("xdist") and not run.rehearsed:
        # In groups, so that tests that fill the memory run one after another.
        tests += ["-n", str(max(1, min(12, (os.cpu_count() or 1) - 2))), "--dist", "loadgroup"]
    return [[_logged(run, "tests", tests, 170)]]


def compiled_stage(run: GpuRun) -> list[list[Command]]:
    planned = [run_all.BenchCommand("loss-compiled", 60, f"loss {_TINY} --color ycbcr --providers reference,pairs")]
    planned = planned if run.rehearsed else run_all.compilations(run.device)
    return [[command] for command in run_all.as_commands(planned, run.device, run.logs, "--keep-cache")]


def sanitizer_stage(run: GpuRun) -> list[list[Command]]:
    sanitizer = find_tool("compute-sanitizer")
    if sanitizer is None or run.rehearsed:
        print("memcheck, racecheck: skipped, " + ("no GPU" if sanitizer else "compute-sanitizer is not on PATH"))
        return []
    # Without PyTorch's cache every tensor is a separate allocation, so that reads beyond it are found.
    memory = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    cases = [f"{case.format(fused='triton')} --check --keep-cache --device cuda" for case in SMALL]
    checks = []
    for tool in _TOOLS:
        # PyTorch and Triton ask the driver for functions that it may lack, which is not an error of ours.
        options = ["--report-api-errors", "no"] if tool == "memcheck" else []
        program = [sys.executable, "-c", _RUN_CASES, *cases]
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", *options, *program]
        checks.append(_logged(run, tool, command, 120, memory))
    return [checks]


def ncu_stage(run: GpuRun) -> list[list[Command]]:
    if find_tool("ncu") is None or run.rehearsed:
        print("ncu: skipped, " + ("no GPU" if run.rehearsed else "it is not on PATH"))
        return []
    command = [sys.executable, "-m", "bench.profile.ncu", "--json", str(run.results / "ncu.json"), "--seconds", "90"]
    return [[_logged(run, "ncu", command, 100)]]


STAGES: dict[str, Callable[[GpuRun], list[list[Command]]]] = {
    "compile": compile_stage,
    "parity": parity_stage,
    "speed": speed_stage,
    "tests": tests_stage,
    "compiled": compiled_stage,
    "sanitizer": sanitizer_stage,
    "ncu": ncu_stage,
}


def _logged(run: GpuRun, name: str, command: list[str], seconds: float, environment: dict | None = None) -> Command:
    return Command(name, command, seconds, run.logs / f"{name}.log", environment)


def gpu_tests() -> list[str]:
    """The test files that have tests for a GPU; others may import packages that are not installed there."""
    marks = re.compile(r"\bfused\b|\bmark\.gpu\b")
    return [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if marks.search(path.read_text("utf-8"))]


def merge_compiled(folder: Path, target: Path) -> None:
    """Merges the files of the comparisons with torch.compile into one."""
    contents = run_all.read_contents(folder, [path.stem for path in sorted(folder.glob("*.json"))])
    if contents:
        rows = [row for content in contents for row in content["rows"]]
        complete = all(content["complete"] for content in contents)
        write_json(target, contents[0] | {"rows": rows, "complete": complete, "command": "python -m bench gpu"})


def last_lines(result: CommandResult, log: Path) -> list[str]:
    """The line of a result, with the summary from its log, or the end of the log if it failed."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    passed = result.status == 0
    summary = [line for line in lines if re.search(r"SUMMARY:|\d+ (passed|failed)|^parity:|cases in|waits for", line)]
    return [status_text(result), *(f"      {line}" for line in (summary if passed else lines[-30:]))]


def main(argv: list[str]) -> int:
    args = _parse(argv)
    if not args.rehearse and not torch.cuda.is_available():
        print("bench gpu: PyTorch finds no GPU here; run it on a machine with one, or with --rehearse", file=sys.stderr)
        return 2
    start, device = time.monotonic(), "cpu" if args.rehearse else "cuda"
    with tempfile.TemporaryDirectory(prefix="sci-gpu-") as folder:
        logs = Path(folder)
        name = run_all.device_name(device)
        results = logs / "results" if args.rehearse else ROOT / "bench" / "results" / name
        results.mkdir(parents=True, exist_ok=True)
        if "compile" in args.stages:  # with an empty cache, which the stages after it use
            os.environ.setdefault("TRITON_CACHE_DIR", str(logs / "triton"))
        run = GpuRun(device, results, logs, args.out)
        for stage in args.stages:
            for group in STAGES[stage](run):
                left = args.seconds - (time.monotonic() - start)
                run.finish(
                    stage, run_together([command._replace(seconds=min(command.seconds, left)) for command in group])
                )
        names = [path.stem for path in sorted(results.glob("*.json"))]
        print("\n" + "\n".join(run_all.table(run_all.read_contents(results, names), device, name)))
        print(f"  {'everything':16} {time.monotonic() - start:6.1f} s")
    return 1 if run.failed else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__.splitlines()[0])
    stages = lambda text: [one_of(list(STAGES))(word.strip()) for word in text.split(",")]  # noqa: E731
    parser.add_argument("--stages", type=stages, default=list(STAGES), help=f"{', '.join(STAGES)} (all, in this order)")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="stop what still runs then (%(default)s)")
    out = os.environ.get("OUT") or None
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="where to copy results ($OUT)")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with tiny images")
    return parser.parse_args(argv)
