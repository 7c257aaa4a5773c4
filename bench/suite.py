"""Everything that is measured on one machine, each in a process of its own, beside what it must be.

    python -m bench all [--device cpu|cuda] [--out DIR] [--seconds N]

One JSON file each is written to DIR (bench/results/<device>). Together they take less than N seconds, by default under
six minutes on a CPU and eight on a GPU; the slow compilations come last and get what is left. The bounds are those of
an H200 at 3840x2160 in float32; on other devices the figures stand without them. Exits with status 1 if a step failed,
in parity or otherwise; a bound that is missed and a step whose time was spent are shown, and change nothing.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from sci_kernels import default_impl

from .cases import SIZES
from .compare import NETWORK_OPS, missing_package
from .measure import ROOT
from .steps import Step, run_step, status_text
from .timing import choose_device


class Bound(NamedTuple):
    """What a row must reach. `figure`: a key of the row, "ms" (the device's), or a provider to be faster than."""

    op: str
    color: str | None
    part: str
    figure: str
    limit: float
    at_most: bool = True


def _bounds() -> Iterator[Bound]:
    yield Bound("loss", "ycbcr", "forward", "ms", 0.11)
    yield Bound("loss", "ycbcr", "backward", "ms", 0.25)
    yield Bound("loss", "ycbcr", "backward illumination", "ms", 0.20)
    yield Bound("loss", "reference", "forward+backward", "ms", 0.5)
    for color in ("ycbcr", "reference"):
        for provider, factor in (("reference", 60), ("pairs", 25), ("compiled", 6)):
            yield Bound("loss", color, "forward+backward", provider, factor, at_most=False)
        yield Bound("loss", color, "forward+backward", "new_size_ratio", 2)
    for part in ("forward", "backward"):
        yield Bound("retinex", None, part, "copy_share", 0.85, at_most=False)
    yield Bound("retinex", None, "forward+backward", "new_size_ratio", 2)


# By default; what is stopped then has a few seconds more to write what it has.
_TOTAL_SECONDS = {"cpu": 340, "cuda": 460}

BOUNDS = tuple(_bounds())


def steps(device: str, out: Path) -> list[Step]:
    """What to run, the slow compilations last."""
    if device == "cuda":
        compiled = "--size 4k --parts forward+backward"
        plans = [
            ("loss", 80, "loss --size 4k,1080p --providers reference,pairs,blocked,triton"),
            ("retinex", 80, "retinex --size 4k,1080p"),
            ("kernels", 60, f"kernels --target {_target()}"),
            ("enhance", 40, "enhance --size 4k,1080p --providers reference,ours"),
            ("step", 70, "step --size 1080p,600x400 --providers reference,ours"),
            ("loss-compiled", 140, f"loss {compiled} --providers triton,compiled --seconds 70"),
            ("loss-dynamic", 140, f"loss {compiled} --providers triton,compiled-dynamic --color ycbcr"),
            ("enhance-compiled", 60, "enhance --size 4k --providers ours,compiled"),
            ("step-compiled", 140, "step --size 600x400 --providers ours,compiled"),
        ]
    else:
        compiled = "--parts forward+backward --color ycbcr"
        plans = [
            ("loss", 95, "loss --providers reference,pairs,blocked,native --seconds 75"),
            ("step", 90, "step --providers reference,ours --repeats 3"),
            ("retinex", 45, "retinex --seconds 35"),
            ("enhance", 40, "enhance --seconds 30"),
            ("folder", 30, "enhance --folder 4 --seconds 20"),
            ("kernels", 40, "kernels --target sm_90 --only fp32.ycbcr.3"),
            ("loss-compiled", 120, f"loss {compiled} --providers blocked,native,compiled,compiled-dynamic"),
            ("step-compiled", 200, "step --providers ours,compiled --repeats 3"),
        ]
    for name, reason in {"kernels": _kernels_missing(), **{op: _package_missing(op) for op in NETWORK_OPS}}.items():
        if reason:
            print(f"{name}: skipped, cannot be imported: {reason}")
            plans = [plan for plan in plans if plan[2].split()[0] != name]
    result = []
    for name, seconds, text in plans:
        arguments = [*text.split(), "--json", str(out / f"{name}.json")]
        arguments += [] if name == "kernels" else ["--device", device]
        result.append(Step(name, [sys.executable, "-m", "bench", *arguments], seconds))
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


def measured(bound: Bound, rows: list[dict], provider: str, size: tuple[int, int]) -> float | None:
    """The bound's figure, None where no row has it."""
    for row in rows:
        same = (row["op"], row["color"], row["part"]) == bound[:3] and row["provider"] == provider
        if same and (row["height"], row["width"]) == size and row["status"] == "ok":
            value = _figure(row, bound.figure)
            if value is not None:
                return value
    return None


def _figure(row: dict, figure: str) -> float | None:
    if figure == "ms":
        return (row["device_ms"] or row["ms"])["median"]
    return row.get(figure, row["times_faster_than"].get(figure))


def _texts(bound: Bound) -> tuple[str, str]:
    """(name, how its number is written)."""
    name = " ".join(filter(None, (bound.op, bound.color, bound.part)))
    if bound.figure == "ms":
        return f"{name}, on the device", "{:.3f} ms"
    if bound.figure == "copy_share":
        return f"{name}, share of a copy's bandwidth", "{:.0%}"
    if bound.figure == "new_size_ratio":
        return f"{name}, first call at a new size beside the next", "{:.1f}x"
    return f"{name}, faster than {bound.figure}", "{:.1f}x"


def table(rows: list[dict], device: str, name: str) -> list[str]:
    """Figures beside the bounds, one line each; verdicts on an H200 alone."""
    provider, size = (default_impl(device), SIZES["4k" if device == "cuda" else "600x400"])
    judged = "h200" in name
    lines = [f"{provider}, {size[1]}x{size[0]}, float32, {name}"]
    for bound in BOUNDS:
        value = measured(bound, rows, provider, size)
        text, number = _texts(bound)
        limit = f"{'at most' if bound.at_most else 'at least'} {number.format(bound.limit)}" if judged else ""
        got = "not measured" if value is None else number.format(value)
        met = value is not None and (value <= bound.limit if bound.at_most else value >= bound.limit)
        verdict = "" if not judged or value is None else "pass" if met else "MISS"
        lines.append(f"  {text:76} {got:>14}  {limit:18} {verdict}".rstrip())
    return lines


def _read_rows(out: Path, names: list[str]) -> list[dict]:
    """The rows of the comparisons among the steps; a step that wrote none adds none."""
    rows = []
    for path in (out / f"{name}.json" for name in names if name != "kernels"):
        if path.exists():
            rows += json.loads(path.read_text())["rows"]
    return rows


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
        print(f"--out: {out}: cannot be made ({error.strerror}); name another folder", file=sys.stderr)
        return 2
    planned, results = steps(device, out.resolve()), []
    left = _TOTAL_SECONDS[device] if args.seconds is None else args.seconds
    try:
        for step in planned:
            (out / f"{step.name}.json").unlink(missing_ok=True)  # of an earlier run
            results.append(run_step(step._replace(seconds=min(step.seconds, left))))
            left -= results[-1].seconds
    except KeyboardInterrupt:
        print(f"stopped; what was measured is in {out}", file=sys.stderr)
        return 130
    print("\n" + "\n".join(table(_read_rows(out, [step.name for step in planned]), device, name)))
    print("\n" + "\n".join(map(status_text, results)) + f"\nresults in {out}")
    return 1 if any(result.status for result in results) else 0
