"""Whether a provider computes the right numbers: nothing is timed before this has been asked."""

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..measure import wall_seconds
from .cases import PROVIDERS, STEP_TOLERANCE, Case, Operation, evaluate, function_of, worst_error

_ORACLES = ("reference", "pairs", "blocked")  # the first that fits into memory judges at the measured size


def expected_results(
    case: Case, inputs: list[Tensor], cotangents: list[Tensor], fits: Callable[[str], bool]
) -> list[Tensor] | None:
    """Outputs and gradients of the eager reference, or of the next best provider where it needs too much memory.

    `fits` tells of a provider whether its memory is free. None: nothing fits that could judge.
    """
    for provider in _ORACLES:
        if provider in PROVIDERS[case.op] and fits(provider):
            with contextlib.suppress(torch.OutOfMemoryError):
                return evaluate(function_of(case.op, provider, case.color), inputs, cotangents)
    return None


def timed_results(
    function: Operation, inputs: list[Tensor], cotangents: list[Tensor], device: str
) -> tuple[float, list[Tensor]]:
    """The seconds of one call, and its outputs and gradients."""
    got: list[Tensor] = []
    return wall_seconds(lambda: got.extend(evaluate(function, inputs, cotangents)), device), got


def small_error(case: Case, provider: str, function: Operation, device: str) -> float:
    """The error at a small size against the reference in float64.

    0 for `torch.compile`, which would compile another graph there: it is judged at the measured size alone.
    """
    if provider.startswith("compiled"):
        return 0.0
    small = case.small()
    inputs, cotangents = small.inputs(device), small.cotangents(device)
    exact = [[t.double() if t.is_floating_point() else t for t in tensors] for tensors in (inputs, cotangents)]
    expected = evaluate(function_of(case.op, "reference", case.color), *exact)
    if case.op == "step":  # also computed in float64, since in float32 rounding decides signs at ties
        error = worst_error(evaluate(function, *exact), expected)
        return error if error <= STEP_TOLERANCE[torch.float64] else math.inf
    return worst_error(evaluate(function, inputs, cotangents), expected)
