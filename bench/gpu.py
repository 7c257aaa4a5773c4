"""What only a machine with a GPU can show, in one command of less than eight minutes.

    python -m bench gpu [--out DIR]             also `make gpu`

The tests marked `gpu`, beside them small parity cases under compute-sanitizer's memcheck and racecheck; then
`python -m bench all`. Ends with a table of what was measured and of what passed. --out (default: $OUT) receives
copies of the results and the logs. Exits with status 1 if anything but a bound failed.
"""

import argparse
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from . import suite
from .measure import ROOT
from .steps import Result, Step, run_together, status_text

TOTAL_SECONDS = 460
_CHECK_SECONDS = 170
_TOOLS = ("memcheck", "racecheck")
# Borders of every kind in a few programs: the smaller image has no aligned row, the larger one an interior.
_CASES = (
    "loss --check --device cuda --providers triton --size 66x65,256x64",
    "loss --check --device cuda --providers triton --size 65x66 --color ycbcr --dtype float16",
    "retinex --check --device cuda --providers triton --size 67x65",
)
_RUN_CASES = "import sys; from bench.compare import main; sys.exit(max(main(case.split()) for case in sys.argv[1:]))"


def gpu_tests() -> list[str]:
    """The test files with tests for a GPU; the others may import what is not installed there."""
    marks = re.compile(r"\bfused\b|\bmark\.gpu\b")
    return [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if marks.search(path.read_text("utf-8"))]


def find_sanitizer() -> str | None:
    """compute-sanitizer, on PATH or in the CUDA toolkit's folder."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(os.path.join(home, "bin") for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def check_steps(logs: Path) -> list[Step]:
    """The tests, and the memory checks where their tool is; each writes a log."""
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", *gpu_tests()]
    if importlib.util.find_spec("xdist"):
        tests += ["-n", str(max(1, min(8, (os.cpu_count() or 1) // 2)))]
    steps = [Step("tests", tests, _CHECK_SECONDS, logs / "tests.log")]
    sanitizer = find_sanitizer()
    if sanitizer is None:
        print("memcheck, racecheck: skipped, compute-sanitizer is neither on PATH nor in CUDA_HOME")
        return steps
    for tool in _TOOLS:
        # PyTorch and Triton ask the driver for what it may not have: no error of ours.
        options = ["--report-api-errors", "no"] if tool == "memcheck" else []
        command = [
            sanitizer,
            "--tool",
            tool,
            "--error-exitcode",
            "9",
            *options,
            sys.executable,
            "-c",
            _RUN_CASES,
            *_CASES,
        ]
        # Without PyTorch's cache every tensor is an allocation of its own, and reads beyond it show.
        environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        steps.append(Step(tool, command, _CHECK_SECONDS, logs / f"{tool}.log", environment))
    return steps


def last_lines(result: Result, log: Path) -> str:
    """The result's line, and from its log the summary, or the end if it failed."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    passed = result.status == 0
    summary = [line for line in lines if "SUMMARY:" in line or re.search(r"\d+ (passed|failed)", line)]
    shown = summary[-1:] if passed else lines[-30:]
    return "\n".join([status_text(result), *(f"      {line}" for line in shown)])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=os.environ.get("OUT") or None, metavar="DIR", help="for copies ($OUT)"
    )
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("bench gpu: PyTorch finds no GPU here; run it on a machine with one", file=sys.stderr)
        return 2
    start = time.monotonic()
    results = ROOT / "bench" / "results" / suite.device_name("cuda")
    with tempfile.TemporaryDirectory(prefix="sci-gpu-") as folder:
        logs = Path(folder)
        checks = run_together(check_steps(logs))
        print("\n".join(last_lines(check, logs / f"{check.name}.log") for check in checks), flush=True)
        left = TOTAL_SECONDS - (time.monotonic() - start)
        status = suite.main(["--device", "cuda", "--out", str(results), "--seconds", str(left)])
        print("\n" + "\n".join(map(status_text, checks)))
        print(f"  {'everything':16} {time.monotonic() - start:6.1f} s")
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            for path in (*sorted(results.glob("*.json")), *sorted(logs.glob("*.log"))):
                shutil.copy(path, args.out)
    return 1 if status or any(check.status != 0 for check in checks) else 0
