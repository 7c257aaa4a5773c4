"""The drawings of docs/kernels.md. No result is in them: what they show is how the kernels are written."""

import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .svg_card import EDGE, INK, SOFT, WIDTH, card

_OWN, _SIDE, _NEW, _EMPTY, _FAR = "#9ccbe8", "#f3d38b", "#0072b2", "#ffffff", "#8f96a0"
_CELL = 0.34


class _Board:
    """A card in inches, y downwards, on which cells, arrows and words are put."""

    def __init__(self, ax):
        self._ax = ax

    def cell(self, x: float, y: float, color: str, text: str = "", size: float = _CELL, dark: bool = False) -> None:
        from matplotlib.patches import Rectangle

        self._ax.add_patch(Rectangle((x, y), size, size, facecolor=color, edgecolor=SOFT, linewidth=0.8))
        if text:
            where = (x + size / 2, y + size / 2)
            self.words(*where, text, color="white" if dark else INK, ha="center", va="center", fontsize=9)

    def row(self, x: float, y: float, cells: Iterable[tuple[str, str]]) -> None:
        """Cells side by side: (color, text)."""
        for index, (color, text) in enumerate(cells):
            self.cell(x + index * _CELL, y, color, text, dark=color == _NEW)

    def words(self, x: float, y: float, text: str, **style) -> None:
        self._ax.text(x, y, text, **{"va": "center", "fontsize": 9.5, **style})

    def arrow(self, start: tuple[float, float], end: tuple[float, float], both: bool = False, **style) -> None:
        line = {"color": INK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, **style}
        self._ax.annotate("", end, start, arrowprops={"arrowstyle": "<->" if both else "->", **line})

    def box(self, x: float, y: float, width: float, height: float, **style) -> None:
        from matplotlib.patches import Rectangle

        look = {"facecolor": "none", "edgecolor": INK, "linewidth": 1.8, **style}
        self._ax.add_patch(Rectangle((x, y), width, height, **look))


@contextmanager
def _board(path: Path, height: float, title: str, subtitle: str, foot: str = "") -> Iterator[_Board]:
    with card(path, height, title, subtitle, foot) as figure:
        ax = figure.add_axes((0, 0, 1, 1), facecolor="none")
        ax.set(xlim=(0, WIDTH), ylim=(height, 0))
        ax.set_axis_off()
        yield _Board(ax)


def _draw_pairs(path: Path) -> None:
    subtitle = "w and d are the same seen from p and from q, so a pair counts twice and is computed once"
    with _board(path, 3.55, "24 neighbors are 12 pairs", subtitle) as board:
        for left, half in ((0.75, False), (4.85, True)):
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    later = dy > 0 or (dy == 0 and dx > 0)
                    taken = (dx or dy) and (later or not half)
                    color = _NEW if not (dx or dy) else _OWN if taken else _EMPTY
                    text = "p" if color == _NEW else f"{dx},{dy}" if taken and half else ""
                    where = (left + (dx + 2) * 1.2 * _CELL, 1.0 + (dy + 2) * 1.2 * _CELL)
                    board.cell(*where, color, text, size=1.2 * _CELL, dark=color == _NEW)
        board.arrow((3.25, 2.0), (4.4, 2.0), linewidth=2)
        board.words(3.8, 1.75, "half of them", ha="center")
        board.words(1.75, 3.25, "the definition: 24 directions (dx, dy)", ha="center", color=SOFT)
        board.words(5.9, 3.25, "2 in p's row, 5 in each of two rows below", ha="center", color=SOFT)


