"""Times other launch configurations of each kernel on a GPU: `sci_kernels/triton/config.py` was chosen by this sweep.

    python -m bench sweep [--only REGEX] [--json FILE]

The image has 3840x2160 pixels, in float32 (for enhancing: uint8). Before a launch is timed, its results are compared
with those of the shipped one. All kernels are compiled first, in as many processes as there are processors.
"""

import argparse
import contextlib
import importlib
import os
import re
import sys
import unittest.mock
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from ..compare import worst_error
from ..measure import SIZES, Repeated, Row, Timing, choose_device, environment, pattern, save_json, summary

_REPEATS = 11
_TOLERANCE = 1e-6
_WEIGHTS = tuple(0.3 * (-1) ** index * (1 + index) / 252 for index in range(252))  # none is 0, which costs nothing


def settings() -> list[tuple[str, dict[str, int]]]:
    """The launches to time: (kernel, what differs from the shipped launch)."""
    found: list[tuple[str, dict[str, int]]] = []
    for kernel, registers in (("forward", (128, 168)), ("both", (168, 208)), ("illumination", (168, 208))):
        found.append((kernel, {}))
        found += [(kernel, {"registers": count}) for count in registers]
        found += [(kernel, _together(warps)) for warps in (2, 4)]
        found += [(kernel, _marching(rows)) for rows in (8, 16, 24, 48, 64, 96)]
        found.append((kernel, {"columns": 2}))
    found += [("illumination", {"prefetch": cache}) for cache in (0, 1)]  # the other kernels prefetch nothing
    found.append(("enhance", {}))
    found += [("enhance", {"registers": count}) for count in (168, 208)]
    found += [("enhance", _together(warps)) for warps in (2, 4)]
    found += [("enhance", _marching(rows)) for rows in (16, 32, 48, 96, 128)]
    found.append(("denoise", {}))
    found += [("denoise", {"registers": count}) for count in (168, 208)]
    found += [("denoise", _together(warps)) for warps in (2, 4)]
    found += [("denoise", _marching(rows)) for rows in (16, 32, 48, 96)]
    found += [(kernel, {}) for kernel in ("retinex forward", "retinex backward")]
    for kernel in ("retinex forward", "retinex backward"):
        found += [(kernel, {"block": block}) for block in (512, 1024, 4096)]
    return found


def _together(warps: int) -> dict[str, int]:
    """More warps per program."""
    return {"warps": warps, "strips": 32 * warps, "resident": 8 // warps}


def _marching(rows: int) -> dict[str, int]:
    """Every march down the image has so many rows."""
    return {"longest": rows, "shortest": rows}


def title(kernel: str, changes: dict[str, int]) -> str:
    """A setting in words."""
    return f"{kernel}, " + (", ".join(f"{key} {value}" for key, value in changes.items()) or "as shipped")


# The functions that choose a kernel's launch, by the names under which the launchers call them.
_LAUNCHES = (
    "sci_kernels.triton.loss_forward.loss_launch",
    "sci_kernels.triton.loss_backward.loss_launch",
    "sci_kernels.triton.enhancing.enhance.enhance_launch",
    "sci_kernels.triton.enhancing.denoise.denoise_launch",
)


@contextlib.contextmanager
def launched(changes: dict[str, int]) -> Iterator[None]:
    """Within this context, kernels are launched with these `changes`."""

    def changed(function: Callable) -> Callable:
        return lambda *args, **options: replace(function(*args, **options), **changes)

    if "block" in changes:
        with unittest.mock.patch("sci_kernels.triton.retinex.RETINEX_BLOCK", changes["block"]):
            yield
        return
    with contextlib.ExitStack() as stack:
        for name in _LAUNCHES:
            module, _, function = name.rpartition(".")
            shipped = getattr(importlib.import_module(module), function)
            stack.enter_context(unittest.mock.patch(name, changed(shipped)))
        yield


def call_of(kernel: str, size: tuple[int, int]) -> Callable[[], object]:
    """One launch of a kernel on random images."""
    from sci_kernels import triton as launchers

    generator = torch.Generator("cuda").manual_seed(0)
    x, light, y, z, w = (torch.rand(1, 3, *size, device="cuda", generator=generator) for _ in range(5))
    options = (0.1, "ycbcr", 0.0, 1.0)
    if kernel == "forward":
        return lambda: launchers.launch_loss_forward(x, light, *options)
    if kernel in ("both", "illumination"):
        grad = torch.ones((), device="cuda")
        return lambda: launchers.launch_loss_backward(grad, x, light, *options, kernel == "both", True)
    if kernel == "retinex forward":
        return lambda: launchers.launch_retinex_forward(x, light, y, torch.float32)
    if kernel == "retinex backward":
        return lambda: launchers.launch_retinex_backward(x, light, y, z, w, torch.float32)
    picture, gain = (80 * x).to(torch.uint8), 1 + 7 * light[:, :1].contiguous()
    if kernel == "denoise":
        return lambda: launchers.launch_denoise(picture, gain, 1.0)
    return lambda: launchers.launch_enhance(picture, _WEIGHTS, False)


def compile_setting(index: int) -> None:
    """Compiles one setting's kernel into Triton's cache, on a small image of the same alignment."""
    kernel, changes = settings()[index]
    with launched(changes):
        call_of(kernel, (64, 256))()
    torch.cuda.synchronize()


def measure(kernel: str, changes: dict[str, int], expected: list[Tensor]) -> Row:
    """A row with the milliseconds on the device, or the reason why it was not timed."""
    call = call_of(kernel, SIZES["4k"])
    with launched(changes):
        error = worst_error(_tensors(call()), expected)
        if error > _TOLERANCE:
            return {"kernel": kernel, "changes": changes, "status": f"differs by {error:.1e}"}
        repeated = Repeated(lambda _: call(), 1, "cuda")
        time = summary([repeated.seconds(queued=True) for _ in range(_REPEATS)])
    return {"kernel": kernel, "changes": changes, "status": "ok", "ms": {k: 1e3 * v for k, v in _times(time).items()}}


def _times(time: Timing) -> dict[str, float]:
    return {key: value for key, value in time._asdict().items() if key != "repeats"}


def _tensors(result: object) -> list[Tensor]:
    results = result if isinstance(result, tuple | list) else (result,)
    return [tensor for tensor in results if isinstance(tensor, Tensor) and tensor.numel()]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", type=pattern, metavar="REGEX", help="only the settings whose lines match")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(argv)
    choose_device("cuda")
    wanted = [index for index, setting in enumerate(settings()) if re.search(args.only, title(*setting))]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        list(pool.map(compile_setting, wanted))
    rows: list[Row] = []
    content = {"kind": "sweep", "environment": environment(), "device": "cuda", "rows": rows}
    expected: dict[str, list[Tensor]] = {}
    for kernel, changes in (settings()[index] for index in wanted):
        if kernel not in expected:
            expected[kernel] = _tensors(call_of(kernel, SIZES["4k"])())
        rows.append(measure(kernel, changes, expected[kernel]))
        ms = rows[-1].get("ms")
        text = f"{ms['median']:.4f} ms [{ms['p20']:.4f}, {ms['p80']:.4f}]" if ms else rows[-1]["status"]
        print(f"  {title(kernel, changes):48} {text}", flush=True)
        if args.json and save_json(args.json, content):
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
