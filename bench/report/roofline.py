"""A roofline plot: the rate that each kernel can reach at most on one GPU, and the rates that were reached.

The roof is `min(issue rate, bandwidth * instructions per byte)`. A kernel's instructions are counted in its machine
code, its bytes by hand (`python -m bench kernels`), so its point on the roof is a bound, not a measurement. If it was
timed on the same GPU, a second point below the roof shows the rate that it reached.
"""

import re
from pathlib import Path

from ..measure import GPUS, Gpu
from .results import commit, date
from .svg_card import CARD, INK, SOFT, WIDTH, axes, card, spread, stamp

PIXELS = 3840 * 2160
# The kernels for training and enhancing with three channels in float32; the others differ little from them.
SHOWN = re.compile(r"^fp32 (ycbcr 3 (both|illumination)|reference 3 (both|illumination)|retinex|enhance)$")
_HEIGHT = 5.2
_BYTES, _ISSUE = "#0072b2", "#c44601"
_NAMES = {
    "color_fwd": "color transform",
    "color_bwd": "gradient of the colors",
    "loss_fwd": "loss, forward",
    "loss_bwd": "loss, backward",
    "retinex_fwd": "Retinex, forward",
    "retinex_bwd": "Retinex, backward",
    "enhance": "enhance: network and division",
}


def kernel_name(row: dict) -> str:
    """The name of a kernel for readers."""
    words = row["case"].split()[1:]
    name = _NAMES.get(row["kernel"], row["kernel"])
    if row["kernel"] == "loss_bwd":
        name += f", {words[2]}"
    return name if words[0] in ("retinex", "enhance") else f"{name}, {words[0]}"


def shown(rows: list[dict], target: str) -> list[dict]:
    """The kernels that match `SHOWN`, compiled for `target` and with counted instructions, each once."""
    kept: dict[str, dict] = {}
    for row in map(_three_channels, rows):
        if row["target"] == target and row["instructions"] and SHOWN.match(row["case"]):
            kept.setdefault(kernel_name(row), row)
    return sorted(kept.values(), key=_order)


def _three_channels(row: dict) -> dict:
    """The color transform works on single values: its one kernel, counted with one channel, serves three as well."""
    if not (row["kernel"].startswith("color") and row["case"].endswith("reference 1 both") and row["instructions"]):
        return row
    threefold = {key: 3 * row[key] for key in ("instructions", "bytes")}
    return row | threefold | {"case": row["case"].replace(" 1 ", " 3 ")}


def _order(row: dict) -> tuple:
    """The sort key: loss before Retinex, `ycbcr` before `reference`, forward before backward."""
    words = row["case"].split()
    kernels = ("color_fwd", "loss_fwd", "loss_bwd", "color_bwd", "retinex_fwd", "retinex_bwd", "enhance")
    return words[1] != "ycbcr", kernels.index(row["kernel"]), words[-1] != "both"


def draw_rooflines(kernels: list[dict], timed: list[dict], environment: dict, folder: Path) -> list[Path]:
    """Draws a roofline for each target whose kernels' instructions were counted; returns the files."""
    paths = []
    for target in dict.fromkeys(row["target"] for row in kernels):
        rows = shown(kernels, target) if target in GPUS else []
        if rows:
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(folder / f"roofline-{target}.svg")
            _draw(paths[-1], GPUS[target], target, rows, reached(rows, timed), _copy_tb(timed), environment)
    return paths


def reached(kernels: list[dict], timed: list[dict]) -> dict[int, float]:
    """Milliseconds at 3840x2160 of the kernels that were timed alone, by their index in the list.

    With `reference` colors a call launches several kernels, whose times no row has.
    """
    parts = {
        "loss_fwd": ("loss", "ycbcr", "forward"),
        "loss_bwd both": ("loss", "ycbcr", "backward"),
        "loss_bwd illumination": ("loss", "ycbcr", "backward illumination"),
        "retinex_fwd": ("retinex", None, "forward"),
        "retinex_bwd": ("retinex", None, "backward"),
    }
    times = {
        (row["op"], row.get("color"), row["part"]): row["device_ms"]["median"]
        for row in timed
        if row["status"] == "ok" and row["provider"] == "triton" and row.get("device_ms")
        and row["dtype"] == "float32" and (row["width"], row["height"]) == (3840, 2160)
    }  # fmt: skip
    found = {}
    for index, row in enumerate(kernels):
        words = row["case"].split()
        key = f"{row['kernel']} {words[-1]}" if row["kernel"] == "loss_bwd" else row["kernel"]
        if key in parts and (words[1] in ("ycbcr", "retinex")) and parts[key] in times:
            found[index] = times[parts[key]]
    return found


def _copy_tb(timed: list[dict]) -> float | None:
    """TB/s of the copy that rows timed on a GPU are compared with."""
    rates = [row["gb_per_s"] / row["copy_share"] for row in timed if row.get("device_ms") and row.get("copy_share")]
    return max(rates) / 1e3 if rates else None


def _draw(
    path: Path, gpu: Gpu, target: str, rows: list[dict], times: dict[int, float], copy: float | None, environment: dict
) -> None:
    title = f"Kernels under the roof of an {gpu.name} ({target})"
    what = "Counted, not measured: instructions from the machine code, bytes by hand; a dot is a bound."
    if times:
        what = "Open dots: bounds, counted from machine code and by hand. Filled: measured."
    foot = stamp(environment) if times else f"compiled without a GPU  ·  {_compiled_with(environment)}"
    rows_order = sorted(range(len(rows)), key=lambda index: _intensity(rows[index]))
    with card(path, _HEIGHT, title, what, foot) as figure:
        ax = axes(figure, _HEIGHT, left=0.85, right=4.03, bottom=1.0, top=0.95)
        _plot_roof(ax, gpu, [_intensity(row) for row in rows], copy)
        points = [(_intensity(rows[i]), _roof(gpu, _intensity(rows[i]))) for i in rows_order]
        _plot_points(ax, gpu, points)
        for rank, index in enumerate(rows_order):
            if index in times:
                rate = rows[index]["instructions"] * PIXELS / (times[index] / 1e3)
                x, roof = points[rank]
                ax.plot([x, x], [rate, roof], color=INK, linewidth=0.8, alpha=0.5)
                ax.plot(x, rate, "o", color=_color(gpu, x), markersize=7)
        _key(figure, gpu, [(rows[i], times.get(i)) for i in rows_order])


