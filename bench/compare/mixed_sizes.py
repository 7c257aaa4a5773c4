"""The time for a stream of images of which no two have the same size, like photographs."""

import random
from dataclasses import replace

from sci_kernels.constants import MIN_SIDE

from ..measure import Row, wall_seconds
from .cases import Case, Operation, evaluate

IMAGES, SEED, LIMIT_SECONDS = 20, 2, 30.0


def stream_cases(case: Case) -> list[Case]:
    """The images of the stream: their sides are a quarter to a half of the case's, the same ones in every run."""
    generator = random.Random(SEED)
    sides = [(max(MIN_SIDE, side // 4), max(MIN_SIDE + 8, side // 2)) for side in (case.height, case.width)]
    sizes: dict[tuple[int, int], None] = {}  # a set that keeps its order
    while len(sizes) < IMAGES:
        height, width = (generator.randint(*bounds) for bounds in sides)
        sizes[height, width] = None
    return [replace(case, height=height, width=width) for height, width in sizes]


def stream_time(
    function: Operation, case: Case, device: str, call_seconds: float, size_seconds: float, seconds_left: float
) -> Row:
    """Milliseconds from the first image's inputs to the last one's results, after one call at the case's own size.

    Refused if the estimate exceeds LIMIT_SECONDS or `seconds_left`. The estimate adds up `call_seconds` of a call on
    the case, scaled to each image's pixels, and `size_seconds` for compiling at each new size.
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
