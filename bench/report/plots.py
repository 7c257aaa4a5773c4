"""Pictures of results: time and memory against image size, the parts of a training step, a roofline.

Each is an SVG on a card with a background of its own, so that it reads the same on a light and on a dark page. Letters
are paths. The same rows give the same bytes. matplotlib is imported only when something is drawn.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .roofline import draw_rooflines
from .svg_card import CARD, INK, SOFT, axes, card, memory_text, milliseconds_text, on_axis, spread, stamp
from .tables import OPERATIONS, is_measured, main_part, with_operation

# Okabe and Ito's colors, darkened where they would be too pale for text; markers tell them apart without color.
STYLES = {
    "reference": ("#4d4d4d", "s"),
    "pairs": ("#b36b00", "^"),
    "compiled": ("#0072b2", "D"),
    "compiled-dynamic": ("#2f97cf", "v"),
    "blocked": ("#00805f", "o"),
    "native": ("#c44601", "o"),
    "triton": ("#c44601", "o"),
    "ours": ("#c44601", "o"),
}
_OTHER_STYLE = ("#9c4f82", "P")
_PARTS = {"network": "#0072b2", "loss": "#d55e00", "backward": "#8f96a0", "optimizer": "#e3a21a"}
_WHOLE = "#d3d7dc"


def draw(rows: list[dict], environment: dict, folder: Path) -> list[Path]:
    """Draws all pictures for which there are enough rows; returns the files.

    Args:
        rows: of `python -m bench loss|retinex|enhance|step`, of `python -m bench kernels`, or of both. With both, a
            roofline also shows the rates of kernels that were timed on the GPU that they were compiled for.
        environment: of the same run, from `bench.measure.environment`; its `gpu` is None where no GPU was used.
        folder: created if needed. Raises OSError where it cannot be written.

    A line needs two sizes, the bars of a step need its parts' times, and a roofline needs counted instructions.
    """
    if not rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    timed = [row for row in rows if "op" in row]
    paths = []
    for group in _groups(timed):
        paths += _draw_against_size(group, environment, folder)
    paths += _draw_steps([row for row in timed if row["op"] == "step"], environment, folder)
    return paths + draw_rooflines([row for row in rows if "kernel" in row], timed, environment, folder)


def _groups(rows: list[dict]) -> list[list[dict]]:
    """The rows of each picture: one operation, dtype and color, and the main part of it."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["dtype"], row.get("color")), []).append(row)
    result = []
    for group in groups.values():
        if measured := [row for row in group if is_measured(row)]:
            part = main_part(measured)
            result.append([row for row in with_operation(group) if row["part"] in (part, None)])
    return result


def _draw_against_size(rows: list[dict], environment: dict, folder: Path) -> list[Path]:
    """Draws time and peak memory, each where it was measured at two sizes or more."""
    first = rows[0]
    name = "-".join(filter(None, (first["op"], first.get("color"), first["dtype"])))
    part = next((row["part"] for row in rows if row["part"]), None)
    words = [first["dtype"], f"{first['color']} colors" if first.get("color") else None, "log-log"]
    title = OPERATIONS.get(first["op"], first["op"])
    title += f", {part.replace('+', ' and ')}" if part and part not in (first["op"], "forward") else ""
    values = {
        "time": (_time, milliseconds_text, f"{title}: time", "median of a call, band from 20th to 80th percentile"),
        "memory": (_memory, memory_text, f"{title}: peak memory", "beyond the inputs"),
    }
    paths = []
    for kind, (value, text, heading, what) in values.items():
        lines = _lines(rows, value)
        if max((len(points) for points in lines.values()), default=0) < 2:
            continue
        path = folder / f"{name}-{kind}.svg"
        with card(path, 4.6, heading, ", ".join([what, *filter(None, words)]), stamp(environment)) as figure:
            ax = axes(figure, 4.6)
            _plot_lines(ax, lines, rows, text)
        paths.append(path)
    return paths


def _time(row: dict) -> tuple[float, float, float]:
    ms = row["ms"]
    return ms["p20"], ms["median"], ms["p80"]


def _memory(row: dict) -> tuple[float, float, float] | None:
    return (row["extra_bytes"],) * 3 if row.get("extra_bytes") else None


def _lines(rows: list[dict], value: Callable) -> dict[str, list[tuple[int, tuple]]]:
    """For each provider (pixels, (low, middle, high)), from small to large images."""
    lines: dict[str, dict[int, tuple]] = {}
    for row in rows:
        if is_measured(row) and row["provider"] and (found := value(row)):
            lines.setdefault(row["provider"], {}).setdefault(row["width"] * row["height"], found)
    return {name: sorted(points.items()) for name, points in lines.items()}


def _plot_lines(ax, lines: dict[str, list], rows: list[dict], text: Callable[[float], str]) -> None:
    ax.set(xscale="log", yscale="log")
    for name, points in lines.items():
        color, marker = STYLES.get(name, _OTHER_STYLE)
        x, (low, middle, high) = [p for p, _ in points], zip(*(v for _, v in points), strict=True)
        ax.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
        dashes = (0, (3, 1.5)) if name == "compiled-dynamic" else "-"
        ax.plot(
            x, middle, color=color, marker=marker, markersize=6, linewidth=2, linestyle=dashes, markeredgecolor=CARD
        )
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.05)  # room for the label of a line that ends before the others
    _size_ticks(ax, rows)
    _value_ticks(ax, text)
    _end_labels(ax, lines, rows, text)


