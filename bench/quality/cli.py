"""Writes docs/quality.md: what the default makes of pictures of many kinds, in figures and to be looked at.

    python -m bench quality [--out DIR]

Writes DIR/quality.md and DIR/pictures/*.jpg, among them the README's picture. The same machine writes the same bytes
again. Nothing is downloaded: the photographs are those in the wheels of scikit-image and Matplotlib, darkened by
`lowlight`; other scenes are drawn (`drawn`).
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import torch

from model import Enhancer
from model.files import make_output_folder, write_atomically
from model.network import DEFAULT_WEIGHTS

from ..measure import ROOT
from . import drawn_scenes, sheets
from . import scenes as quality_scenes
from .methods import DEFAULT, PUBLISHED, UNFILTERED, Method, exposure_of, luma, measure, methods
from .page import Found, Pair, page
from .scenes import MEANS, NOISIEST, colored, darkened, photograph, truth

STRENGTHS = (0.3, 0.15)
SHOWN = {"coffee": 0.05}  # of a photograph's means the one to look at; the second otherwise
CROP = 110  # pixels, shown at twice the size
FIRST_PICTURE = ("astronaut", 0.10), ("coffee", 0.14), ("chelsea", 0.10), ("camera", 0.14)


def pairs(ways: dict[str, Method]) -> tuple[list[Pair], dict[str, dict[str, np.ndarray]]]:
    """Ordinary photographs at every mean, measured; and by name the results to be shown."""
    found, shown = [], {}
    for name in quality_scenes.ORDINARY:
        for mean in MEANS:
            dark = darkened(name, mean)
            results = {way: brighten(dark) for way, brighten in ways.items()}
            measures = {way: measure(result, dark, photograph(name)) for way, result in results.items()}
            found.append(Pair(name, mean, exposure_of(dark), measures))
            if mean == SHOWN.get(name, MEANS[1]):
                shown[name] = {f"darkened to {mean:.2f}": dark} | results
    return found, shown


def by_nature(ways: dict[str, Method]) -> list[Pair]:
    """The same of scenes that are dark by nature, and what less strength makes of them."""
    ways = {DEFAULT: ways[DEFAULT]} | {f"`--strength {s}`": _strength(s) for s in STRENGTHS} | ways
    del ways[UNFILTERED]
    found = []
    for name, mean in quality_scenes.DARK_BY_NATURE:
        dark = darkened(name, mean)
        measures = {way: measure(brighten(dark), dark, truth(name)) for way, brighten in ways.items()}
        found.append(Pair(name, mean, exposure_of(dark), measures))
    return found


def bright_scenes() -> dict[str, np.ndarray]:
    """What is to be left as it is."""
    return {
        "daylight": photograph("chelsea"),
        "black and white": photograph("camera"),
        "snow (drawn)": drawn_scenes.snow(),
        "a screenshot (drawn)": drawn_scenes.screenshot(),
    }


def sheet_of(results: dict[str, np.ndarray], third: sheets.Panel) -> bytes:
    """A scene and its results in three columns, `third` beside the first two."""
    first, second, *rest = results.items()
    return sheets.sheet([first, second, third, *rest], 3)


def _failures(ways: dict[str, Method]) -> dict[str, bytes]:
    weak = f"--strength {STRENGTHS[0]}", _strength(STRENGTHS[0])
    less: dict[str, Method] = {
        "as it is": np.copy,
        "default": ways[DEFAULT],
        weak[0]: weak[1],
        "published division": ways[PUBLISHED],
    }
    more: dict[str, Method] = {"as it is, and the default": np.copy}
    more |= {f"--exposure {c}": Enhancer(device="cpu", exposure=c) for c in (2, 5)}
    more["published division"] = ways[PUBLISHED]
    rows = [(way, brighten(truth(name))) for name in ("hubble", "moon") for way, brighten in less.items()]
    made = {"dark-by-nature": sheets.sheet(rows, 4, 250)}
    scene = drawn_scenes.screenshot(dark=True)
    made["dark-mode"] = sheets.sheet([(way, brighten(scene)) for way, brighten in less.items()], 4, 250)
    scene = drawn_scenes.backlit(wide=True)
    made["before-a-window"] = sheets.sheet([(way, brighten(scene)) for way, brighten in more.items()], 4, 250)
    ways = {UNFILTERED: ways[UNFILTERED], DEFAULT: ways[DEFAULT], "--denoise 3": Enhancer(device="cpu", denoise=3)}
    rows = []
    for name in quality_scenes.ORDINARY[1:3]:
        dark = darkened(name, NOISIEST)
        panels = [("the photograph", photograph(name)), (f"darkened to {NOISIEST}", dark)]
        panels += [(way, brighten(dark)) for way, brighten in ways.items()]
        rows += [(label, _middle(pixels)) for label, pixels in panels]
    made["noise"] = sheets.sheet(rows, 5, 2 * CROP)
    return made


def first_picture(ways: dict[str, Method]) -> bytes:
    """The README's: four scenes, dark above and enhanced below."""
    scenes = [darkened(name, mean) for name, mean in FIRST_PICTURE]
    return sheets.columns([(scene, ways[DEFAULT](scene)) for scene in scenes], (394, 394))


def _strength(strength: float) -> Enhancer:
    return Enhancer(device="cpu", strength=strength)


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = ((side - CROP) // 2 for side in pixels.shape[:2])
    return pixels[max(0, top) : max(0, top) + CROP, max(0, left) : max(0, left) + CROP]


def build() -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by name."""
    torch.set_num_threads(1)  # for pictures this small, more of them mostly wait for each other
    ways = methods()
    measured, shown = pairs(ways)
    made = {name: sheet_of(results, ("the photograph", photograph(name))) for name, results in shown.items()}
    lamps = {}
    for name in ("street", "backlit"):
        scene = getattr(drawn_scenes, name)()
        results = {way: brighten(scene) for way, brighten in ways.items()}
        lamps[name] = {way: measure(result, scene) for way, result in results.items()}
        made[name] = sheet_of({"as drawn": scene} | results, ("--strength 0.5", _strength(0.5)(scene)))
    bright = bright_scenes()
    kept = {name: ways[DEFAULT](scene) for name, scene in bright.items()}
    panels = [*bright.items(), *((f"{name}, default", result) for name, result in kept.items())]
    panels += [(f"{name}, published", ways[PUBLISHED](scene)) for name, scene in bright.items()]
    made["unchanged"] = sheets.sheet(panels, len(bright), 250)
    found = Found(
        weights=hashlib.sha256(DEFAULT_WEIGHTS.read_bytes()).hexdigest()[:8],
        pairs=measured,
        nature=by_nature(ways),
        gray=not any(colored(results[DEFAULT]) for name, results in shown.items() if not colored(photograph(name))),
        drawn=lamps,
        unchanged={name: (luma(scene), bool(np.array_equal(scene, kept[name]))) for name, scene in bright.items()},
        shown={name: SHOWN.get(name, MEANS[1]) for name in shown},
    )
    return page(found), made | _failures(ways) | {"before-after": first_picture(ways)}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench quality", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", metavar="DIR", help="docs")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    try:
        folder = make_output_folder(args.out / "pictures")
        text, made = build()
        for name, data in made.items():
            write_atomically(folder / f"{name}.jpg", data)
        write_atomically(args.out / "quality.md", text.encode())
    except ModuleNotFoundError as error:
        print(f"bench quality: {error.name} is not installed; pip install '.[bench]'", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bench quality: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(f"{args.out / 'quality.md'} and {len(made)} pictures, {sum(map(len, made.values())) / 1e6:.1f} MB")
    print(f"done in {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
