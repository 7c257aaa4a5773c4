"""The layout and tables of docs/quality.md; see `quality`."""

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


class Found(NamedTuple):
    """All the page needs to know."""

    weights: str  # the beginning of the file's SHA-256
    pairs: list[Pair]  # of ordinary photographs
    nature: list[Pair]  # of scenes that are dark by nature
    gray: bool  # whether black and white stayed so
    drawn: dict[str, dict[str, Measures]]  # by scene and method
    unchanged: dict[str, tuple[float, bool]]  # by scene: mean luma, and whether every pixel stayed as it was
    shown: dict[str, float]  # by photograph: the mean that its picture shows


def page(found: Found) -> str:
    """docs/quality.md."""
    blocks = [*_beginning(found), *_network(found), *_photographs(found), *_drawn(found), *_failures(found), *_end()]
    return "\n\n".join(blocks) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def means(pairs: Iterable[Pair], ways: Iterable[str]) -> dict[str, Measures]:
    """Of each method the mean over pairs; of colors over those that have any."""
    pairs, result = list(pairs), {}
    for way in ways:
        columns = zip(*(pair.measures[way] for pair in pairs), strict=True)
        result[way] = Measures(*(_mean([value for value in column if not math.isnan(value)]) for column in columns))
    return result


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def _beginning(found: Found) -> Iterator[str]:
    mean = means(found.pairs, found.pairs[0].measures)
    with_nature = means([*found.pairs, *found.nature], (DEFAULT, PUBLISHED))
    names = dict.fromkeys(pair.name for pair in found.pairs)
    levels = dict.fromkeys(f"{pair.mean:.2f}" for pair in found.pairs)
    yield text.TITLE
    yield _filled(
        "Dark pictures of many kinds, what the default makes of them, and what else could have been done; and "
        "[where it fails](#where-it-fails). `python -m bench quality` writes this page, its pictures and its "
        "numbers, but for those said to come from elsewhere. The weights are "
        f"[model/pretrained/default.safetensors](../model/pretrained/README.md), SHA-256 `{found.weights}...`."
    )
    yield text.COMPARED
    yield "## In figures"
    yield _filled(
        f"{len(found.pairs)} pairs: {len(names)} photographs, each in uneven light, ten times as much in one place "
        f"as in another, brought to a mean brightness of {', '.join(levels)} (of 1), with the "
        "noise of a sensor ([low_light_photos.py](../bench/low_light_photos.py)). The truth is the photograph, "
        "evenly lit."
    )
    yield _means_table(mean)
    yield text.MEASURES
    better = sum(pair.measures[DEFAULT].psnr > pair.measures[PUBLISHED].psnr for pair in found.pairs)
    fresh = means([pair for pair in found.pairs if pair.name not in TRAINED_ON], (DEFAULT, PUBLISHED))
    yield _filled(
        f"The default is nearer to the photograph than the published division in {better} of {len(found.pairs)} "
        "pairs (PSNR). It stops at a mean of 0.40, and most of these photographs are brighter, which costs it most "
        "where there was most light. Scenes that are dark by nature are not in this table but "
        f"[below](#dark-by-nature); with them the means are {with_nature[DEFAULT].psnr:.2f} dB for the default and "
        f"{with_nature[PUBLISHED].psnr:.2f} dB for the published division."
    )
    yield _filled(
        "This is no held-out test. The astronaut and the coffee cup, darkened in other ways, are what the "
        "default weights were trained on, and some of the photographs were looked at when constants of the "
        f"rule were chosen. Of the others alone the means are {fresh[DEFAULT].psnr:.2f} dB for the default and "
        f"{fresh[PUBLISHED].psnr:.2f} dB for the published division."
    )
    yield text.BY_EYE


def _means_table(mean: dict[str, Measures]) -> str:
    best = [choose(one[k] for one in mean.values()) for k, choose in enumerate((max, max, min, min))]
    rows = []
    for way, one in mean.items():
        cells = f"{one.psnr:.2f} dB", f"{one.ssim:.3f}", f"{one.loe:.0f}", f"{one.clipped:.2f} %"
        marked = (f"**{cell}**" if one[k] == best[k] else cell for k, cell in enumerate(cells))
        rows.append([way, *marked, f"{100 * one.color:.0f} %"])
    return table(["mean of all pairs", "PSNR", "SSIM", "LOE", "newly clipped", "color"], rows)


