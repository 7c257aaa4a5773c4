"""Writes docs/quality.md: what the default makes of pictures of many kinds, in numbers and for the eye.

    python -m bench quality [--out DIR]

Writes DIR/quality.md and DIR/pictures/*.jpg, among them the README's picture. On the same machine the files are the
same byte for byte. Nothing is downloaded: the photographs come with scikit-image and Matplotlib and are darkened by
`bench/low_light_photos.py`; the other scenes are drawn (`drawn_scenes.py`).
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
from .methods import DEFAULT, PUBLISHED, UNFILTERED, Method, all_methods, exposure_of, luma, measure
from .page import Pair, Results, page
from .scenes import MEANS, NOISIEST, colored, darkened, photograph, truth

STRENGTHS = (0.3, 0.15)
SHOWN = {"coffee": 0.05}  # the mean at which a photograph is shown; for the others the second of MEANS
CROP = 110  # pixels, shown at twice the size
FIRST_PICTURE = ("astronaut", 0.10), ("coffee", 0.14), ("chelsea", 0.10), ("camera", 0.14)


def pairs(methods: dict[str, Method]) -> tuple[list[Pair], dict[str, dict[str, np.ndarray]]]:
    """Ordinary photographs, measured at every mean; and by name the results to show."""
    found, shown = [], {}
    for name in quality_scenes.ORDINARY:
        for mean in MEANS:
            dark = darkened(name, mean)
            results = {method: brighten(dark) for method, brighten in methods.items()}
            measures = {method: measure(result, dark, photograph(name)) for method, result in results.items()}
            found.append(Pair(name, mean, exposure_of(dark), measures))
            if mean == SHOWN.get(name, MEANS[1]):
                shown[name] = {f"darkened to {mean:.2f}": dark} | results
    return found, shown


def by_nature(methods: dict[str, Method]) -> list[Pair]:
    """Scenes that are dark by nature, measured in the same way, and with less strength as well."""
    methods = {DEFAULT: methods[DEFAULT]} | {f"`--strength {s}`": _strength(s) for s in STRENGTHS} | methods
    del methods[UNFILTERED]
    found = []
    for name, mean in quality_scenes.DARK_BY_NATURE:
        dark = darkened(name, mean)
        measures = {method: measure(brighten(dark), dark, truth(name)) for method, brighten in methods.items()}
        found.append(Pair(name, mean, exposure_of(dark), measures))
    return found


def bright_scenes() -> dict[str, np.ndarray]:
    """Pictures that are to be left as they are."""
    return {
        "daylight": photograph("chelsea"),
        "black and white": photograph("camera"),
        "snow (drawn)": drawn_scenes.snow(),
        "a screenshot (drawn)": drawn_scenes.screenshot(),
    }


def sheet_of(results: dict[str, np.ndarray], third: sheets.Panel) -> bytes:
    """A scene and its results in three columns, with `third` after the first two pictures."""
    first, second, *rest = results.items()
    return sheets.sheet([first, second, third, *rest], 3)


def _failures(methods: dict[str, Method]) -> dict[str, bytes]:
    weak = f"--strength {STRENGTHS[0]}", _strength(STRENGTHS[0])
    less: dict[str, Method] = {
        "as it is": np.copy,
        "default": methods[DEFAULT],
        weak[0]: weak[1],
        "published division": methods[PUBLISHED],
    }
    more: dict[str, Method] = {"as it is, and the default": np.copy}
    more |= {f"--exposure {c}": Enhancer(device="cpu", exposure=c) for c in (2, 5)}
    more["published division"] = methods[PUBLISHED]
    rows = [(method, brighten(truth(name))) for name in ("hubble", "moon") for method, brighten in less.items()]
    made = {"dark-by-nature": sheets.sheet(rows, 4, 250)}
    scene = drawn_scenes.screenshot(dark=True)
    made["dark-mode"] = sheets.sheet([(method, brighten(scene)) for method, brighten in less.items()], 4, 250)
    scene = drawn_scenes.backlit(wide=True)
    made["before-a-window"] = sheets.sheet([(method, brighten(scene)) for method, brighten in more.items()], 4, 250)
    filters: dict[str, Method] = {
        UNFILTERED: methods[UNFILTERED],
        DEFAULT: methods[DEFAULT],
        "--denoise 3": Enhancer(device="cpu", denoise=3),
    }
    rows = []
    for name in quality_scenes.ORDINARY[1:3]:
        dark = darkened(name, NOISIEST)
        panels = [("the photograph", photograph(name)), (f"darkened to {NOISIEST}", dark)]
        panels += [(method, brighten(dark)) for method, brighten in filters.items()]
        rows += [(label, _middle(pixels)) for label, pixels in panels]
    made["noise"] = sheets.sheet(rows, 5, 2 * CROP)
    return made


def first_picture(methods: dict[str, Method]) -> bytes:
    """The README's picture: four scenes, dark in the first row and enhanced in the second."""
    scenes = [darkened(name, mean) for name, mean in FIRST_PICTURE]
    return sheets.columns([(scene, methods[DEFAULT](scene)) for scene in scenes], (394, 394))


def _strength(strength: float) -> Enhancer:
    return Enhancer(device="cpu", strength=strength)


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = ((side - CROP) // 2 for side in pixels.shape[:2])
    return pixels[max(0, top) : max(0, top) + CROP, max(0, left) : max(0, left) + CROP]


def build() -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by name."""
    torch.set_num_threads(1)  # more threads would mostly wait for each other on pictures this small
    methods = all_methods()
    photographs, shown = pairs(methods)
    made = {name: sheet_of(results, ("the photograph", photograph(name))) for name, results in shown.items()}
    lamps = {}
    for name in ("street", "backlit"):
        scene = getattr(drawn_scenes, name)()
        results = {method: brighten(scene) for method, brighten in methods.items()}
        lamps[name] = {method: measure(result, scene) for method, result in results.items()}
        made[name] = sheet_of({"as drawn": scene} | results, ("--strength 0.5", _strength(0.5)(scene)))
    bright = bright_scenes()
    kept = {name: methods[DEFAULT](scene) for name, scene in bright.items()}
    panels = [*bright.items(), *((f"{name}, default", result) for name, result in kept.items())]
    panels += [(f"{name}, published", methods[PUBLISHED](scene)) for name, scene in bright.items()]
    made["unchanged"] = sheets.sheet(panels, len(bright), 250)
    measured = Results(
        weights=hashlib.sha256(DEFAULT_WEIGHTS.read_bytes()).hexdigest()[:8],
        pairs=photographs,
        nature=by_nature(methods),
        gray=not any(colored(results[DEFAULT]) for name, results in shown.items() if not colored(photograph(name))),
        drawn=lamps,
        unchanged={name: (luma(scene), bool(np.array_equal(scene, kept[name]))) for name, scene in bright.items()},
        shown={name: SHOWN.get(name, MEANS[1]) for name in shown},
    )
    return page(measured), made | _failures(methods) | {"before-after": first_picture(methods)}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench quality", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", metavar="DIR", help="where to write (docs)")
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
