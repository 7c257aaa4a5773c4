"""Results as Markdown tables. A missing value is written as "not measured"; no cell is left blank."""

import functools
from collections.abc import Callable, Iterable

from ..measure import GPUS, Row
from .gpu_bounds import BOUNDS, verdict
from .results import Source
from .roofline import PIXELS, kernel_name, shown
from .svg_card import memory_text, milliseconds_text

NOT_MEASURED = "not measured"
# The titles of the operations, in the order of the report.
OPERATIONS = {
    "loss": "Smoothness loss",
    "retinex": "Retinex step",
    "step": "Training step, 3 stages",
    "enhance": "Enhancing one picture",
}
_STEP_PARTS = ("network", "loss", "backward", "optimizer")


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table; bars are escaped and line breaks removed in cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |" for line in lines
    )


def figures_table(sources: list[Source], letters: list[str]) -> str:
    """The numbers that are promised, with a column for each machine; missed bounds are marked."""
    bounds: dict[str, str] = {}
    for row in (row for source in sources for row in source.rows):
        bounds.setdefault(row["what"], row["bound"])
    found = [{row["what"]: row for row in source.rows} for source in sources]
    lines = [[what, bound, *(_promise(rows.get(what), bound) for rows in found)] for what, bound in bounds.items()]
    return markdown(["promise", "bound", *letters], lines)


def _promise(row: dict | None, bound: str) -> str:
    if row is None or row["passed"] is None:
        return NOT_MEASURED
    other = "" if row["bound"] == bound else f" (its bound was {row['bound']})"
    return ("" if row["passed"] else "**missed:** ") + row["measured"] + other


def sizes_table(rows: list[dict]) -> str:
    """Providers by sizes: the median of the main part, and how many times faster than the reference it is."""
    part, sizes = main_part(rows), _sizes(rows)
    providers = _providers(rows)
    lines = [[f"`{name}`", *(_size_cell(rows, name, part, size) for size in sizes)] for name in providers]
    return markdown([part_name(part), *(f"{width}x{height}" for width, height in sizes)], lines)


def details_table(rows: list[dict], size: tuple[int, int]) -> str:
    """Everything that was measured at one size, a line for each provider."""
    part, rows = main_part(rows), with_operation(rows)
    columns: list[tuple[str, Callable[[dict[str | None, dict]], str]]] = [
        (part_name(name), functools.partial(_part_timing, name))
        for name in dict.fromkeys(row["part"] for row in rows if row["part"])
    ]

    def column(title: str, key: str, text: Callable[[dict], str]) -> None:
        # Where the part is missing or failed, the column of its time says why.
        columns.append((title, lambda parts: text(parts[part]) if has(parts.get(part), key) else NOT_MEASURED))

    def optional(title: str, key: str, text: Callable[[dict], str]) -> None:
        if any(has(row, key) for row in rows):
            column(title, key, text)

    optional("on the device", "device_ms", lambda row: milliseconds_text(_middle(row["device_ms"])))
    optional("GB/s (of a copy)", "gb_per_s", _bandwidth)
    column("peak memory", "extra_bytes", lambda row: memory_text(row["extra_bytes"]))
    optional("launches", "launches", lambda row: f"{_middle(row['launches']):g}")
    column("first call", "first_call_s", lambda row: milliseconds_text(1e3 * row["first_call_s"]))
    optional("a new size", "new_size_ratio", lambda row: f"{row['new_size_ratio']:.1f}x")
    optional("20 sizes", "stream_ms", lambda row: milliseconds_text(_middle(row["stream_ms"])))
    optional("largest image, planned", "largest_planned", _largest)
    lines = []
    for name in _providers(rows):
        parts = {row["part"]: row for row in reversed(rows) if row["provider"] == name and _size(row) == size}
        lines.append([f"`{name}`", *(text(parts) for _, text in columns)])
    return markdown(["provider", *(title for title, _ in columns)], lines)


def _part_timing(name: str, parts: dict[str | None, Row]) -> str:
    """The time of one part; of a provider that failed as a whole, why there is none."""
    return timing(parts.get(name, parts.get(None)))


def breakdown_table(rows: list[dict], size: tuple[int, int]) -> str:
    """The parts of a training step at one size."""
    lines = []
    for name in _providers(rows):
        (row, *_) = [row for row in rows if row["provider"] == name and _size(row) == size] or [{}]
        parts = row.get("breakdown_ms") or {}
        cells = [milliseconds_text(parts[part]) if part in parts else NOT_MEASURED for part in _STEP_PARTS]
        lines.append([f"`{name}`", *cells])
    return markdown(["part of a step", *_STEP_PARTS], lines)


