"""Makes the default weights, model/pretrained/default.safetensors, again.

    python -m bench.default_weights --out DIR

Darkens photographs that are in the public domain or CC0 and trains on them. Nothing is downloaded, every random number
has a seed, and a single thread adds everything in the same order. With the versions of constraints.txt and a C
compiler, on a processor of the kind that model/pretrained/README.md names, the result is the shipped weights bit for
bit; elsewhere it differs by rounding, which a thousand steps magnify. That page also says who took the photographs and
who declares them free.
"""

import argparse
import hashlib
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import skimage.data
import torch
from PIL import Image

import train
from model.files import make_output_folder
from model.network import DEFAULT_WEIGHTS

from .low_light_photos import darken


@dataclass(frozen=True)
class Photograph:
    """A photograph in an installed package, and the SHA-256 of its file."""

    path: Path
    sha256: str


SKIMAGE = Path(skimage.data.__file__).parent
PHOTOGRAPHS = (
    Photograph(SKIMAGE / "astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    Photograph(SKIMAGE / "coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
)
MEANS = tuple(
    float(mean) for mean in np.geomspace(0.04, 0.09, 6)
)  # mean brightness of the darkened versions, before noise
# Every version is used in all six orders of its channels. The method has no term for color: on photographs with more
# red than blue it learned, depending on the seed, to brighten red far more or far less than the other channels.
ORDERS = tuple(itertools.permutations(range(3)))
SEED = 2  # for light and noise
FLAGS = "--steps 1150 --crop 64 64 --batch-size 2 --lr 1e-3 --seed 4 --device cpu --sample-every 0"
SHA256 = "3e8af6eb0bc02951bf06d773a015411b919d04a0c680c3c71176d014d51b4665"  # of the shipped file


class OriginError(Exception):
    """A photograph is not the one that the weights were trained on; the message is one line for the user."""


def darkened(index: int, version: int) -> np.ndarray:
    """A darkened version of a photograph, `(H, W, 3)` uint8."""
    rng = np.random.default_rng([SEED, index, version])
    return darken(_pixels(PHOTOGRAPHS[index]), rng, MEANS[version])


def _pixels(photograph: Photograph) -> np.ndarray:
    found = hashlib.sha256(photograph.path.read_bytes()).hexdigest()
    if found != photograph.sha256:
        raise OriginError(
            f"{photograph.path}: expected the file of SHA-256 {photograph.sha256}; got {found}; "
            "install the package in the version of constraints.txt"
        )
    with Image.open(photograph.path) as image:
        return np.asarray(image.convert("RGB"))


def make(out: Path) -> Path:
    """Writes the photographs and the run into `out`; returns the weight file, or exits with the trainer's status."""
    photographs = out / "photographs"
    make_output_folder(photographs)
    for index, photograph in enumerate(PHOTOGRAPHS):
        for version in range(len(MEANS)):
            pixels = darkened(index, version)
            for order in ORDERS:
                name = "".join("RGB"[channel] for channel in order)
                Image.fromarray(pixels[..., order]).save(photographs / f"{photograph.path.stem}-{version}-{name}.png")
    torch.set_num_threads(1)  # with several threads, sums would depend on the number of cores
    status = train.main(["--data", str(photographs), "--out", str(out / "run"), *FLAGS.split()])
    if status:
        sys.exit(status)  # it has printed why
    return out / "run" / "weights.safetensors"


def _equal(one: Path, other: Path) -> bool:
    """Whether two files have the same numbers; their metadata may differ, as it names versions."""
    first, second = (safetensors.torch.load_file(path) for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.default_weights", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the photographs and the run")
    args = parser.parse_args(argv)
    try:
        weights = make(args.out)
    except (OriginError, OSError) as error:
        print(f"default_weights: error: {error}", file=sys.stderr)
        return 1
    same = "the weights that are shipped" if _equal(weights, DEFAULT_WEIGHTS) else "not the weights that are shipped"
    print(f"{weights}: {same}; SHA-256 {hashlib.sha256(weights.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
