"""One operation by every provider: parity first, then time, bandwidth and memory.

    python -m bench loss|retinex [--device cpu|cuda] [--size 1080p,4k,1000x600] [--color ycbcr,reference] [--json FILE]

Providers of the loss: `reference` (the official code's operations), `pairs` (a careful eager rewrite of 12 pairs),
`compiled` and `compiled-dynamic` (torch.compile of the reference, a graph for each size or one for all), and this
library's `blocked` and `triton`. Each is compared at the measured size with the eager reference, where that fits into
memory, and but for the compiled ones at a small size with the reference in float64; if one fails, the case is not
timed.

Times are of a call from Python on inputs rotated beyond the GPU's L2 cache; the column `device` leaves Python's share
out. `blocked` finds its gradients on the way forward: its backward pass alone is only their scaling.
Exits with status 1 if a provider failed, in parity or otherwise.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sci_kernels.constants import COLORS, MIN_SIDE

from .cases import DTYPES, PROVIDERS, SIZES, VALUES, Case
from .comparison import Comparison
from .measure import environment, write_json
from .timing import choose_device, copy_bandwidth, fresh_compilers


def _size(text: str) -> tuple[int, int]:
    """(height, width) of a name or WIDTHxHEIGHT."""
    if text in SIZES:
        return SIZES[text]
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= MIN_SIDE):
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(SIZES)} or WIDTHxHEIGHT of at least {MIN_SIDE}x{MIN_SIDE}; got {text!r}"
        )
    return int(height), int(width)


def _one_of(known: list[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(known)}; got {text!r}")
        return text

    return check


def _listed(item: Callable[[str], object]) -> Callable[[str], list]:
    return lambda text: [item(word.strip()) for word in text.split(",")]


def _parse(argv: list[str]) -> argparse.Namespace:
    op = argv[0]
    parser = argparse.ArgumentParser(prog=f"python -m bench {op}", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="the GPU if there is one")
    parser.add_argument("--size", type=_listed(_size), help=f"of {', '.join(SIZES)} or WIDTHxHEIGHT, comma separated")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    if op == "loss":
        parser.add_argument("--color", type=_listed(_one_of(list(COLORS))), default=["ycbcr", "reference"])
    known = list(PROVIDERS[op])
    parser.add_argument("--providers", type=_listed(_one_of(known)), help=f"of {', '.join(known)}; all that can run")
    known = list(VALUES[op])
    parser.add_argument("--parts", type=_listed(_one_of(known)), default=known, help=f"of {', '.join(known)}; all")
    parser.add_argument("--repeats", type=int, help="of every call (21 on a GPU, 5 on a CPU)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no provider after this time")
    parser.add_argument("--check", action="store_true", help="compare only, time nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and what they depend on")
    return parser.parse_args(argv[1:])


def main(argv: list[str]) -> int:
    """argv: the operation, then the options."""
    args = _parse(argv)
    device = choose_device(args.device)
    # Interpreted on a CPU, Triton's kernels give right results and no meaningful time.
    can_run = [name for name in PROVIDERS[argv[0]] if device == "cuda" or name != "triton"]
    providers = args.providers or can_run
    if unable := [name for name in providers if name not in can_run]:
        print(f"--providers: {unable[0]} needs a GPU; here there are {', '.join(can_run)}", file=sys.stderr)
        return 2
    content = {"environment": environment(), "device": device, "copy_gb_per_s": None, "complete": False, "rows": []}

    def save() -> None:
        if args.json:
            write_json(args.json, content)

    try:
        save()
    except OSError as error:
        print(f"--json: {args.json}: cannot be written ({error.strerror}); name another file", file=sys.stderr)
        return 2
    return _compare(args, argv[0], device, providers, content, save)


def _compare(
    args: argparse.Namespace, op: str, device: str, providers: list[str], content: dict, save: Callable[[], None]
) -> int:
    deadline = time.perf_counter() + args.seconds
    print(", ".join(f"{key} {value}" for key, value in content["environment"].items() if value is not None))
    try:
        with fresh_compilers(any(name.startswith("compiled") for name in providers)):
            rate = math.nan if args.check else copy_bandwidth(device)
            content["copy_gb_per_s"] = None if args.check else rate / 1e9
            repeats = args.repeats or (21 if device == "cuda" else 5)
            run = Comparison(device, providers, args.parts, repeats, args.check, deadline, rate, content["rows"], save)
            for color in args.color if op == "loss" else [None]:
                for height, width in args.size or [SIZES[name] for name in _default_sizes(device)]:
                    run.run(Case(op, height, width, DTYPES[args.dtype], color))
        content["complete"] = True
    except KeyboardInterrupt:
        print(f"stopped; {len(content['rows'])} rows {'kept' if args.json else 'measured'}", file=sys.stderr)
        return 130
    finally:
        save()
    return 1 if run.failed else 0


def _default_sizes(device: str) -> list[str]:
    return ["1080p", "4k"] if device == "cuda" else ["600x400"]
