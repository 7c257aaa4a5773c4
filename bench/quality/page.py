"""The layout and tables of docs/quality.md, which `python -m bench quality` writes."""

import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import page_text as text
from .methods import BARE, DEFAULT, PUBLISHED, UNFILTERED, Measures
from .scenes import NOISIEST, PHOTOGRAPHS, TRAINED_ON


class Pair(NamedTuple):
    """A photograph darkened to one mean."""

    name: str
    mean: float
    exposure: float  # c of the default
    measures: dict[str, Measures]  # by method


class Results(NamedTuple):
    """Everything that was measured for the page."""

    weights: str  # the beginning of the file's SHA-256
    pairs: list[Pair]  # of ordinary photographs
    nature: list[Pair]  # of scenes that are dark by nature
    gray: bool  # whether black and white stayed black and white
    drawn: dict[str, dict[str, Measures]]  # by scene and method
    unchanged: dict[str, tuple[float, bool]]  # by scene: mean luma, and whether every pixel stayed as it was
    shown: dict[str, float]  # by photograph: the mean that its picture shows


def page(results: Results) -> str:
    """The text of docs/quality.md."""
    blocks = [
        *_beginning(results),
        *_network(results),
        *_photographs(results),
        *_drawn(results),
        *_failures(results),
        *_end(),
    ]
    return "\n\n".join(blocks) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def means(pairs: Iterable[Pair], methods: Iterable[str]) -> dict[str, Measures]:
    """The mean of each method over the pairs; that of colors over the pairs that have any."""
    pairs, result = list(pairs), {}
    for method in methods:
        columns = zip(*(pair.measures[method] for pair in pairs), strict=True)
        result[method] = Measures(*(_mean([value for value in column if not math.isnan(value)]) for column in columns))
    return result


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def _beginning(results: Results) -> Iterator[str]:
    mean = means(results.pairs, results.pairs[0].measures)
    with_nature = means([*results.pairs, *results.nature], (DEFAULT, PUBLISHED))
    names = dict.fromkeys(pair.name for pair in results.pairs)
    levels = dict.fromkeys(f"{pair.mean:.2f}" for pair in results.pairs)
    yield text.TITLE
    yield _filled(
        "Dark pictures of many kinds: what the default makes of them, what other methods do, and "
        "[where it fails](#where-it-fails). `python -m bench quality` writes this page, its pictures and its "
        "numbers, except those said to come from elsewhere. The weights are "
        f"[model/pretrained/default.safetensors](../model/pretrained/README.md), SHA-256 `{results.weights}...`."
    )
    yield text.COMPARED
    yield "## In numbers"
    yield _filled(
        f"{len(results.pairs)} pairs: {len(names)} photographs, each in uneven light, ten times as strong in one place "
        f"as in another, darkened to a mean brightness of {', '.join(levels)} (of 1), with the "
        "noise of a sensor ([low_light_photos.py](../bench/low_light_photos.py)). The truth is the photograph, "
        "evenly lit."
    )
    yield _means_table(mean)
    yield text.MEASURES
    better = sum(pair.measures[DEFAULT].psnr > pair.measures[PUBLISHED].psnr for pair in results.pairs)
    fresh = means([pair for pair in results.pairs if pair.name not in TRAINED_ON], (DEFAULT, PUBLISHED))
    yield _filled(
        f"The default is closer to the photograph than the published division in {better} of {len(results.pairs)} "
        "pairs (PSNR). It stops at a mean of 0.40, and most of these photographs are brighter, which costs it most "
        "where the light was strongest. Scenes that are dark by nature are not in this table but "
        f"[below](#dark-by-nature); with them the means are {with_nature[DEFAULT].psnr:.2f} dB for the default and "
        f"{with_nature[PUBLISHED].psnr:.2f} dB for the published division."
    )
    yield _filled(
        "This is not a held-out test. The default weights were trained on the astronaut and the coffee cup, "
        "darkened in other methods, and some of the photographs were looked at when constants of the "
        f"rule were chosen. For the others alone the means are {fresh[DEFAULT].psnr:.2f} dB for the default and "
        f"{fresh[PUBLISHED].psnr:.2f} dB for the published division."
    )
    yield text.BY_EYE


def _means_table(mean: dict[str, Measures]) -> str:
    best = [choose(one[k] for one in mean.values()) for k, choose in enumerate((max, max, min, min))]
    rows = []
    for method, one in mean.items():
        cells = f"{one.psnr:.2f} dB", f"{one.ssim:.3f}", f"{one.loe:.0f}", f"{one.clipped:.2f} %"
        marked = (f"**{cell}**" if one[k] == best[k] else cell for k, cell in enumerate(cells))
        rows.append([method, *marked, f"{100 * one.color:.0f} %"])
    return table(["mean of all pairs", "PSNR", "SSIM", "LOE", "newly clipped", "color"], rows)


def _network(results: Results) -> Iterator[str]:
    mean = means(results.pairs, (DEFAULT, BARE))
    less = mean[DEFAULT].psnr - mean[BARE].psnr
    yield "### What the network contributes, and what it does not"
    yield text.NETWORK
    yield _filled(
        "Without any network (s = 1 in the formula of `sci_kernels.enhance`) the same rule reaches "
        f"{mean[BARE].psnr:.2f} dB on the pairs above, {abs(less):.1f} dB {'less' if less >= 0 else 'more'} than "
        f"with it, and SSIM {mean[BARE].ssim:.3f} against {mean[DEFAULT].ssim:.3f}."
    )
    yield text.LOL


