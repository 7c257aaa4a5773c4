"""The README's chart: the loss, forward and backward, by the official code, two rewrites of it, and this library."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .results import Source, commit, date, device
from .svg_card import CARD, INK, SOFT, WIDTH, axes, card, memory_text, milliseconds_text
from .tables import markdown

_CPU_SIZE, _GPU_SIZE = (1920, 1080), (3840, 2160)
_OURS, _OTHERS, _OFFICIAL = "#0072b2", "#e3a21a", "#8f96a0"
# Label, provider on a CPU, provider on a GPU, colors, color of the bar.
_BARS = (
    ("SCI's code", "reference", "reference", "reference", _OFFICIAL),
    ("12-pair rewrite", "pairs", "pairs", "reference", _OTHERS),
    ("torch.compile (YCbCr)", "compiled", "compiled", "ycbcr", _OTHERS),
    ("this library, drop-in", "native", "triton", "reference", _OURS),
    ("this library, YCbCr", "native", "triton", "ycbcr", _OURS),
)
_WAYS = {"accelerate": "SCI's script and `accelerate`", "trainer": "`python -m train`"}


class Bar(NamedTuple):
    """A provider's time in milliseconds; `faster` than the eager reference of the same run and colors."""

    label: str
    ms: float
    faster: float
    color: str


class Panel(NamedTuple):
    """What one machine measured."""

    title: str
    bars: list[Bar]
    foot: str


def panels(sources: list[Source]) -> list[Panel]:
    """A panel for each machine that measured the loss at the chart's size with this library."""
    losses = [source for source in sources if source.kind == "rows" and any(_is_loss(row) for row in source.rows)]
    found = []
    for folder in sorted({source.path.parent for source in losses}):
        here = sorted((s for s in losses if s.path.parent == folder), key=lambda source: -len(source.rows))
        bars = list(filter(None, (_bar(here, *words) for words in _BARS)))
        if {_OURS, _OFFICIAL} <= {bar.color for bar in bars}:
            found.append(_panel(here[0], bars))
    return found


def _is_loss(row: dict) -> bool:
    return row["op"] == "loss" and row["part"] == "forward+backward" and row["dtype"] == "float32"


def _bar(sources: list[Source], label: str, on_cpu: str, on_gpu: str, colors: str, color: str) -> Bar | None:
    for source in sources:
        row, reference = find(source, on_gpu if source.on_gpu else on_cpu, colors), find(source, "reference", colors)
        if row and reference:
            return Bar(label, _middle(source, row), _middle(source, reference) / _middle(source, row), color)
    return None


def find(source: Source, provider: str, colors: str) -> dict | None:
    """The row of one provider at the size of the chart."""
    size = _GPU_SIZE if source.on_gpu else _CPU_SIZE
    for row in filter(_is_loss, source.rows if source.kind == "rows" else []):
        key = (row["provider"], row.get("color"), (row["width"], row["height"]))
        timed = row["status"] == "ok" and (row.get("device_ms") or not source.on_gpu)
        if timed and key == (provider, colors, size):
            return row
    return None


def _panel(source: Source, bars: list[Bar]) -> Panel:
    size = _GPU_SIZE if source.on_gpu else _CPU_SIZE
    what = "×".join(map(str, size)) + (", time on the device" if source.on_gpu else "")
    foot = f"{device(source.environment)}: torch {source.environment.get('torch')}, commit {commit(source.environment)}"
    return Panel(f"{device(source.environment)}, {what}", bars, f"{foot}, {date(source.environment)}")


def draw_gain(found: list[Panel], path: Path) -> None:
    """Horizontal bars, a panel below the other. The times are to scale within a panel."""
    row, head = 0.29, 0.58
    heights = [head + row * len(panel.bars) for panel in found]
    height = 1.3 + sum(heights) + 0.2 * len(found)
    title = "The smoothness loss, forward and backward: less is better"
    subtitle = "median times; × compares with SCI's own definition in eager PyTorch, in the same run and colors"
    with card(path, height, title, subtitle, "") as figure:
        top = 0.85
        for panel, tall in zip(found, heights, strict=True):
            ax = axes(figure, height, 1.95, 1.5, height - top - tall, top + head - 0.22)
            figure.text(0.28 / WIDTH, 1 - (top + 0.22) / height, panel.title, fontweight="bold", color=INK)
            _plot(ax, panel.bars)
            top += tall + 0.2
        for line, panel in enumerate(found):
            y = (0.19 + 0.17 * (len(found) - 1 - line)) / height
            figure.text(0.28 / WIDTH, y, panel.foot, color=SOFT, fontsize=8.5)


