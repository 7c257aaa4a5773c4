"""The 16-to-16 convolutions of training by themselves: which kernels the library takes, and for how long.

    python -m bench convolutions [--device cpu|cuda] [--size 1080p] [--json FILE]

Forward, the gradient of the input and that of the weights, with planes one after another (NCHW) and channels last, in
float32 with and without TF32 and in bfloat16. What converts one layout into another is a kernel of its own in the list.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .cases import SIZES
from .compare import size_of
from .measure import environment, summary, write_json
from .profiling import dearest, profiled
from .timing import Repeated, choose_device

CHANNELS = 16
PARTS = ("forward", "input gradient", "weight gradient")
_REPEATS = 11


def call_of(part: str, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], object]:
    """One part of the convolution, as autograd calls it."""
    if part == "forward":
        return lambda: torch.nn.functional.conv2d(x, weight, padding=1)
    mask = [part == "input gradient", part == "weight gradient", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)


def measure(part: str, layout: str, precision: str, size: tuple[int, int], device: str) -> dict[str, object]:
    """A row: milliseconds, bytes a second, and the kernels of one call."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    form = torch.channels_last if layout == "channels last" else torch.contiguous_format
    x, grad = (torch.rand(1, CHANNELS, *size, device=device).to(dtype, memory_format=form) for _ in range(2))
    weight = (torch.rand(CHANNELS, CHANNELS, 3, 3, device=device) - 0.5).to(dtype, memory_format=form)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "TF32"
    try:
        with torch.no_grad():
            call = call_of(part, x, weight, grad)
            repeated = Repeated(lambda _: call(), 1, device)
            time = summary([repeated.seconds(queued=True) for _ in range(_REPEATS)])
            kernels = [cost._asdict() for cost in dearest(profiled(call, device), device)]
    finally:
        torch.backends.cudnn.allow_tf32 = before
    row = {"part": part, "layout": layout, "precision": precision, "width": size[1], "height": size[0]}
    least = 2 * x.numel() * x.element_size()  # read once, written or read once
    return row | {"ms": 1e3 * time.median, "gb_per_s": least / time.median / 1e9, "kernels": kernels}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench convolutions", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="the GPU if there is one")
    parser.add_argument("--size", type=size_of, help=f"one of {', '.join(SIZES)} or WIDTHxHEIGHT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(argv)
    device = choose_device(args.device)
    size = args.size or SIZES["1080p" if device == "cuda" else "600x400"]
    precisions = ("float32", "TF32", "bfloat16") if device == "cuda" else ("float32", "bfloat16")
    rows = []
    for precision, layout, part in itertools.product(precisions, ("NCHW", "channels last"), PARTS):
        rows.append(measure(part, layout, precision, size, device))
        row = rows[-1]
        print(f"{precision:9} {layout:14} {part:16} {row['ms']:8.3f} ms {row['gb_per_s']:6.0f} GB/s", flush=True)
        for kernel in row["kernels"]:
            print(f"    {kernel['ms']:8.3f} ms {kernel['calls']:3}x  {kernel['name'][:100]}")
    if args.json:
        content = {"kind": "convolutions", "environment": environment(), "device": device, "rows": rows}
        write_json(args.json, content)
    return 0
