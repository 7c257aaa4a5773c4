"""What exposing a picture costs compared with the published division, and the filter compared with OpenCV's.

    python -m bench exposing [--size 1080p] [--repeats 15] [--json FILE]

The picture is uint8, channels last, like those from files. `division` is the published division; `exposure` the same
pass with an exposure; `with gain` also writes the gain; `denoise` is the filter, which needs the gain;
`bilateralFilter` is OpenCV's of the same width, 5 pixels (pip install opencv-python-headless; where it is missing, its
row has no numbers). `finding` is `sci_kernels.exposure` of 12 megapixels, on one thread. Before that, each result is
compared with its definition in float64; a call that differs by more than one gray level is not timed. On a GPU there
are neither OpenCV's filter nor bounds, and the time on the device is measured as well. Exits with status 1 if a result
is wrong or misses its bound.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

import sci_kernels
from model import EnhanceNetwork, fold, load_weights

from ..measure import Repeated, Row, Timing, choose_device, environment, milliseconds, take_turns
from . import one_picture

SIZE, LARGE = "1080p", (3000, 4000)
EXPOSURE = 8.0
# Bounds: of the time with an exposure, as a multiple of the division's, and of finding the exposure.
SLOWER, FINDING_MS = 1.25, 10.0
_CROP = 96  # rows are compared, since the definition in float64 is slow


def picture(height: int, width: int, device: str) -> Tensor:
    """A dark scene with noise, uint8 `(1, 3, H, W)`, channels last."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [25 + 20 * np.sin(x / (31 + 5 * c)) * np.cos(y / (23 + 3 * c)) for c in range(3)]
    noise = generator.normal(0, 3, (height, width, 3))
    pixels = np.clip(np.stack(planes, axis=-1) + noise, 0, 255).astype(np.uint8)
    return torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None]


def measure(height: int, width: int, device: str, repeats: int) -> Iterator[Row]:
    """A row for each call."""
    network = EnhanceNetwork()
    load_weights(network)
    weights, image = fold(network), picture(height, width, device)
    bright, gain = sci_kernels.enhance(image, weights, exposure=EXPOSURE, return_gain=True)
    calls: dict[str, Callable[[], object]] = {
        "division": lambda: sci_kernels.enhance(image, weights),
        "exposure": lambda: sci_kernels.enhance(image, weights, exposure=EXPOSURE),
        "with gain": lambda: sci_kernels.enhance(image, weights, exposure=EXPOSURE, return_gain=True),
        "denoise": lambda: sci_kernels.denoise(bright, gain),
    }
    errors = _errors(image[:, :, :_CROP], weights)
    wrong = {name for name, error in errors.items() if not error <= 1.0}
    reason = "not measured: opencv-python-headless is not installed"
    if device == "cpu" and (filter := _opencv(bright)) is not None:
        calls["bilateralFilter"] = filter
    times = _timed({name: call for name, call in calls.items() if name not in wrong}, repeats, device)
    for name in (*errors, "bilateralFilter") if device == "cpu" else errors:
        row = {"call": name, "width": width, "height": height, "status": "ok", "error": errors.get(name)}
        if name in times:
            row |= _milliseconds(*times[name])
        elif name in wrong:
            row["status"] = f"not measured: differs by {errors[name]:.1f} gray levels"
        else:
            row["status"] = reason
        yield row | {"must": _must(name, times) if device == "cpu" else None}
    yield _finding(weights, device, repeats)


_Times = dict[str, tuple[Timing, Timing | None]]  # of each call: as called, and on the device of a GPU


def _timed(calls: dict[str, Callable[[], object]], repeats: int, device: str) -> _Times:
    def repeated(call: Callable[[], object]) -> Repeated:
        return Repeated(lambda _: call(), 1, device)

    return take_turns({name: repeated(call) for name, call in calls.items()}, repeats, device)


def _milliseconds(called: Timing, on_device: Timing | None) -> Row:
    return {"ms": milliseconds(called), "device_ms": on_device and milliseconds(on_device)}


