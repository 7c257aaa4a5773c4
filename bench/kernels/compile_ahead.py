"""Compiles every kernel in as many processes as there are processors, so that later measurements find it cached.

    python -m bench.kernels.compile_ahead [--only REGEX] [--json FILE]

On a GPU the launchers are called as they will be called later; a row has the seconds of that first call, compilation
included. Without a GPU the same launches are compiled for sm_90 from their recorded arguments.
"""

import argparse
import functools
import importlib.util
import itertools
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sci_kernels import EnhanceWeights

from ..measure import Row, environment, write_json

if TYPE_CHECKING:
    from .launch_cases import LaunchCase

_TARGET = "sm_90"


def cases_to_compile() -> dict[str, "LaunchCase"]:
    """By name: the cases of `launch_cases`, and others that parity and speed are measured with."""
    from .launch_cases import DTYPES, WIDTH, LaunchCase, cases, loss_case

    both, illumination = (True, True), (False, True)
    found = list(cases())
    found += [loss_case(torch.float32, color, 3, illumination, fidelity=0.0) for color in ("ycbcr", "reference")]
    found += [loss_case(dtype, "ycbcr", 3, both, WIDTH - 1, 0.0) for dtype in DTYPES]
    variants = itertools.product((torch.float32, torch.float64), (1, 3), (WIDTH, WIDTH - 1), (1.5, 0.0))
    found += [
        loss_case(dtype, "reference", channels, both, width, fidelity) for dtype, channels, width, fidelity in variants
    ]
    forms = itertools.product((torch.uint8, torch.float32), (WIDTH, WIDTH - 1), (False, True))
    enhance = functools.partial(_enhance_call, _default_weights())
    found += [LaunchCase(f"enhance, default weights {form}", enhance(*form)) for form in forms]
    found += [
        LaunchCase(f"enhance, default weights, exposed, gain {gain}", enhance(torch.uint8, WIDTH, gain=gain))
        for gain in (False, True)
    ]
    return {case.name: case for case in found}


@functools.cache  # read once in each process, however many cases it compiles
def _default_weights() -> EnhanceWeights:
    from model import EnhanceNetwork, fold, load_weights

    network = EnhanceNetwork()
    load_weights(network)
    return fold(network)


def _enhance_call(
    weights: EnhanceWeights, dtype: torch.dtype, width: int, illumination: bool = False, gain: bool | None = None
) -> Callable[[], None]:
    """A call of the enhance kernel, of whose code the weights are a part.

    Args:
        gain: whether the gain is written; None: without an exposure.
    """
    numbers, black = tuple(weights.packed.flatten().tolist()), weights.illumination_of_black()

    def call() -> None:
        from sci_kernels import triton as launchers

        exposure = None if gain is None else torch.empty(1, dtype=torch.float32, device="cuda")
        image = torch.empty(1, 3, 64, width, dtype=dtype, device="cuda")
        launchers.launch_enhance(image, numbers, illumination, exposure, black, bool(gain))

    return call


def compile_case(name: str) -> Row:
    """Compiles the launches of one case; a row with the seconds that this took."""
    case = cases_to_compile()[name]
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # starting the driver is not to count as compilation
    start = time.perf_counter()
    if torch.cuda.is_available():
        case.call()
        torch.cuda.synchronize()
    else:
        from .compile_without_gpu import compile_launch
        from .recorded_launches import record

        for launch in record(case, _TARGET):
            compile_launch(launch, _TARGET)
    return {"case": name, "seconds": round(time.perf_counter() - start, 3)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels.compile_ahead", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="compile only the cases whose names match")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("triton") is None:
        print("compile_ahead: Triton is not installed; nothing to compile", file=sys.stderr)
        return 2
    names = [name for name in cases_to_compile() if re.search(args.only, name)]
    names.sort(key=_longest_first)
    start = time.perf_counter()
    # In fresh processes: neither CUDA nor LLVM survives a fork.
    with ProcessPoolExecutor(min(len(names), os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(compile_case, names))
    seconds = time.perf_counter() - start
    if args.json:
        content = {"kind": "compilation", "environment": environment(), "seconds": round(seconds, 1), "rows": rows}
        content["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        write_json(args.json, content)
    slowest = max(rows, key=lambda row: row["seconds"])
    print(f"{len(rows)} cases in {seconds:.1f} s; the slowest, {slowest['case']}, took {slowest['seconds']:.1f} s")
    return 0


def _longest_first(name: str) -> int:
    """The order in which no processor is left with a long compilation at the end."""
    kinds = ("enhance", "both", "input", "illumination")
    return next((index for index, kind in enumerate(kinds) if kind in name), len(kinds))


if __name__ == "__main__":
    sys.exit(main())