def _photographs(results: Results) -> Iterator[str]:
    yield "## Photographs, darkened"
    yield (
        "In the tables: PSNR in dB / SSIM / LOE / newly clipped in percent, for each mean; "
        "*c* is the exposure that was found."
    )
    for name in dict.fromkeys(pair.name for pair in results.pairs):
        pairs, title = [pair for pair in results.pairs if pair.name == name], PHOTOGRAPHS[name].title
        yield f"### {title}"
        yield f"![{title}, darkened to {results.shown[name]:.2f}, by each method](pictures/{name}.jpg)"
        yield table(
            ["", *(f"mean {pair.mean:.2f}, c = {pair.exposure:.1f}" for pair in pairs)],
            ([method, *(_cell(pair.measures[method]) for pair in pairs)] for method in pairs[0].measures),
        )
        yield _filled(_better_methods(pairs))
        if name == "camera":
            yield "Black and white " + (
                "stays black and white." if results.gray else "did **not** stay black and white."
            )
        if name == "hopper":
            yield text.HOPPER


def _better_methods(pairs: list[Pair]) -> str:
    """The methods that did better than the default, as a sentence."""
    found = []
    for pair in pairs:
        others = [method for method in pair.measures if method not in (DEFAULT, UNFILTERED, BARE)]
        better = [method for method in others if pair.measures[method].psnr > pair.measures[DEFAULT].psnr]
        if better:
            found.append(f"at {pair.mean:.2f} {', '.join(better)}")
    return f"Closer to the photograph than the default (PSNR): {'; '.join(found) or 'none'}."


def _cell(one: Measures) -> str:
    return f"{one.psnr:.1f} / {one.ssim:.2f} / {one.loe:.0f} / {one.clipped:.1f}"


def _drawn(results: Results) -> Iterator[str]:
    yield "## Scenes of lamps and windows"
    yield text.DRAWN
    for name, title in (("street", "A lamp-lit street (drawn)"), ("backlit", "A backlit room (drawn)")):
        yield f"### {title}"
        yield f"![{title}, by each method](pictures/{name}.jpg)"
        rows = ([method, f"{one.loe:.0f}", f"{one.clipped:.2f} %"] for method, one in results.drawn[name].items())
        yield table(["", "LOE", "newly clipped"], rows)
    yield "## Left as they are"
    yield text.UNCHANGED
    yield "![Daylight, black and white, snow and a screenshot: as they are, default, published](pictures/unchanged.jpg)"
    kept = results.unchanged.items()
    rows = ([name, f"{mean:.2f}", "all, to the bit" if same else "**no**"] for name, (mean, same) in kept)
    yield table(["", "mean luma", "pixels as they were"], rows)


def _failures(results: Results) -> Iterator[str]:
    yield "## Where it fails"
    yield "### Dark by nature"
    yield text.NATURE
    yield "![A deep field and a moon (drawn), each in four methods](pictures/dark-by-nature.jpg)"
    rows = (
        [method, *(f"{pair.measures[method].psnr:.1f} / {pair.measures[method].ssim:.2f}" for pair in results.nature)]
        for method in results.nature[0].measures
    )
    yield table(["PSNR in dB / SSIM", *(f"{pair.name}, {pair.mean:.2f}" for pair in results.nature)], rows)
    yield text.NO_STATISTIC
    yield "### A page in dark mode"
    yield text.DARK_MODE
    yield "![A screenshot in dark mode (drawn): as it is, default, less strength, published](pictures/dark-mode.jpg)"
    yield "### A dark subject in a bright picture"
    yield text.SUBJECT
    yield "![A person before a bright window (drawn): as it is, two exposures, published](pictures/before-a-window.jpg)"
    yield "### Noise"
    yield text.NOISE.format(darkest=NOISIEST)
    yield f"![Details of two photographs darkened to {NOISIEST}, with and without the filter](pictures/noise.jpg)"
    yield "### Colors that fade"
    yield text.FADE
    yield _faded(results)


def _faded(results: Results) -> str:
    darkest = min(pair.mean for pair in results.pairs)
    color = means([pair for pair in results.pairs if pair.mean == darkest], results.pairs[0].measures)
    others = (
        f"{method} {100 * color[method].color:.0f} %" for method in color if method not in (DEFAULT, UNFILTERED, BARE)
    )
    return _filled(
        f"At a mean of {darkest:.2f} the default has {100 * color[DEFAULT].color:.0f} % of the photographs' color; "
        f"{', '.join(others)}. Noise counts as color here. The cup "
        "above shows it best: its red is duller than CLAHE's."
    )


def _end() -> Iterator[str]:
    yield text.ADVICE
    yield "## Where the pictures come from"
    yield text.SOURCES
    rows = ([one.title, one.author, one.terms] for one in PHOTOGRAPHS.values())
    yield table(["photograph", "by", "in its source's words"], rows)
