"""A stream of images of which no two have the same size, as photographs come."""

import random
from dataclasses import replace

from sci_kernels.constants import MIN_SIDE

from ..measure import Row, wall_seconds
from .cases import Case, Operation, evaluate

IMAGES, SEED, LIMIT_SECONDS = 20, 2, 30.0


def stream_cases(case: Case) -> list[Case]:
    """The stream's images: sides from a quarter to a half of the case's, the same ones on every run."""
    generator = random.Random(SEED)
    sides = [(max(MIN_SIDE, side // 4), max(MIN_SIDE + 8, side // 2)) for side in (case.height, case.width)]
    sizes: dict[tuple[int, int], None] = {}  # a set that keeps its order
    while len(sizes) < IMAGES:
        height, width = (generator.randint(*bounds) for bounds in sides)
        sizes[height, width] = None
    return [replace(case, height=height, width=width) for height, width in sizes]


def stream_figures(
    function: Operation, case: Case, device: str, call_seconds: float, size_seconds: float, seconds_left: float
) -> Row:
    """Milliseconds from the first image's inputs to the last one's results, after one call at the case's own size.

    Refused if it is expected to take longer than LIMIT_SECONDS or than `seconds_left`. Expected are `call_seconds`
    of a call on the case, less for smaller images, and `size_seconds` for what each new size has compiled.
    """
    cases = stream_cases(case)
    share = sum(image.pixels for image in cases) / case.pixels
    expected = share * call_seconds + IMAGES * size_seconds
    if expected > min(LIMIT_SECONDS, seconds_left):
        return {"stream_ms": None, "stream_status": f"refused: takes about {expected:.0f} s"}
    inputs = [(image.inputs(device), image.cotangents(device)) for image in cases]
    evaluate(function, case.inputs(device), case.cotangents(device))
    seconds = wall_seconds(lambda: [evaluate(function, *image) for image in inputs], device)
    return {"stream_ms": 1e3 * seconds, "stream_status": "ok"}
