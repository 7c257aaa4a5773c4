"""What must be reached on a GPU, mostly at 3840x2160 in float32, as shares of what the same card can do at best.

A kernel takes at least as long as issuing its instructions, which are counted in its machine code, with the card's
multiprocessors at their highest clock. It also takes at least as long as moving its bytes, at the bandwidth that a copy
reached in the same run. These two times are its floors; its share is the larger floor divided by the time it took.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from ..measure import ROOT, Gpu, size_of

_COUNTS = ROOT / "bench" / "results" / "static" / "kernels.json"
# For (op, color, part, dtype): the kernel that takes most of the part's time, and the case in which it was counted.
_KERNELS = {
    ("loss", "ycbcr", "forward", "float32"): ("loss_fwd", "fp32 ycbcr 3 both"),
    ("loss", "ycbcr", "backward", "float32"): ("loss_bwd", "fp32 ycbcr 3 both"),
    ("loss", "ycbcr", "backward illumination", "float32"): ("loss_bwd", "fp32 ycbcr 3 illumination"),
    ("retinex", None, "forward", "float32"): ("retinex_fwd", "fp32 retinex"),
    ("retinex", None, "backward", "float32"): ("retinex_bwd", "fp32 retinex"),
    ("enhance", None, "reflectance", "float32"): ("enhance", "fp32 enhance"),
    ("enhance", None, "reflectance", "uint8"): ("enhance", "u8 enhance"),
}


class Bound(NamedTuple):
    """What a row must reach: by default that of what this library does by default."""

    op: str
    color: str | None
    part: str
    quantity: str  # "share" (of its larger floor), another key of the row, or the provider that it must be faster than
    limit: float
    at_most: bool = False  # the limit is the largest value allowed; else the smallest
    dtype: str = "float32"
    size: str = "4k"
    provider: str | None = None  # another one


def _bounds() -> Iterator[Bound]:
    for part in ("forward", "backward", "backward illumination"):
        yield Bound("loss", "ycbcr", part, "share", 1 / 1.5)
    for color in ("ycbcr", "reference"):
        for provider, factor in (("reference", 100), ("pairs", 25), ("compiled", 8)):
            yield Bound("loss", color, "forward+backward", provider, factor)
        yield Bound("loss", color, "forward+backward", "new_size_ratio", 2, at_most=True)
    for part in ("forward", "backward"):
        yield Bound("retinex", None, part, "copy_share", 0.85)
    yield Bound("retinex", None, "forward+backward", "new_size_ratio", 2, at_most=True)
    yield Bound("enhance", None, "reflectance", "device_ms", 0.25, at_most=True, dtype="uint8")
    yield Bound("enhance", None, "reflectance", "latency_ms", 0.1, at_most=True, dtype="uint8", size="600x400")
    yield Bound("step", None, "step", "reference", 2.5, size="1080p")
    yield Bound("step", None, "step", "memory", 5, size="1080p")
    yield Bound("step", None, "step", "reference", 3, size="1080p", provider="ours-convolutions")
    yield Bound("step", None, "step of 8", "ours", 2, size="256x256", provider="ours --graph")


BOUNDS = tuple(_bounds())


def floors_ms(row: dict, environment: dict) -> tuple[float, float] | None:
    """The floors (issue, memory) of a row's kernel on the card that it ran on; None where they are not known."""
    key = (row["op"], row["color"], row["part"], row["dtype"])
    multiprocessors, clock_ghz = environment.get("multiprocessors"), environment.get("clock_ghz")
    if key not in _KERNELS or multiprocessors is None or clock_ghz is None or not row.get("gb_per_s"):
        return None
    moved = row["gb_per_s"] * row["device_ms"]["median"] * 1e6  # bytes
    bandwidth = row["gb_per_s"] / row["copy_share"] * 1e9
    gpu = Gpu("measured", multiprocessors, clock_ghz, bandwidth / 1e12, 64, 32)
    pixels = row["height"] * row["width"]
    instructions = _instructions()[_KERNELS[key]]
    return gpu.issue_ms(instructions, pixels), gpu.memory_ms(moved / pixels, pixels)


def _instructions() -> dict[tuple[str, str], float]:
    """Instructions per pixel of each (kernel, case), compiled for sm_90."""
    rows = json.loads(_COUNTS.read_text("utf-8"))["rows"]
    return {(row["kernel"], row["case"]): row["instructions"] for row in rows if row["target"] == "sm_90"}