def _draw_march(path: Path) -> None:
    title = "Forward: a thread owns 4 columns and marches down"
    subtitle = "the pairs of each new row with itself and with the two rows above it"
    with _board(path, 4.0, title, subtitle) as board:
        left, top, tile = 0.45, 1.25, (0.9, 0.62)
        for line in range(3):
            for column in range(3):
                color = _OWN if (line, column) == (1, 1) else "#f0f2f4"
                board.box(left + column * tile[0], top + line * tile[1], *tile, facecolor=color, linewidth=1)
        board.arrow((left + 1.35, top + 0.68), (left + 1.35, top + 1.2))
        for line in (1, 2):
            board.box(left + 0.9, top + tile[1] - 0.07 * line, tile[0], 0.07, edgecolor=_NEW, linewidth=1)
        board.words(left, top - 0.18, "an image and its tiles, a program each", color=SOFT)
        for line, words in enumerate((
            "A program is one warp: 32 threads, 128", "columns, and a march of 8 to 96 rows. It",
            "begins with the two rows above its tile.",
        )):  # fmt: skip
            board.words(left, top + 2.06 + 0.19 * line, words, color=SOFT)
        x, y = 4.55, 1.3
        for index in range(8):
            name = f"{index - 2}"
            board.words(x + (index + 0.5) * _CELL, y - 0.15, name, ha="center", color=SOFT, fontsize=8.5)
        for line, words in enumerate(("row - 2", "row - 1")):
            board.row(x, y + line * _CELL, [(_EMPTY, "")] * 2 + [(_OWN, "")] * 4 + [(_EMPTY, "")] * 2)
            board.words(x - 0.12, y + (line + 0.5) * _CELL, words, ha="right")
        board.row(x, y + 2 * _CELL, [(_SIDE, "")] * 2 + [(_NEW, "")] * 4 + [(_SIDE, "")] * 2)
        board.words(x - 0.12, y + 2.5 * _CELL, "row", ha="right", fontweight="bold")
        board.words(x + 8 * _CELL + 0.15, y + _CELL, "stay in\nregisters", color=SOFT)
        board.words(x + 8 * _CELL + 0.15, y + 2.5 * _CELL, "read now", color=SOFT)
        for start, count in ((0, 2), (2, 4), (6, 2)):
            edge, y_of = x + (start + 0.06) * _CELL, y + 3.3 * _CELL
            board.arrow((edge, y_of), (edge + (count - 0.12) * _CELL, y_of), both=True, linewidth=1)
            board.words(edge + count * _CELL / 2, y_of + 0.17, f"{count}", ha="center", fontsize=8.5, color=SOFT)
        for line, words in enumerate((
            "vectors of 2, 4 and 2 columns (4: 16 bytes in", "float32), taken apart in registers: a shift by dx",
            "is another index, so nothing moves between", "threads or through shared memory",
        )):  # fmt: skip
            board.words(x - 0.75, y + 4.6 * _CELL + 0.19 * line, words, color=SOFT)


def _draw_gradient(path: Path) -> None:
    title = "Backward: a pair is computed once and added to both ends"
    subtitle = "a thread keeps the sums of three rows; those of a row are complete after the two rows below it"
    with _board(path, 4.05, title, subtitle) as board:
        x, y, wide = 1.75, 1.25, 1.35
        rows = ("row", "row + 1", "row + 2")
        for line, words in enumerate(rows):
            top = y + line * 0.62
            board.row(x, top, [(_SIDE, "")] * 2 + [(_OWN, "")] * 4 + [(_SIDE, "")] * 2)
            board.words(x - 0.15, top + _CELL / 2, words, ha="right")
            sums = x + 8 * _CELL + 0.45
            board.box(sums, top, wide, _CELL, edgecolor=SOFT, linewidth=1, facecolor=_EMPTY)
            board.words(sums + wide / 2, top + _CELL / 2, f"sums of {words}", ha="center", fontsize=9)

        def center(column: int, line: int) -> tuple[float, float]:
            return x + (column + 2.5) * _CELL, y + line * 0.62 + _CELL / 2

        for column, line, text in ((1, 0, "+t"), (2, 2, "−t"), (3, 0, "+s"), (4, 1, "")):
            color = _NEW if column < 4 else _SIDE
            board.cell(x + (column + 2) * _CELL, y + line * 0.62, color, text, dark=color == _NEW)
        board.arrow(center(1, 0), center(2, 2), both=True, shrinkA=12, shrinkB=12, color=INK)
        board.arrow(center(4, 1), center(3, 0), shrinkA=7, shrinkB=12, color=INK)
        right = x + 8 * _CELL + 0.45 + wide
        board.arrow((right + 0.04, y + _CELL / 2), (right + 0.5, y + _CELL / 2))
        board.words(right + 0.56, y + _CELL / 2, "written")
        for line in (0, 1):
            middle = right - wide / 2
            board.arrow((middle, y + 0.62 * (line + 1)), (middle, y + 0.62 * line + _CELL), linewidth=1, color=SOFT)
        for line, words in enumerate((
            "t: both ends are the thread's own. It is computed once, added to one sum and subtracted from the other.",
            "s: one end is the neighboring thread's, which computes the pair as well, and adds it to its own sum.",
            "Every sum is made by one thread in one order: no atomics, the same bits on every run.",
        )):  # fmt: skip
            board.words(0.45, 3.3 + 0.22 * line, words)


