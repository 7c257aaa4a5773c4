"""Compares every kernel with float64, on golden vectors and on images of a few tiles, in half a minute; times nothing.

    python -m bench.suite.smoke [--device cpu|cuda]

Exits with status 1 if anything disagrees.
"""

import argparse
import sys

import torch

from sci_kernels import default_impl

from ..compare import main as compare
from ..measure import choose_device
from ..promises import golden_errors

# The bounds of `python -m bench figures`: loss, gradients in norm, worst element of a gradient.
LIMITS = {torch.float64: (1e-10, 1e-10, 1e-10), torch.float32: (2e-6, 2e-6, 1e-5)}
# Borders of every kind in a few programs: one image has no aligned rows, another has an interior.
SMALL = (
    "loss --size 66x65,256x64 --providers {fused}",
    "loss --size 65x66 --color ycbcr --dtype float16,bfloat16 --providers {fused}",
    "retinex --size 67x65 --providers {fused}",
)
NETWORKS = ("enhance --size 65x66,256x64 --dtype uint8,float32 --providers ours", "step --size 64x48 --providers ours")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.suite.smoke", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: on a GPU if there is one"
    )
    device = choose_device(parser.parse_args(argv).device)
    fused, failed = default_impl(device), []
    for dtype, limits in LIMITS.items():
        errors = golden_errors(fused, dtype, device)
        print(f"golden losses, {dtype}, {fused}: {errors}", flush=True)
        if any(error > limit for error, limit in zip(errors, limits, strict=False)):
            failed.append(f"golden losses, {dtype}")
    for command in SMALL + NETWORKS:
        arguments = [*command.format(fused=fused).split(), "--check", "--keep-cache", "--device", device]
        if compare(arguments):
            failed.append(command.format(fused=fused))
    print("\n".join(f"FAILED: {what}" for what in failed) or "parity: everything passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