def _errors(image: Tensor, weights: sci_kernels.EnhanceWeights) -> dict[str, float]:
    """The largest difference of each result from its definition, in gray levels."""
    exact = image.double() / 255
    wanted, gain = sci_kernels.enhance(exact, weights, exposure=EXPOSURE, return_gain=True, impl="reference")
    # Truncated as published: compared with the exact value, truncation alone would differ by up to one level.
    division = (255 * _enhanced(exact, weights, impl="reference")).floor() / 255
    bright = _enhanced(image, weights, exposure=EXPOSURE)
    filtered = sci_kernels.denoise(bright.double() / 255, gain, impl="reference")
    found = sci_kernels.enhance(image, weights, exposure=EXPOSURE, return_gain=True)[0]
    pairs = {
        "division": (_enhanced(image, weights), division),
        "exposure": (bright, wanted),
        "with gain": (found, wanted),
        "denoise": (sci_kernels.denoise(bright, gain.float()), filtered),
    }
    return {name: float((got.double() - 255 * exact).abs().max()) for name, (got, exact) in pairs.items()}


def _enhanced(
    image: Tensor, weights: sci_kernels.EnhanceWeights, exposure: float | None = None, impl: str = "auto"
) -> Tensor:
    """The picture alone."""
    result = sci_kernels.enhance(image, weights, exposure=exposure, impl=impl)
    return result if isinstance(result, Tensor) else result[0]


def _opencv(bright: Tensor) -> Callable[[], object] | None:
    """A call of OpenCV's filter on the same picture; None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(torch.get_num_threads())
    pixels = np.ascontiguousarray(bright[0].permute(1, 2, 0).numpy())
    return lambda: cv2.bilateralFilter(pixels, 5, 30, 2)


def _must(name: str, times: _Times) -> float | None:
    """The milliseconds that a call may take, derived from another call of the same run; None: it has no bound."""
    bounds = {"exposure": ("division", SLOWER), "with gain": ("division", SLOWER), "denoise": ("bilateralFilter", 1.0)}
    other, factor = bounds.get(name, (None, 0.0))
    return 1e3 * factor * times[other][0].median if other in times else None


def _finding(weights: sci_kernels.EnhanceWeights, device: str, repeats: int) -> Row:
    image, threads = picture(*LARGE, device), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = _timed({"finding": lambda: sci_kernels.exposure(image, weights)}, repeats, device)
    finally:
        torch.set_num_threads(threads)
    row = {"call": "finding", "width": LARGE[1], "height": LARGE[0], "status": "ok", "error": None}
    return row | _milliseconds(*times["finding"]) | {"must": FINDING_MS if device == "cpu" else None}


def kept(row: Row) -> bool:
    """Whether a call is right and keeps its bound, if it has one; without OpenCV its row counts as kept."""
    if row["status"] != "ok":
        return row["call"] == "bilateralFilter"
    return row["must"] is None or row["ms"]["median"] <= row["must"]


def text_of(row: Row) -> str:
    """A row as a line of text."""
    start = f"{row['call']:16}{row['width']}x{row['height']}  "
    if row["status"] != "ok":
        return start + row["status"]
    must = "" if row["must"] is None else f" (must: <= {row['must']:.1f} ms{'' if kept(row) else ', MISSED'})"
    on_device = f", {row['device_ms']['median']:.3f} ms on the device" if row.get("device_ms") else ""
    return f"{start}{row['ms']['median']:.2f} ms [{row['ms']['p20']:.2f}, {row['ms']['p80']:.2f}]{on_device}{must}"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    return one_picture.parse("exposing", __doc__.splitlines()[0], SIZE, 15, "calls", argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    device, machine, rows = choose_device(args.device), environment(), []
    height, width = args.size
    for row in measure(height, width, device, args.repeats):
        rows.append(row)
        print(text_of(row), flush=True)
    if not one_picture.save(args, "exposing", SIZE, device, {"environment": machine, "rows": rows}):
        return 2
    return 0 if all(map(kept, rows)) else 1