def bounds_table(rows: list[dict], environment: dict) -> str:
    """What a GPU must reach, and what was measured."""
    lines = [verdict(bound, rows, environment, ("triton", "ours")) for bound in BOUNDS]
    return markdown(["what", "bound", "measured", "details"], [list(map(str, line)) for line in lines])


def kernels_table(rows: list[dict], target: str) -> str:
    """Counts from the machine code, and the least times that follow from them on the target's GPU."""
    gpu, lines = GPUS[target], []
    for row in shown(rows, target):
        issue, moved = gpu.issue_ms(row["instructions"], PIXELS), gpu.memory_ms(row["bytes"], PIXELS)
        counts = [f"{row[key]:.0f}" for key in ("registers", "instructions", "bytes")]
        lines.append([kernel_name(row), *counts, f"{issue:.3f}", f"{moved:.3f}"])
    return markdown(
        ["kernel", "registers", "instructions per pixel", "bytes per pixel", "issue, ms", "memory, ms"], lines
    )


def is_measured(row: dict) -> bool:
    """Whether the row has a time."""
    return row["status"] == "ok" and bool(row.get("ms"))


def main_part(rows: list[dict]) -> str | None:
    """The part that is shown where there is room for one."""
    parts = list(dict.fromkeys(row["part"] for row in rows if row["part"]))
    return "forward+backward" if "forward+backward" in parts else parts[0] if parts else None


# What is measured once for an operation, and is in the row of one of its parts.
_OF_THE_OPERATION = ("extra_bytes", "first_call_s", "new_size_ratio", "stream_ms", "largest_planned")


def with_operation(rows: list[dict]) -> list[dict]:
    """The rows, of one dtype and color, each with what was measured for its provider and size in any of them."""
    result = []
    for row in rows:
        same = [row, *(other for other in rows if other["provider"] == row["provider"] and _size(other) == _size(row))]
        known = {key: other[key] for other in reversed(same) for key in _OF_THE_OPERATION if has(other, key)}
        result.append(row | known)
    return result


def part_name(part: str | None) -> str:
    return (part or "time").replace("+", " and ").replace("backward illumination", "backward, illumination only")


def fullest_size(rows: list[dict]) -> tuple[int, int]:
    """The size with most measured rows, the largest of several."""
    good = [_size(row) for row in rows if is_measured(row)] or [_size(row) for row in rows]
    return max(set(good), key=lambda size: (good.count(size), size[0] * size[1]))


def _size(row: dict) -> tuple[int, int]:
    return row["width"], row["height"]


def _sizes(rows: list[dict]) -> list[tuple[int, int]]:
    return sorted({_size(row) for row in rows}, key=lambda size: size[0] * size[1])


def _providers(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(row["provider"] for row in rows if row["provider"]))


def _size_cell(rows: list[dict], provider: str, part: str | None, size: tuple[int, int]) -> str:
    # A row without a provider or part is about all of them, such as where parity failed.
    here = [
        row for row in rows
        if _size(row) == size and row["provider"] in (provider, None) and row["part"] in (part, None)
    ]  # fmt: skip
    for row in here:
        if is_measured(row):
            ratio = (row.get("times_faster_than") or {}).get("reference")
            return milliseconds_text(_middle(row["ms"])) + (f" ({_ratio(ratio)})" if ratio else "")
    return reason(here[0]) if here else NOT_MEASURED


def timing(row: dict | None) -> str:
    if row is None:
        return NOT_MEASURED
    if not is_measured(row):
        return reason(row)
    ms = row["ms"]
    return f"{milliseconds_text(ms['median'])} [{', '.join(milliseconds_text(ms[key]) for key in ('p20', 'p80'))}]"


def reason(row: dict) -> str:
    """Why there is no number."""
    return NOT_MEASURED if row["status"].startswith(("ok", NOT_MEASURED)) else row["status"]


def _bandwidth(row: dict) -> str:
    percent = 100 * row["copy_share"] if has(row, "copy_share") else None
    share = "" if percent is None else f" ({percent:.0f}%)" if percent >= 10 else f" ({percent:.2g}%)"
    rate = row["gb_per_s"]
    return (f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}") + share


def _largest(row: dict) -> str:
    found = row["largest_planned"]
    return f"{found['width']}x{found['height']} in {found['memory_bytes'] / 2**30:g} GiB"


def _ratio(value: float) -> str:
    return f"{value:.1f}x" if value >= 0.95 else f"{value:.1g}x"


def has(row: dict | None, key: str) -> bool:
    return row is not None and row.get(key) is not None


def _middle(value: float | dict) -> float:
    return value["median"] if isinstance(value, dict) else value
