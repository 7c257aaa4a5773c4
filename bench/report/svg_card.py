"""What all plots share: the card they are drawn on, how numbers are written, labels that do not overlap."""

import contextlib
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

from model.files import write_atomically

from .results import commit, date, device

WIDTH = 8.2  # inches; 72 units of the SVG each
CARD, EDGE, INK, SOFT, GRID = "#fcfcfa", "#d0d7de", "#1f2328", "#59636e", "#e6e8eb"


def stamp(environment: dict) -> str:
    """The line under every plot: the machine, the version of torch, the commit, the date."""
    versions = f"torch {environment.get('torch') or 'not recorded'}"
    return "  ·  ".join([device(environment), versions, f"commit {commit(environment)}", date(environment)])


@contextlib.contextmanager
def card(path: Path, height: float, title: str, subtitle: str, foot: str) -> Iterator:
    """A matplotlib figure on a card, with its texts; written to `path` when the context ends."""
    from matplotlib import style

    settings = {
        "svg.fonttype": "path",
        "svg.hashsalt": "sci-kernels",
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "path.simplify": False,
    }
    with style.context(["default", settings]):  # not the user's own style
        from matplotlib.figure import Figure  # it needs no display and no global state of pyplot
        from matplotlib.patches import FancyBboxPatch

        figure = Figure(figsize=(WIDTH, height), facecolor="none")
        corner = 0.1
        box = FancyBboxPatch(
            (0.02, 0.02), WIDTH - 0.04, height - 0.04, f"round,pad=0,rounding_size={corner}",
            transform=figure.dpi_scale_trans, facecolor=CARD, edgecolor=EDGE, linewidth=1, zorder=-1,
        )  # fmt: skip
        figure.add_artist(box)
        left = 0.28 / WIDTH
        figure.text(left, 1 - 0.38 / height, title, fontsize=13.5, fontweight="bold")
        figure.text(left, 1 - 0.62 / height, subtitle, color=SOFT)
        figure.text(left, 0.19 / height, foot, color=SOFT, fontsize=8.5)
        yield figure
        write_svg(figure, path)


def write_svg(figure, path: Path) -> None:
    """Writes an SVG without a date, so that the same figure gives the same bytes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
    write_atomically(path, text.encode())


def axes(figure, height: float, left: float = 0.85, right: float = 2.45, bottom: float = 0.95, top: float = 0.9):
    """Axes with only a light grid; margins are in inches."""
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + top) / height)
    ax = figure.add_axes(box, facecolor="none")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelcolor=SOFT)
    ax.grid(color=GRID, linewidth=1)
    ax.set_axisbelow(True)
    return ax


def milliseconds_text(value: float) -> str:
    """Milliseconds with three digits, as s, ms or µs."""
    for unit, factor in (("s", 1e-3), ("ms", 1.0), ("µs", 1e3)):
        if value * factor >= 1 or unit == "µs":
            return f"{_three(value * factor)} {unit}"
    raise AssertionError


def memory_text(value: float) -> str:
    """Bytes with three digits, as GB, MB or kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor or unit == "kB":
            return f"{_three(value / factor)} {unit}"
    raise AssertionError


def on_axis(text: str) -> str:
    """A number for an axis, without zeros after the point."""
    return re.sub(r"\.0+(?= )", "", text)


def _three(value: float) -> str:
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 2)}f}"


def spread(values: list[float], gap: float) -> list[float]:
    """The values, moved as little as possible so that they are `gap` apart; their order stays."""
    order = sorted(range(len(values)), key=values.__getitem__)
    blocks: list[list] = []  # [sum over the members of where the first would be, number of members]
    for rank, index in enumerate(order):
        blocks.append([values[index] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    firsts = [total / count for total, count in blocks for _ in range(count)]
    result = [0.0] * len(values)
    for rank, (index, first) in enumerate(zip(order, firsts, strict=True)):
        result[index] = first + rank * gap
    return result