def _plot(ax, bars: list[Bar]) -> None:
    longest = max(bar.ms for bar in bars)
    for y, bar in enumerate(bars):
        ax.barh(y, bar.ms, 0.72, color=bar.color, edgecolor=CARD, linewidth=0.8)
        ratio = (
            "" if bar.label == _BARS[0][0] else f"   {bar.faster:.0f}×" if bar.faster >= 10 else f"   {bar.faster:.1f}×"
        )
        ax.text(bar.ms + 0.012 * longest, y, milliseconds_text(bar.ms) + ratio, va="center", fontsize=10,
                fontweight="bold" if bar.color == _OURS else "normal", color=INK)  # fmt: skip
    ax.set_yticks(range(len(bars)), [bar.label for bar in bars])
    ax.tick_params(axis="y", labelcolor=INK, labelsize=10)
    ax.set_ylim(len(bars) - 0.45, -0.55)
    ax.set_xlim(0, longest)
    ax.grid(visible=False)
    ax.set_xticks([])


def gain_text(sources: list[Source], drawn: bool) -> str:
    """The chart and its numbers, for the README."""
    rows = [*_loss_rows(sources), *_step_rows(sources)]
    if not rows:
        return "Not measured: no file of `python -m bench loss` has the sizes of the chart."
    picture = "![The loss, forward and backward: SCI's code, two rewrites, this library](docs/pictures/gain.svg)\n\n"
    head = ["time, and peak memory beyond the inputs", "in plain PyTorch", "with this library", "faster"]
    return (picture if drawn else "") + markdown(head, rows)


def _loss_rows(sources: list[Source]) -> Iterator[list[str]]:
    for source in sources:
        ours = "triton" if source.on_gpu else "native"
        before, after = (find(source, name, "reference") for name in ("reference", ours))
        if before is None or after is None:
            continue
        ratio = f"{_middle(source, before) / _middle(source, after):.0f}x"
        if source.on_gpu:
            call = f"{milliseconds_text(after['ms']['median'])}, {before['ms']['median'] / after['ms']['median']:.0f}x"
            ratio += f" on the device (as a call from Python: {call})"
        name = f"the loss as a drop-in, {before['width']}x{before['height']}, {device(source.environment)}"
        yield [name, *(_time_and_memory(_middle(source, row), row) for row in (before, after)), ratio]


def _middle(source: Source, row: dict) -> float:
    """The median in milliseconds: on a GPU that of the device."""
    return row["device_ms" if source.on_gpu else "ms"]["median"]


def _step_rows(sources: list[Source]) -> Iterator[list[str]]:
    """What a whole training step gains, which consists mostly of convolutions."""
    for source in sources:
        rows = [row for row in source.rows if row.get("status") == "ok"]
        if source.kind == "gain":
            found = {row["way"]: row for row in rows}
            pairs = [(found.get("official"), found.get(way), name) for way, name in _WAYS.items()]
        elif source.kind == "rows" and source.on_gpu:
            found = {row["provider"]: row for row in rows if row["op"] == "step"}
            pairs = [(found.get("reference"), found.get("ours"), "`python -m train`")]
        else:
            continue
        for before, after, name in pairs:
            if before and after:
                times = [row["ms"]["median"] for row in (before, after)]
                size = f"{after['width']}x{after['height']}"
                cells = [_time_and_memory(*pair) for pair in zip(times, (before, after), strict=True)]
                what = f"a whole training step by {name}, {size}, {device(source.environment)}"
                yield [what, *cells, f"{times[0] / times[1]:.1f}x"]


def _time_and_memory(ms: float, row: dict) -> str:
    return milliseconds_text(ms) + (f", {memory_text(row['extra_bytes'])}" if row.get("extra_bytes") else "")
