"""The convolutions of training, from 16 to 16 channels, alone: PyTorch's with its choice of kernels, and ours.

    python -m bench convolutions [--device cpu|cuda] [--size 1080p] [--json FILE]

Times forward, the gradient of the input and the gradient of the weights, in NCHW and channels last, in float32 with and
without TF32 and in bfloat16. Kernels that convert one layout into another are listed by themselves. The kernels of
`sci_kernels.convolution` are timed where they can run, in NCHW, and only if their errors against float64 are at most
twice those of PyTorch's, plus a few roundings of the terms. Exits with status 1 if a row could not be measured.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sci_kernels import convolution

from ..measure import (
    SIZES,
    Repeated,
    Row,
    choose_device,
    environment,
    most_expensive,
    profiled,
    save_json,
    size_of,
    summary,
)

CHANNELS = 16
PARTS = ("forward", "input gradient", "weight gradient")
_REPEATS = 11


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]  # of input, weights and bias


def call_of(part: str, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], Tensor | Gradients]:
    """A call of one part of the convolution, as autograd makes it."""
    if part == "forward":
        return lambda: torch.nn.functional.conv2d(x, weight, padding=1)
    mask = [part == "input gradient", part == "weight gradient", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)


def ours(part: str, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], Tensor]:
    """A call of the same part by `sci_kernels`."""
    if part == "forward":
        return lambda: convolution.forward(x, weight)
    if part == "input gradient":
        return lambda: convolution.input_gradient(grad, weight)
    return lambda: convolution.weight_gradient(grad, x)


def errors(part: str, x: Tensor, weight: Tensor, grad: Tensor) -> tuple[float, float]:
    """The largest errors against float64, ours and PyTorch's, relative to the sum of the terms' magnitudes."""
    double = [tensor.double() for tensor in (x, weight, grad)]
    exact = _tensor(call_of(part, *double)())
    magnitude = _tensor(call_of(part, *(tensor.abs() for tensor in double))()).clamp_min(1e-30)
    results = (ours(part, x, weight, grad)(), _tensor(call_of(part, x, weight, grad)()))
    mine, theirs = (((result.double() - exact).abs() / magnitude).max().item() for result in results)
    return mine, theirs


def _tensor(result: Tensor | Gradients) -> Tensor:
    """The one tensor in a result of `call_of`."""
    return result if isinstance(result, Tensor) else next(one for one in result if one is not None)


def measure(
    part: str, layout: str, precision: str, size: tuple[int, int], device: str, provider: str = "library"
) -> Row | None:
    """A row with milliseconds, GB/s and the kernels of one call, or why there are none; None where ours cannot run."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    form = torch.channels_last if layout == "channels last" else torch.contiguous_format
    x, grad = (torch.rand(1, CHANNELS, *size, device=device).to(dtype, memory_format=form) for _ in range(2))
    weight = (torch.rand(CHANNELS, CHANNELS, 3, 3, device=device) - 0.5).to(dtype, memory_format=form)
    if provider == "triton" and not convolution.takes(x, weight):
        return None
    row: Row = {"provider": provider, "part": part, "layout": layout, "precision": precision}
    row |= {"width": size[1], "height": size[0], "status": "ok"}
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "TF32"
    try:
        with torch.no_grad():
            if provider == "triton":
                mine, theirs = errors(part, x, weight, grad)
                if not mine <= 2 * theirs + 4 * torch.finfo(torch.float32).eps:
                    return row | {"status": f"not timed: error {mine:.1e}, where PyTorch's is {theirs:.1e}"}
            return row | _timed((ours if provider == "triton" else call_of)(part, x, weight, grad), x, device)
    except Exception as error:  # what it ran into is the result; the other rows are still to be measured
        return row | {"status": f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _timed(call: Callable[[], object], x: Tensor, device: str) -> Row:
    repeated = Repeated(lambda _: call(), 1, device)
    time = summary([repeated.seconds(queued=True) for _ in range(_REPEATS)])
    kernels = [cost._asdict() for cost in most_expensive(profiled(call, device), device)]
    least = 2 * x.numel() * x.element_size()  # one tensor is read once, another read or written once
    return {"ms": 1e3 * time.median, "gb_per_s": least / time.median / 1e9, "kernels": kernels}


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m bench convolutions", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: on a GPU if there is one"
    )
    parser.add_argument("--size", type=size_of, help=f"{', '.join(SIZES)} or WIDTHxHEIGHT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    device = choose_device(args.device)
    size = args.size or SIZES["1080p" if device == "cuda" else "600x400"]
    precisions = ("float32", "TF32", "bfloat16") if device == "cuda" else ("float32", "bfloat16")
    content: Row = {"kind": "convolutions", "environment": environment(), "device": device, "rows": []}
    content["command"] = f"python -m bench convolutions --device {device}"
    content["command"] += f" --size {size[1]}x{size[0]}" if args.size else ""
    layouts = (("library", "NCHW"), ("library", "channels last"), ("triton", "NCHW"))
    for precision, (provider, layout), part in itertools.product(precisions, layouts, PARTS):
        row = measure(part, layout, precision, size, device, provider)
        if row is None:
            continue
        content["rows"].append(row)
        print("\n".join(texts(row)), flush=True)
        if args.json and save_json(args.json, content):
            return 2
    return 1 if any(row["status"] != "ok" for row in content["rows"]) else 0


def texts(row: Row) -> list[str]:
    """A row as lines: its time, or why there is none, and its kernels."""
    name = f"{row['precision']:9} {row['provider']:8} {row['layout']:14} {row['part']:16}"
    if row["status"] != "ok":
        return [f"{name} {row['status']}"]
    kernels = [f"    {kernel['ms']:8.3f} ms {kernel['calls']:3}x  {kernel['name'][:100]}" for kernel in row["kernels"]]
    return [f"{name} {row['ms']:8.3f} ms {row['gb_per_s']:6.0f} GB/s", *kernels]