def _network(found: Found) -> Iterator[str]:
    mean = means(found.pairs, (DEFAULT, BARE))
    less = mean[DEFAULT].psnr - mean[BARE].psnr
    yield "### What the network contributes, and what it does not"
    yield text.NETWORK
    yield _filled(
        "Without any network (s = 1 in the formula of `sci_kernels.enhance`) the same rule reaches "
        f"{mean[BARE].psnr:.2f} dB on the pairs above, {abs(less):.2f} dB {'less' if less >= 0 else 'more'} than "
        f"with it, and SSIM {mean[BARE].ssim:.3f} against {mean[DEFAULT].ssim:.3f}."
    )
    yield text.LOL


def _photographs(found: Found) -> Iterator[str]:
    yield "## Photographs, darkened"
    yield "In the tables: PSNR in dB / SSIM / LOE / newly clipped in percent, for each mean; *c* is the exposure found."
    for name in dict.fromkeys(pair.name for pair in found.pairs):
        pairs, title = [pair for pair in found.pairs if pair.name == name], PHOTOGRAPHS[name].title
        yield f"### {title}"
        yield f"![{title}, darkened to {found.shown[name]:.2f}, by each method](pictures/{name}.jpg)"
        yield table(
            ["", *(f"mean {pair.mean:.2f}, c = {pair.exposure:.1f}" for pair in pairs)],
            ([way, *(_cell(pair.measures[way]) for pair in pairs)] for way in pairs[0].measures),
        )
        yield _filled(_nearer(pairs))
        if name == "camera":
            yield "Black and white " + ("stays black and white." if found.gray else "did **not** stay black and white.")
        if name == "hopper":
            yield text.HOPPER


def _nearer(pairs: list[Pair]) -> str:
    """Where something else did better."""
    found = []
    for pair in pairs:
        others = [way for way in pair.measures if way not in (DEFAULT, UNFILTERED, BARE)]
        better = [way for way in others if pair.measures[way].psnr > pair.measures[DEFAULT].psnr]
        if better:
            found.append(f"at {pair.mean:.2f} {', '.join(better)}")
    return f"Nearer to the photograph than the default (PSNR): {'; '.join(found) or 'none'}."


def _cell(one: Measures) -> str:
    return f"{one.psnr:.1f} / {one.ssim:.2f} / {one.loe:.0f} / {one.clipped:.1f}"


def _drawn(found: Found) -> Iterator[str]:
    yield "## Scenes of lamps and windows"
    yield text.DRAWN
    for name, title in (("street", "A lamp-lit street (drawn)"), ("backlit", "A backlit room (drawn)")):
        yield f"### {title}"
        yield f"![{title}, by each method](pictures/{name}.jpg)"
        rows = ([way, f"{one.loe:.0f}", f"{one.clipped:.2f} %"] for way, one in found.drawn[name].items())
        yield table(["", "LOE", "newly clipped"], rows)
    yield "## Left as they are"
    yield text.UNCHANGED
    yield "![Daylight, black and white, snow and a screenshot: as they are, default, published](pictures/unchanged.jpg)"
    kept = found.unchanged.items()
    rows = ([name, f"{mean:.2f}", "all, to the bit" if same else "**no**"] for name, (mean, same) in kept)
    yield table(["", "mean luma", "pixels as they were"], rows)


def _failures(found: Found) -> Iterator[str]:
    yield "## Where it fails"
    yield "### Dark by nature"
    yield text.NATURE
    yield "![A deep field and a moon (drawn), each in four ways](pictures/dark-by-nature.jpg)"
    rows = (
        [way, *(f"{pair.measures[way].psnr:.1f} / {pair.measures[way].ssim:.2f}" for pair in found.nature)]
        for way in found.nature[0].measures
    )
    yield table(["PSNR in dB / SSIM", *(f"{pair.name}, {pair.mean:.2f}" for pair in found.nature)], rows)
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
    yield _faded(found)


def _faded(found: Found) -> str:
    darkest = min(pair.mean for pair in found.pairs)
    color = means([pair for pair in found.pairs if pair.mean == darkest], found.pairs[0].measures)
    others = (f"{way} {100 * color[way].color:.0f} %" for way in color if way not in (DEFAULT, UNFILTERED, BARE))
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
