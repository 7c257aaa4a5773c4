"""Compares one implementation of the losses with the golden vectors: every case, every element.

`python -m bench.promises IMPL DTYPE` prints the worst errors as one line of JSON.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sci_kernels import illumination_loss, smooth_loss
from sci_kernels.constants import SIGMA

from ..measure import ROOT

GOLDEN = ROOT / "tests" / "golden"


class Errors(NamedTuple):
    """The worst relative errors against float64."""

    loss: float
    norm: float  # |g - g0| / |g0|, Euclidean
    element: float  # max |g - g0| / max |g0|
    compared: int  # losses, each with two gradients


def load_golden(path: Path) -> dict[str, Tensor]:
    """The arrays of one golden file."""
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key].copy()) for key in arrays.files}


def golden_errors(impl: str, dtype: torch.dtype, device: str = "cpu") -> Errors:
    """The worst errors of `impl` over all golden losses, both of the smoothness alone and of the total."""
    worst = []
    for path in sorted(GOLDEN.glob("loss_*.npz")):
        case = load_golden(path)
        sigma = float(case.get("sigma", SIGMA))
        for term, function in (("smooth", smooth_loss), ("total", illumination_loss)):
            if f"{term}_loss" not in case:
                continue
            input, illumination = (
                case[name].to(device, dtype, copy=True).requires_grad_() for name in ("input", "illumination")
            )
            loss = function(input, illumination, sigma=sigma, impl=impl)
            loss.backward()
            expected = [case[f"{term}_{name}"] for name in ("loss", "grad_input", "grad_illumination")]
            worst.append(compare([loss, *gradients(input, illumination)], expected))
    if not worst:
        raise FileNotFoundError(f"{GOLDEN}: expected golden vectors loss_*.npz; found none; restore the folder")
    loss_error, norm, element = (max(errors) for errors in zip(*worst, strict=True))
    return Errors(loss_error, norm, element, len(worst))


def gradients(*leaves: Tensor) -> list[Tensor]:
    """The gradients that a backward pass has left."""
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


def compare(got: list[Tensor], expected: list[Tensor]) -> tuple[float, float, float]:
    """The errors (loss, norm, element) of a loss and its gradients; NaN counts as infinite."""
    loss, *grads = (tensor.detach().cpu().double() for tensor in got)
    loss0, *grads0 = (tensor.detach().cpu().double() for tensor in expected)
    norm = max(relative(g - g0, g0) for g, g0 in zip(grads, grads0, strict=True))
    element = max(relative((g - g0).abs().max(), g0.abs().max()) for g, g0 in zip(grads, grads0, strict=True))
    return relative(loss - loss0, loss0), norm, element


def relative(difference: Tensor, value: Tensor) -> float:
    """|difference| / |value|, and 0 / 0 = 0; NaN counts as infinite."""
    distance, size = float(difference.norm()), float(value.norm())
    error = distance / size if size else (math.inf if distance else 0.0)
    return math.inf if math.isnan(error) else error


def triton_errors(dtype: torch.dtype) -> tuple[str, Errors]:
    """How the Triton kernels were run (on the GPU, or interpreted in a separate process), and their errors.

    Raises RuntimeError with the reason where they cannot run.
    """
    if torch.cuda.is_available():
        return "triton", golden_errors("triton", dtype, "cuda")
    command = [sys.executable, "-m", "bench.promises", "triton", str(dtype).removeprefix("torch.")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return "triton, interpreted", Errors(**json.loads(done.stdout.strip().splitlines()[-1]))
