"""One operation by every provider: parity first, then time, bandwidth and memory.

    python -m bench loss|retinex|enhance|step [--device cpu|cuda] [--size 1080p,4k,1000x600] [--json FILE] [--plot DIR]
    python -m bench enhance --folder 12|DIR     instead: a folder of JPEGs by the command
    python -m bench step --graph --batch 8      instead: the trainer's step as a CUDA graph, compared with the usual one

Providers of the loss: `reference` (the official code's operations), `pairs` (a careful eager rewrite of 12 pairs),
`compiled` and `compiled-dynamic` (torch.compile of the reference, with a graph for each size or one for all), this
library's `blocked`, `native` and `triton`, and on request `written-out` (the reference's operations in the order of the
official code, to show that the reference does not take more than 15 % longer). Providers of enhancing and of the
training step: the plain network with the `reference` operators, that network `compiled`, and `ours`, which is what the
library does by default.

At the measured size each provider is compared with the eager reference, where that fits into memory. All but the
compiled ones are also compared at a small size with the reference in float64 (a step is computed in float64 itself).
If one fails, the case is not timed.

Times are those of a call from Python; the inputs rotate, so that they are not in the GPU's L2 cache. The column
`device` leaves out Python's share; on a CPU "beyond the kernel" is that share alone. `blocked` and `native` compute
their gradients in the forward pass: their backward pass alone only scales them. A row of the whole operation also has
the time of a stream of 20 images of 20 sizes. At the end every row gets the number of kernels that one call launches,
on a CPU of operators that it calls. The largest image of a step is planned, as by `python -m train plan`. Before
anything is timed, the operators that a step dispatches and the bytes that they move are counted: see
bench/networks/operator_counts.py. Exits with status 1 if a provider failed, in parity or otherwise.
"""

import argparse
import functools
import importlib
import itertools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from model.machine import memory_size
from sci_kernels import default_impl
from sci_kernels.constants import COLORS

from ..measure import (
    SIZES,
    Row,
    choose_device,
    copy_bandwidth,
    environment,
    fresh_compilers,
    one_of,
    save_json,
    size_of,
    write_json,
)
from .cases import DTYPES, ON_REQUEST, OP_DTYPES, PROVIDERS, VALUES, Case
from .printed_row import row_text
from .runner import Comparison

NETWORK_OPS = ("enhance", "step")  # their networks need packages that the operators do not need


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a number, 1 or more; got {text!r}")
    return int(text)


def _pictures(text: str) -> str:
    if not (text.isdecimal() and int(text) > 0) and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a number of pictures, or a folder of JPEGs; got {text!r}")
    return text


def _listed(item: Callable[[str], object]) -> Callable[[str], list]:
    return lambda text: [item(word.strip()) for word in text.split(",")]