def _draw_colors(path: Path) -> None:
    subtitle = "an image of 4x2 pixels as it lies in memory: the planes R, G and B one after the other"
    with _board(path, 3.3, "Which three values the color matrix mixes", subtitle) as board:
        x, cell = 0.45, 0.3
        planes = (("R", "#f4c7c3"), ("G", "#c8e6c9"), ("B", "#c5d4f2"))
        for index in range(24):
            name, color = planes[index // 8]
            board.cell(x + index * cell, 1.75, color, f"{name}{index % 8}", size=cell)
        ends = [x + (2 + 8 * plane + 0.5) * cell for plane in range(3)]
        for end in ends:
            board.arrow((end, 1.35), (end, 1.73), color=_NEW)
        board.box(ends[0], 1.35, ends[2] - ends[0], 0, edgecolor=_NEW)
        board.words(x, 1.14, 'color="ycbcr": R, G and B of one pixel, what was meant', color=_NEW, fontweight="bold")
        for triple in range(8):
            straddles = triple in (2, 5)
            left = x + (3 * triple + 0.08) * cell
            look = {"color": "#c44601" if straddles else INK, "linewidth": 1.8 if straddles else 1.1}
            board.arrow((left, 2.2), (left + 2.84 * cell, 2.2), both=True, **look)
        official = 'color="reference": three consecutive elements, as the official code computes it'
        board.words(x, 2.48, official, fontweight="bold")
        for line, words in enumerate((
            "Two of these triples straddle planes, and others straddle rows. So a kernel of its own writes Y once, and",
            "another takes the gradient of Y back to the image.",
        )):  # fmt: skip
            board.words(x, 2.72 + 0.2 * line, words, color=SOFT)


def _draw_sign(path: Path) -> None:
    title = "w sign(f) in one instruction"
    subtitle = "min.NaN.xorsign.abs gives the smaller magnitude, with the product of the signs"
    with _board(path, 3.05, title, subtitle) as board:
        columns = (0.45, 2.5, 4.35, 6.2)
        heads = ("f = L(p) - L(q)", "smaller magnitude", "sign", "result")
        rows = (
            ("f = +0.3", "w 2^-60", "+", "+w 2^-60"),
            ("f = -0.3", "w 2^-60", "-", "-w 2^-60"),
            ("f = 0", "0", "any", "0"),
            ("NaN", "NaN", "any", "NaN"),
        )
        for x, text in zip(columns, heads, strict=True):
            board.words(x, 1.05, text, fontweight="bold")
        for line, cells in enumerate(rows):
            y = 1.38 + 0.27 * line
            board.box(0.4, y - 0.135, WIDTH - 0.8, 0, edgecolor=EDGE, linewidth=0.8)
            for index, (x, text) in enumerate(zip(columns, cells, strict=True)):
                look = {"color": _NEW, "fontweight": "bold"} if index == 3 else {}
                board.words(x, y, text, **look)
        for line, words in enumerate((
            "w is scaled by 2^-60 before, and the finished sum by 2^60. Exact if no nonzero |f| is below w 2^-60,",
            "about 10^-18. That sign(0) = 0 matters: clamped illuminations are often equal.",
        )):  # fmt: skip
            board.words(0.45, 2.6 + 0.2 * line, words, color=SOFT)


def _draw_rows(path: Path) -> None:
    title = "On a CPU: five rows in a ring, a vector of pixels at a time"
    subtitle = "each pixel gathers from its 24 neighbors; each thread takes bands of rows"
    with _board(path, 3.75, title, subtitle) as board:
        x, y = 1.5, 1.15
        for line in range(5):
            own = [(_NEW if line == 2 else _OWN, "")] * 4
            sides = [(_SIDE, "")] * 2
            board.row(
                x, y + line * _CELL, [(_FAR, ""), (_EMPTY, ""), *sides, *own, *sides, *[(_EMPTY, "")] * 5, (_FAR, "")]
            )
            name = ("row - 2", "row - 1", "row", "row + 1", "row + 2")[line]
            board.words(x - 0.12, y + (line + 0.5) * _CELL, name, ha="right")
        board.box(x + 4 * _CELL, y + 2 * _CELL, 4 * _CELL, _CELL)
        for line, words in enumerate((
            "Framed: one vector of pixels (16 floats with AVX-512; drawn: 4). A neighbor (dx, dy) is a vector that",
            "begins dx elements later in another row of the ring. The gray columns beyond the image hold a color so",
            "far from all others that its weight is 0: no branch at the borders. The next row replaces the oldest.",
        )):  # fmt: skip
            board.words(0.45, 3.08 + 0.2 * line, words)


_DRAWINGS: dict[str, Callable[[Path], None]] = {
    "pairs.svg": _draw_pairs,
    "march.svg": _draw_march,
    "gradient.svg": _draw_gradient,
    "colors.svg": _draw_colors,
    "sign.svg": _draw_sign,
    "rows.svg": _draw_rows,
}


@functools.cache
def drawings() -> dict[str, bytes]:
    """Each drawing's file, by name."""
    with tempfile.TemporaryDirectory(prefix="sci-drawings-") as folder:
        for name, draw in _DRAWINGS.items():
            draw(Path(folder) / name)
        return {name: (Path(folder) / name).read_bytes() for name in _DRAWINGS}
