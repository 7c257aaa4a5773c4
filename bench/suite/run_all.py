"""Everything that is measured on one machine, each in a process of its own, beside what it must be.

    python -m bench all [--device cpu|cuda] [--out DIR] [--seconds N]

One JSON file each is written to DIR (bench/results/<device>). Together they take less than N seconds, by default under
six minutes on a CPU and eight on a GPU; the slow compilations come last and get what is left. The bounds
(`gpu_bounds.py`) are judged on an H100 and an H200; on other devices the figures stand without them. Exits with
status 1 if a step failed, in parity or otherwise; a bound that is missed and a step whose time was spent are shown, and
change nothing.
"""

import argparse
import importlib
import json
import re
import sys
from pathlib import Path

import torch

from sci_kernels import default_impl

from ..compare import NETWORK_OPS, missing_package
from ..measure import ROOT, Command, choose_device, run_command, status_text
from ..report import BOUNDS, describe

JUDGED = ("h100", "h200")

# By default; what is stopped then has a few seconds more to write what it has.
_TOTAL_SECONDS = {"cpu": 340, "cuda": 460}


def speeds(device: str) -> list[tuple[str, int, str]]:
    """What is timed first: (name, seconds at most, command)."""
    if device == "cuda":
        return [
            ("loss", 80, "loss --size 4k,1080p --providers reference,pairs,blocked,triton --repeats 11"),
            ("retinex", 45, "retinex --size 4k,1080p --providers reference,blocked,triton"),
            ("enhance", 45, "enhance --size 4k,1080p,600x400 --dtype float32,uint8 --providers reference,ours"),
            ("step", 75, "step --size 1080p,600x400 --providers reference,ours --repeats 11"),
        ]
    return [
        ("loss", 95, "loss --providers reference,pairs,blocked,native --seconds 75"),
        ("step", 90, "step --providers reference,ours --repeats 3"),
        ("retinex", 45, "retinex --seconds 35"),
        ("enhance", 40, "enhance --seconds 30"),
        ("folder", 30, "enhance --folder 4 --seconds 20"),
    ]


def compilations(device: str) -> list[tuple[str, int, str]]:
    """The baselines of torch.compile, beside the reference again, so that their ratios come from one process."""
    if device == "cuda":
        loss = "loss --size 4k --parts forward+backward --repeats 11"
        return [
            ("loss-compiled", 140, f"{loss} --providers reference,triton,compiled"),
            ("step-compiled", 140, "step --size 1080p --providers reference,ours,compiled --repeats 11"),
            ("enhance-compiled", 60, "enhance --size 4k --providers reference,ours,compiled"),
            ("loss-dynamic", 140, f"{loss} --providers triton,compiled-dynamic --color ycbcr"),
        ]
    loss = "loss --parts forward+backward --color ycbcr"
    return [
        ("loss-compiled", 120, f"{loss} --providers blocked,native,compiled,compiled-dynamic"),
        ("step-compiled", 200, "step --providers ours,compiled --repeats 3"),
    ]


def steps(device: str, out: Path) -> list[Command]:
    """What to run, the slow compilations last."""
    if device == "cuda":
        kernels = ("kernels", 60, f"kernels --target {_target()}")
    else:
        kernels = ("kernels", 40, "kernels --target sm_90 --only fp32.ycbcr.3")
    return as_steps([*speeds(device), kernels, *compilations(device)], device, out)


def as_steps(plans: list[tuple[str, int, str]], device: str, out: Path, *options: str) -> list[Command]:
    """The plans as commands that write into `out`; what cannot be imported here is skipped, aloud."""
    for name, reason in {"kernels": _kernels_missing(), **{op: _package_missing(op) for op in NETWORK_OPS}}.items():
        if reason:
            print(f"{name}: skipped, cannot be imported: {reason}")
            plans = [plan for plan in plans if plan[2].split()[0] != name]
    result = []
    for name, seconds, text in plans:
        arguments = [*text.split(), "--json", str(out / f"{name}.json")]
        arguments += [] if name == "kernels" else ["--device", device, *options]
        result.append(Command(name, [sys.executable, "-m", "bench", *arguments], seconds))
    return result


def _target() -> str:
    """The name of the GPU here as compilers know it."""
    if torch.version.hip:
        return torch.cuda.get_device_properties().gcnArchName.split(":")[0]
    return "sm_{}{}".format(*torch.cuda.get_device_capability())


def _kernels_missing() -> str | None:
    try:
        importlib.import_module("bench.kernels")
    except ImportError as error:
        return str(error)
    return None


def _package_missing(op: str) -> str | None:
    missing = missing_package(op)
    return f"{missing} is not installed" if missing else None


def device_name(device: str) -> str:
    """A folder's name for the device: nvidia-h200, cpu."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(contents: list[dict], device: str, name: str) -> list[str]:
    """Figures beside the bounds, one line each; verdicts on the cards that the bounds are for."""
    rows = [row for content in contents for row in content["rows"]]
    environment = contents[0]["environment"] if contents else {}
    judged = device == "cuda" and any(card in name for card in JUDGED)
    providers = (default_impl(device), "ours")
    return [name, *(describe(bound, rows, environment, providers, judged) for bound in BOUNDS)]


def read_contents(out: Path, names: list[str]) -> list[dict]:
    """What the comparisons among the steps have written; a step that wrote nothing adds nothing."""
    paths = [out / f"{name}.json" for name in names if name != "kernels"]
    return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench all", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="the GPU if there is one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the JSON files (bench/results/<device>)")
    parser.add_argument("--seconds", type=float, help="stop what still runs after this time (340 on a CPU, 460)")
    args = parser.parse_args(argv)
    device = choose_device(args.device)
    name = device_name(device)
    out = args.out or ROOT / "bench" / "results" / name
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--out: {out}: cannot be made ({error.strerror or error}); name another folder", file=sys.stderr)
        return 2
    planned, results = steps(device, out.resolve()), []
    left = _TOTAL_SECONDS[device] if args.seconds is None else args.seconds
    try:
        for step in planned:
            (out / f"{step.name}.json").unlink(missing_ok=True)  # of an earlier run
            results.append(run_command(step._replace(seconds=min(step.seconds, left))))
            left -= results[-1].seconds
    except KeyboardInterrupt:
        print(f"stopped; what was measured is in {out}", file=sys.stderr)
        return 130
    print("\n" + "\n".join(table(read_contents(out, [step.name for step in planned]), device, name)))
    print("\n" + "\n".join(map(status_text, results)) + f"\nresults in {out}")
    return 1 if any(result.status for result in results) else 0