def _compiled_with(environment: dict) -> str:
    versions = f"triton {environment.get('triton') or 'not recorded'}"
    return "  ·  ".join([versions, f"commit {commit(environment)}", date(environment)])


def _intensity(row: dict) -> float:
    return row["instructions"] / row["bytes"]


def _issue(gpu: Gpu) -> float:
    """Instructions per second of all lanes."""
    return 1e3 / gpu.issue_ms(1, 1)


def _roof(gpu: Gpu, intensity: float) -> float:
    return min(_issue(gpu), gpu.bandwidth_tb * 1e12 * intensity)


def _color(gpu: Gpu, intensity: float) -> str:
    return _ISSUE if _roof(gpu, intensity) == _issue(gpu) else _BYTES


def _plot_roof(ax, gpu: Gpu, intensities: list[float], copy: float | None) -> None:
    ridge = _issue(gpu) / (gpu.bandwidth_tb * 1e12)
    low, high = min(*intensities, ridge / 4) / 1.6, max(*intensities, ridge * 2) * 1.6
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(_roof(gpu, low) / 1.3, _issue(gpu) * 2.6))
    memory = f"{gpu.bandwidth_tb:g} TB/s"
    ax.plot([low, ridge], [_roof(gpu, low), _issue(gpu)], color=_BYTES, linewidth=2.5, label=memory)
    issue = f"{_issue(gpu) / 1e12:.1f}·10¹² instructions/s"
    ax.plot([ridge, high], [_issue(gpu)] * 2, color=_ISSUE, linewidth=2.5, label=issue)
    if copy:
        ends = [low, _issue(gpu) / (copy * 1e12)]
        label = f"a copy, measured: {copy:.2f} TB/s"
        ax.plot(ends, [copy * 1e12 * x for x in ends], color=_BYTES, linewidth=1.2, linestyle=(0, (4, 2)), label=label)
    ax.legend(loc="lower right", frameon=False, fontsize=8.5, labelcolor="linecolor", handlelength=1.6)
    ax.set_xticks([x for x in (0.5, 1, 2, 5, 10, 20, 50) if low <= x <= high])
    ax.set_yticks([y * 1e12 for y in (0.5, 1, 2, 5, 10, 20, 50, 100) if _roof(gpu, low) / 1.3 <= y * 1e12])
    ax.set_ylim(_roof(gpu, low) / 1.3, _issue(gpu) * 2.6)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value / 1e12:g}")
    ax.minorticks_off()
    ax.set_xlabel("instructions per byte", color=SOFT)
    ax.set_ylabel("10¹² instructions per second", color=SOFT)


def _plot_points(ax, gpu: Gpu, points: list[tuple[float, float]]) -> None:
    """Draws a dot on the roof for each kernel, with its letter above."""
    across = [ax.transAxes.inverted().transform(ax.transData.transform(point)) for point in points]
    places = spread([x for x, _ in across], 0.062)
    for rank, ((x, y), place) in enumerate(zip(points, places, strict=True)):
        color = _color(gpu, x)
        ax.plot(x, y, "o", color=CARD, markeredgecolor=color, markeredgewidth=1.8, markersize=7, zorder=3)
        ax.annotate(
            chr(ord("A") + rank), (x, y), (place, across[rank][1] + 0.11), textcoords="axes fraction", ha="center",
            fontweight="bold", color=color, arrowprops=dict(arrowstyle="-", color=color, alpha=0.6, shrinkB=4),
        )  # fmt: skip


def _key(figure, gpu: Gpu, rows: list[tuple[dict, float | None]]) -> None:
    """Writes which kernel each letter stands for, and its least time at 3840x2160."""
    left, top, line = 1 - 3.83 / WIDTH, 1 - 1.05 / _HEIGHT, 0.235 / _HEIGHT
    columns = [1 - 0.28 / WIDTH] if not any(time for _, time in rows) else [1 - 0.98 / WIDTH, 1 - 0.28 / WIDTH]
    small = dict(fontsize=8.5, ha="right")
    for x, title in zip(columns, ("ms at 4k: at least", "measured"), strict=False):
        figure.text(x, top, title, color=SOFT, **small)
    for rank, (row, time) in enumerate(rows):
        y, color = top - (rank + 1.1) * line, _color(gpu, _intensity(row))
        bound = max(gpu.issue_ms(row["instructions"], PIXELS), gpu.memory_ms(row["bytes"], PIXELS))
        figure.text(left, y, chr(ord("A") + rank), fontweight="bold", color=color, fontsize=9)
        figure.text(left + 0.2 / WIDTH, y, kernel_name(row), fontsize=8.5)
        for x, text in zip(columns, (f"{bound:.3f}", f"{time:.3f}" if time else "–"), strict=False):
            figure.text(x, y, text, **small)
    y = top - (len(rows) + 1.6) * line
    figure.text(left, y, "bound by the bytes it moves", color=_BYTES, fontsize=8.5, fontweight="bold")
    figure.text(left, y - line, "bound by the instructions it issues", color=_ISSUE, fontsize=8.5, fontweight="bold")