def _parse(argv: list[str]) -> argparse.Namespace:
    op = argv[0]
    parser = argparse.ArgumentParser(prog=f"python -m bench {op}", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: on a GPU if there is one"
    )
    parser.add_argument("--size", type=_listed(size_of), help=f"{', '.join(SIZES)} or WIDTHxHEIGHT, comma separated")
    known = list(OP_DTYPES[op])
    text = f"{', '.join(known)}, comma separated (float32)"
    parser.add_argument("--dtype", type=_listed(one_of(known)), default=["float32"], help=text)
    if op == "loss":
        text = f"{', '.join(COLORS)}, comma separated (ycbcr,reference)"
        parser.add_argument("--color", type=_listed(one_of(list(COLORS))), default=["ycbcr", "reference"], help=text)
    known = list(PROVIDERS[op])
    omitted = "".join(f" except {name}" for name in ON_REQUEST if name in known)
    text = f"{', '.join(known)}, comma separated (all that can run{omitted})"
    parser.add_argument("--providers", type=_listed(one_of(known)), help=text)
    known = list(VALUES[op])
    parser.add_argument("--parts", type=_listed(one_of(known)), default=known, help=f"{', '.join(known)} (all)")
    if op == "enhance":
        text = "instead: JPEGs by the command, compared with decoding and encoding alone: N made ones, or those in DIR"
        parser.add_argument("--folder", type=_pictures, metavar="N|DIR", help=text)
    if op == "step":
        text = "instead: the trainer's step as usual and replayed as a CUDA graph (256x256; needs a GPU)"
        parser.add_argument("--graph", action="store_true", help=text)
        parser.add_argument("--batch", type=_count, help="images per step, with --graph (1)")
        text = "plan the largest 16:9 image that fits in this memory (%(default)s)"
        parser.add_argument("--memory", type=memory_size, default="24GiB", metavar="24GiB", help=text)
    parser.add_argument("--repeats", type=int, help="how often to time every call (21 on a GPU, 5 on a CPU)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no provider after this time")
    parser.add_argument("--check", action="store_true", help="compare the results, time nothing")
    text = "use what Triton compiled in earlier runs; rows then say that their first calls did not compile"
    parser.add_argument("--keep-cache", action="store_true", help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows, with machine and versions")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="also draw the rows as SVG")
    return parser.parse_args(argv[1:])


def main(argv: list[str]) -> int:
    """argv: the operation, then the options."""
    args = _parse(argv)
    device, folder = choose_device(args.device), getattr(args, "folder", None)
    if missing := missing_package("folder" if folder else argv[0], args.plot is not None):
        print(f"{argv[0]}: needs the package {missing}, which is not installed; pip install it", file=sys.stderr)
        return 2
    graph = getattr(args, "graph", False)
    if graph and device == "cpu":
        print(
            "--graph: expected a GPU, since CUDA graphs need one; got --device cpu; leave --graph out", file=sys.stderr
        )
        return 2
    if getattr(args, "batch", None) and not graph:
        print("--batch: expected together with --graph; without it every row is of one image", file=sys.stderr)
        return 2
    # On a CPU, Triton's kernels are interpreted: the results are right, the times mean nothing.
    absent = {"triton", "native", "blocked"} - {"blocked", default_impl(device)}
    absent |= {"ours-convolutions"} if device == "cpu" else set()
    can_run = [name for name in PROVIDERS[argv[0]] if name not in absent]
    providers = args.providers or [name for name in can_run if name not in ON_REQUEST]
    if unable := [name for name in providers if name not in can_run]:
        print(f"--providers: {unable[0]} needs a GPU; without one there are {', '.join(can_run)}", file=sys.stderr)
        return 2
    content: Row = {
        "environment": environment(),
        "device": device,
        "copy_gb_per_s": None,
        "complete": False,
        "rows": [],
    }

    def save() -> None:
        if args.json:
            write_json(args.json, content)

    if args.json and save_json(args.json, content):
        return 2
    if folder or graph:
        return _measure_instead(args, device, content, save)
    return _compare(args, argv[0], device, providers, content, save)


def _measure_instead(args: argparse.Namespace, device: str, content: Row, save: Callable[[], None]) -> int:
    """Measures the rows of --folder or --graph, instead of those of the providers."""
    measure: Callable[..., bool]
    text: Callable[[Row], str]
    # Imported here, since they need what the package `model` needs.
    if getattr(args, "folder", None):
        from .folder_throughput import folder_rows, folder_text

        name, text = f"--folder: {args.folder}", folder_text
        measure = functools.partial(folder_rows, args.folder, device, args.repeats or 3)
    else:
        from .recorded_step import graph_rows

        name, text = "--graph", lambda row: f"{row['width']}x{row['height']} {row_text(row)}"
        sizes = args.size or [(256, 256)]
        measure = functools.partial(graph_rows, sizes, args.batch or 1, device, args.repeats or 21)

    def add(row: Row) -> None:
        content["rows"].append(row)
        print(text(row), flush=True)
        save()

    deadline = time.perf_counter() + args.seconds
    print(_environment_text(content))
    try:
        good = measure(args.check, deadline, add)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    content["complete"] = True
    save()
    return 0 if good else 1


def _environment_text(content: Row) -> str:
    return ", ".join(f"{key} {value}" for key, value in content["environment"].items() if value is not None)


def _compare(
    args: argparse.Namespace, op: str, device: str, providers: list[str], content: Row, save: Callable[[], None]
) -> int:
    deadline = time.perf_counter() + args.seconds
    print(_environment_text(content))
    if op == "step":
        from ..networks import step_text

        content["dispatched"], text = step_text()
        print(text)
    try:
        with fresh_compilers(any(name.startswith("compiled") for name in providers), args.keep_cache):
            rate = math.nan if args.check else copy_bandwidth(device)
            content["copy_gb_per_s"] = None if args.check else rate / 1e9
            repeats = args.repeats or (21 if device == "cuda" else 5)
            run = Comparison(device, providers, args.parts, repeats, args.check, deadline, rate, content["rows"], save)
            run.memory, run.cached = getattr(args, "memory", run.memory), args.keep_cache
            colors = args.color if op == "loss" else [None]
            for dtype, color in itertools.product(args.dtype, colors):
                for height, width in args.size or [SIZES[name] for name in _default_sizes(device)]:
                    run.run(Case(op, height, width, DTYPES[dtype], color))
            run.count_calls()
        content["complete"] = True
    except KeyboardInterrupt:
        print(f"stopped; {len(content['rows'])} rows {'kept' if args.json else 'measured'}", file=sys.stderr)
        return 130
    finally:
        save()
    drawn = args.plot is None or _draw(content, device, args.plot)
    return 2 if not drawn else 1 if run.failed else 0


def _draw(content: Row, device: str, folder: Path) -> bool:
    """Draws the rows and prints the names of the files; False where they could not be written."""
    from ..report import draw

    environment = content["environment"] | ({} if device == "cuda" else {"gpu": None})
    try:
        paths = draw(content["rows"], environment, folder)
    except OSError as error:
        print(f"--plot: {folder}: cannot be written ({error.strerror or error}); name another folder", file=sys.stderr)
        return False
    print("\n".join(f"drawn: {path}" for path in paths) or "nothing drawn: a line needs two sizes")
    return True


def missing_package(op: str, plot: bool = False) -> str | None:
    """The first package that the operation (or "folder") or drawing needs and that is not installed."""
    try:
        if op in NETWORK_OPS:
            importlib.import_module("bench.networks")
        if op == "folder":
            importlib.import_module("bench.compare.folder_throughput")
        if plot:
            importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        return error.name
    return None


def _default_sizes(device: str) -> list[str]:
    return ["1080p", "4k"] if device == "cuda" else ["600x400"]