def _size_ticks(ax, rows: list[dict]) -> None:
    """Labels the sizes that were measured; of two whose labels would overlap, the larger."""
    sizes = {row["width"] * row["height"]: f"{row['width']}×{row['height']}" for row in rows}
    low, high = math.log(min(sizes)), math.log(max(sizes))
    kept: list[int] = []
    for pixels in sorted(sizes, reverse=True):
        if not kept or math.log(kept[-1]) - math.log(pixels) > 0.16 * (high - low):
            kept.append(pixels)
    ax.set_xticks(kept, [sizes[pixels] for pixels in kept])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("image size", color=SOFT, labelpad=6)


def _value_ticks(ax, text: Callable[[float], str]) -> None:
    """Labels powers of ten, and three times those where there would be few labels."""
    low, high = ax.get_ylim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = math.log10(high / low) < 2
    ticks = [10.0**p * k for p in powers for k in ((1, 3) if few else (1,)) if low <= 10.0**p * k <= high]
    ax.set_yticks(ticks, [on_axis(text(tick)) for tick in ticks])
    ax.set_yticks([], minor=True)


def _end_labels(ax, lines: dict[str, list], rows: list[dict], text: Callable[[float], str]) -> None:
    """Writes each line's name and last value next to its end; labels that would overlap are moved apart."""
    end = max(points[-1][0] for points in lines.values())
    low, high = map(math.log10, ax.get_ylim())
    at = {name: (math.log10(points[-1][1][1]) - low) / (high - low) for name, points in lines.items()}
    placed = dict(zip(at, spread(list(at.values()), 0.068), strict=True))
    for name, points in lines.items():
        x, (_, value, _) = points[-1]
        label, color = f"{name}  {text(value)}", STYLES.get(name, _OTHER_STYLE)[0]
        if x < end:
            beyond = [row["status"] for row in rows if row["provider"] == name and row["width"] * row["height"] > x]
            short = next((status.split(":")[0] for status in beyond if status != "ok"), "not measured")
            place: dict[str, Any] = dict(xytext=(-3, 7), textcoords="offset points", ha="right", va="bottom")
            label = f"{label}, then {short}"
        else:
            line = dict(arrowstyle="-", color=color, alpha=0.5, shrinkA=2, shrinkB=5, relpos=(0, 0.5))
            place = dict(xytext=(1.03, placed[name]), textcoords="axes fraction", va="center", arrowprops=line)
        ax.annotate(label, (x, value), color=color, fontsize=9.5, fontweight="bold", annotation_clip=False, **place)


def _draw_steps(rows: list[dict], environment: dict, folder: Path) -> list[Path]:
    """Draws the parts of a step as stacked bars, at the size that most providers have, the largest of those."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        if is_measured(row):
            key = (row["dtype"], row.get("color"), row["width"], row["height"])
            found.setdefault(key, {}).setdefault(row["provider"], row)
    found = {key: bars for key, bars in found.items() if any(row.get("breakdown_ms") for row in bars.values())}
    if not found:
        return []
    key = max(found, key=lambda key: (len(found[key]), key[2] * key[3]))
    bars, (dtype, color, width, height) = found[key], key
    name = "-".join(filter(None, ("step", color, dtype, "breakdown")))
    path, tall = folder / f"{name}.svg", 2.1 + 0.62 * len(bars)
    title = f"{OPERATIONS['step']}, {width}×{height}: where the time goes"
    subtitle = ", ".join(filter(None, ("medians", dtype, f"{color} colors" if color else None)))
    with card(path, tall, title, subtitle, stamp(environment)) as figure:
        _plot_bars(axes(figure, tall, left=1.5, right=1.6, bottom=0.85, top=1.25), bars)
    return [path]


def _plot_bars(ax, bars: dict[str, dict]) -> None:
    # A step that is compiled as one graph has no parts that could be timed.
    parts = {name: row.get("breakdown_ms") or {"one graph": row["ms"]["median"]} for name, row in bars.items()}
    longest = max(sum(values.values()) for values in parts.values())
    slowest = max(row["ms"]["median"] for row in bars.values())
    named = set()
    for y, (name, row) in enumerate(bars.items()):
        left = 0.0
        for part, value in parts[name].items():
            color = _PARTS.get(part, _WHOLE)
            ax.barh(
                y, value, 0.62, left, color=color, edgecolor=CARD, linewidth=1.2, label=None if part in named else part
            )
            named.add(part)
            if value > 0.09 * longest:
                dark = part not in ("network", "loss")
                ax.text(left + value / 2, y, milliseconds_text(value), ha="center", va="center", fontsize=9,
                        color=INK if dark else "white")  # fmt: skip
            left += value
        whole = row["ms"]["median"]
        ratio = f"   {slowest / whole:.1f}×" if whole < slowest else ""
        ax.text(left + 0.015 * longest, y, f"{milliseconds_text(whole)}{ratio}", va="center", fontweight="bold")
    ax.set_yticks(range(len(bars)), list(bars))
    ax.tick_params(axis="y", labelcolor=INK, labelsize=10.5)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(0, longest)
    ax.xaxis.set_major_formatter(lambda value, _: on_axis(milliseconds_text(value)) if value else "0")
    ax.locator_params(axis="x", nbins=5)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, frameon=False, handlelength=1, handleheight=1)
