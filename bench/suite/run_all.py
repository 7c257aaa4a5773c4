"""Measures everything on one machine, each in a separate process, and compares with the bounds for a GPU.

    python -m bench all [--device cpu|cuda] [--out DIR] [--seconds N]

Each command writes a JSON file to DIR (bench/results/<device>). Together they take less than N seconds, by default
under six minutes on a CPU and eight on a GPU; the slow compilations come last and get the time that is left. The bounds
(`bench/report/gpu_bounds.py`) apply to an H100 and an H200; on other devices the numbers are printed without them.
Exits with status 1 if a command failed, in parity or otherwise. A missed bound or a command that ran out of time is
shown, but does not change the status.
"""

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from sci_kernels import default_impl

from ..compare import NETWORK_OPS, PROVIDERS, missing_package
from ..measure import ROOT, Command, CommandResult, Row, choose_device, run_command, status_text
from ..report import BOUNDS, describe

JUDGED = ("h100", "h200")  # the cards that the bounds are for

# The default of --seconds; a command that is then stopped has a few more seconds to write what it has measured.
_TOTAL_SECONDS = {"cpu": 340, "cuda": 460}


class BenchCommand(NamedTuple):
    """A command of `python -m bench`, to be run for a limited time."""

    name: str
    seconds: int  # at most
    text: str  # the command and its options


def speeds(device: str) -> list[BenchCommand]:
    """What is timed first."""
    if device == "cuda":
        return [
            BenchCommand("loss", 80, "loss --size 4k,1080p --providers reference,pairs,blocked,triton --repeats 11"),
            BenchCommand("retinex", 45, "retinex --size 4k,1080p --providers reference,blocked,triton"),
            BenchCommand(
                "enhance", 45, "enhance --size 4k,1080p,600x400 --dtype float32,uint8 --providers reference,ours"
            ),
            BenchCommand(
                "step", 90, "step --size 1080p,600x400 --providers reference,ours,ours-convolutions --repeats 11"
            ),
            BenchCommand("graph", 45, "step --graph --batch 8 --size 256x256"),
            BenchCommand("convolutions", 45, "convolutions"),
            BenchCommand("exposing", 45, "exposing --size 4k"),
        ]
    return [
        BenchCommand("loss", 95, "loss --providers reference,pairs,blocked,native --seconds 75"),
        BenchCommand("step", 90, "step --providers reference,ours --repeats 3"),
        BenchCommand("retinex", 45, "retinex --seconds 35"),
        BenchCommand("enhance", 40, "enhance --seconds 30"),
        BenchCommand("folder", 30, "enhance --folder 4 --seconds 20"),
    ]


def compilations(device: str) -> list[BenchCommand]:
    """The baselines of torch.compile, with the others once more, so that ratios come from a single process."""
    if device == "cuda":
        loss = "loss --size 4k --parts forward+backward --repeats 11"
        return [
            BenchCommand("loss-compiled", 140, f"{loss} --providers reference,triton,compiled"),
            BenchCommand("step-compiled", 140, "step --size 1080p --providers reference,ours,compiled --repeats 11"),
            BenchCommand("enhance-compiled", 60, "enhance --size 4k --providers reference,ours,compiled"),
            BenchCommand("loss-dynamic", 140, f"{loss} --providers triton,compiled-dynamic --color ycbcr"),
        ]
    loss = "loss --parts forward+backward --color ycbcr"
    return [
        BenchCommand("loss-compiled", 120, f"{loss} --providers blocked,native,compiled,compiled-dynamic"),
        BenchCommand("step-compiled", 200, "step --providers ours,compiled --repeats 3"),
    ]


def planned_commands(device: str, out: Path) -> list[Command]:
    """Everything to run, the slow compilations last."""
    if device == "cuda":
        kernels = BenchCommand("kernels", 60, f"kernels --target {_target()}")
    else:
        kernels = BenchCommand("kernels", 40, "kernels --target sm_90 --only fp32.ycbcr.3")
    return as_commands([*speeds(device), kernels, *compilations(device)], device, out)


def as_commands(planned: list[BenchCommand], device: str, out: Path, *options: str) -> list[Command]:
    """Commands that write into `out`, with `options` for those that compare providers.

    Those that lack a package here are skipped, which is printed.
    """
    needs_networks = {op: _package_missing(op) for op in (*NETWORK_OPS, "exposing")}
    for name, reason in {"kernels": _kernels_missing(), **needs_networks}.items():
        if reason:
            print(f"{name}: skipped, cannot be imported: {reason}")
            planned = [command for command in planned if command.text.split()[0] != name]
    result = []
    for name, seconds, text in planned:
        arguments = [*text.split(), "--json", str(out / f"{name}.json")]
        arguments += [] if name == "kernels" else ["--device", device]
        arguments += options if text.split()[0] in PROVIDERS else []
        result.append(Command(name, [sys.executable, "-m", "bench", *arguments], seconds))
    return result


def _target() -> str:
    """The compilers' name for this machine's GPU."""
    if torch.version.hip:
        return torch.cuda.get_device_properties().gcnArchName.split(":")[0]
    return "sm_{}{}".format(*torch.cuda.get_device_capability())


def _kernels_missing() -> str | None:
    """Why kernels cannot be compiled here, such as without Triton; None where they can."""
    try:
        importlib.import_module("bench.kernels.cli")
    except ImportError as error:
        return str(error)
    return None


def _package_missing(op: str) -> str | None:
    missing = missing_package(op)
    return f"{missing} is not installed" if missing else None


def device_name(device: str) -> str:
    """The name of the device as a folder has it, such as nvidia-h200 or cpu."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(contents: list[Row], device: str, name: str) -> list[str]:
    """A line for each bound with the measured number, and with a verdict on the cards that the bounds are for."""
    rows = [row for content in contents for row in content["rows"]]
    environment = contents[0]["environment"] if contents else {}
    judged = device == "cuda" and any(card in name for card in JUDGED)
    providers = (default_impl(device), "ours")
    return [name, *(describe(bound, rows, environment, providers, judged) for bound in BOUNDS)]


def read_contents(out: Path, names: list[str]) -> list[Row]:
    """The contents of the files of these names that comparisons of providers have written."""
    paths = [out / f"{name}.json" for name in names if name != "kernels"]
    contents = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
    return [content for content in contents if "kind" not in content]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench all", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: on a GPU if there is one"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write JSON files (bench/results/<device>)")
    parser.add_argument("--seconds", type=float, help="stop what still runs then (340 on a CPU, 460 on a GPU)")
    args = parser.parse_args(argv)
    device = choose_device(args.device)
    name = device_name(device)
    out = args.out or ROOT / "bench" / "results" / name
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--out: {out}: cannot be made ({error.strerror or error}); name another folder", file=sys.stderr)
        return 2
    commands = planned_commands(device, out.resolve())
    results: list[CommandResult] = []
    left = _TOTAL_SECONDS[device] if args.seconds is None else args.seconds
    try:
        for command in commands:
            (out / f"{command.name}.json").unlink(missing_ok=True)  # of an earlier run
            results.append(run_command(command._replace(seconds=min(command.seconds, left))))
            left -= results[-1].seconds
    except KeyboardInterrupt:
        print(f"stopped; what was measured is in {out}", file=sys.stderr)
        return 130
    print("\n" + "\n".join(table(read_contents(out, [command.name for command in commands]), device, name)))
    print("\n" + "\n".join(map(status_text, results)) + f"\nresults in {out}")
    return 1 if any(result.status for result in results) else 0