def find(bound: Bound, rows: list[dict], providers: tuple[str, ...]) -> dict | None:
    """The row that a bound is about; None where it was not measured."""
    height, width = size_of(bound.size)
    providers = (bound.provider,) if bound.provider else providers
    for row in rows:
        same = (row["op"], row["color"], row["part"]) == bound[:3] and row["provider"] in providers
        same = same and (row["height"], row["width"], row["dtype"]) == (height, width, bound.dtype)
        if same and row["status"] == "ok" and measured(bound, row, rows, {}) is not None:
            return row
    return None


def measured(bound: Bound, row: dict, rows: list[dict], environment: dict) -> float | None:
    """The value of the bound's quantity in a row. Without an environment the share is that of the copy's bandwidth."""
    if bound.quantity == "share":
        floors = environment and floors_ms(row, environment)
        return max(floors) / row["device_ms"]["median"] if floors else row["copy_share"]
    if bound.quantity == "device_ms":
        return row["device_ms"] and row["device_ms"]["median"]
    if bound.quantity == "memory":
        theirs = [r["extra_bytes"] for r in _same_case(row, rows, "reference") if r.get("extra_bytes")]
        return theirs[0] / row["extra_bytes"] if theirs and row.get("extra_bytes") else None
    return row.get(bound.quantity, row["times_faster_than"].get(bound.quantity))


def _same_case(row: dict, rows: list[dict], provider: str) -> list[dict]:
    """The rows of another provider for the same operation and image."""
    keys = ("op", "color", "part", "height", "width", "dtype")
    return [other for other in rows if other["provider"] == provider and all(other[key] == row[key] for key in keys)]


def verdict(bound: Bound, rows: list[dict], environment: dict, providers: tuple[str, ...]) -> tuple[str, str, str, str]:
    """Texts: what is bounded, the bound, the measured value with a mark if it misses, and the times behind it."""
    row = find(bound, rows, providers)
    value = None if row is None else measured(bound, row, rows, environment)
    name, number = _texts(bound)
    limit = f"{'at most' if bound.at_most else 'at least'} {number.format(bound.limit)}"
    if row is None or value is None:
        return name, limit, "not measured", "-"
    met = value <= bound.limit if bound.at_most else value >= bound.limit
    return name, limit, ("" if met else "**missed:** ") + number.format(value), _detail(bound, row, rows, environment)


def describe(bound: Bound, rows: list[dict], environment: dict, providers: tuple[str, ...], judged: bool) -> str:
    """The verdict as one line; without the bound where it is not `judged`."""
    name, limit, got, detail = verdict(bound, rows, environment, providers)
    missed = got.startswith("**")
    got = got.removeprefix("**missed:** ")
    word = "" if not judged or got == "not measured" else "MISS" if missed else "pass"
    return f"  {name:74} {got:>12}  {limit if judged else '':17} {word:5}{detail.removeprefix('-')}".rstrip()


def _detail(bound: Bound, row: dict, rows: list[dict], environment: dict) -> str:
    """The times behind a share or a ratio."""
    if bound.quantity in ("share", "copy_share") and row["device_ms"]:
        floors = floors_ms(row, environment)
        known = f"; floors: issue {floors[0]:.3f}, memory {floors[1]:.3f}" if floors else ""
        return f"{row['device_ms']['median']:.3f} ms on the device{known}"
    ratio = row["times_faster_than"].get(bound.quantity)
    if ratio and row["device_ms"]:
        # From a process in which the two were timed in turns.
        other = _same_case(row, rows, bound.quantity)
        theirs = next((r for r in other if r.get("device_ms") and row["provider"] in r["times_faster_than"]), None)
        on_device = theirs and theirs["device_ms"]["median"] / row["device_ms"]["median"]
        return f"calls of {row['ms']['median']:.3g} ms" + (f"; {on_device:.3g}x on the device" if on_device else "")
    return "-"


def _texts(bound: Bound) -> tuple[str, str]:
    """The name of what is bounded, and the format of its number."""
    op = None if bound.part.startswith(bound.op) else bound.op
    dtype = bound.dtype if bound.op == "enhance" else None
    by = bound.provider and f"by `{bound.provider}`"
    name = " ".join(filter(None, (op, bound.color, bound.part, dtype, bound.size, by)))
    if bound.quantity == "share":
        return f"{name}, share of its larger floor", "{:.0%}"
    if bound.quantity == "copy_share":
        return f"{name}, share of a copy's bandwidth", "{:.0%}"
    if bound.quantity == "device_ms":
        return f"{name}, on the device", "{:.3f} ms"
    if bound.quantity == "latency_ms":
        return f"{name}, from the call to the result", "{:.3f} ms"
    if bound.quantity == "new_size_ratio":
        return f"{name}, first call at a new size over the next", "{:.1f}x"
    if bound.quantity == "memory":
        return f"{name}, less memory than the reference", "{:.1f}x"
    return f"{name}, faster than {bound.quantity}", "{:.1f}x"
