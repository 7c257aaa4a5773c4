"""Measure enhanced pictures: `python -m train.evaluate --pred DIR [--truth DIR] [--input DIR] [--csv FILE] [--niqe]`.

Without `--pred`, the pictures of `--input` are enhanced first, by `--weights` and as `python -m model.enhance` would.

PSNR and SSIM need the bright photographs, LOE the dark ones; DE and EME neither. The definitions are in
`train.evaluate.metrics`. Pictures of two folders are matched by their path without the extension.
"""

import csv
import io
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model.command_line import Parser, add_exposure_options, settle_exposure
from model.enhancement import Enhancer
from model.files import ImageError, find_images, write_atomically
from model.images import read_image
from model.network import DEFAULT_WEIGHTS, WeightsError
from model.streams import own_streams

from ..errors import TrainError
from . import metrics

Row = dict[str, float]
_HEAD = b"name,"  # of a CSV


def evaluate(
    pred: str | None = None,
    truth: str | None = None,
    input: str | None = None,
    niqe: bool = False,
    enhancer: Enhancer | None = None,
) -> dict[str, Row]:
    """The measures of every picture in `pred`, or in `input` once enhanced by `enhancer`, by the name of its file.

    Raises:
        TrainError, ImageError: a picture without a match, of another size, too small or unreadable; a folder that
            is missing; a library that is not installed.
    """
    measured, of = ("--input", input) if enhancer else ("--pred", pred)
    if of is None:
        raise TrainError(f"{measured}: expected a folder of pictures; got none; name one")
    pictures = _by_stem(measured, of)
    others = {"--truth": truth, "--input": input}
    partners = {flag: _partners(flag, folder, pictures, of) for flag, folder in others.items() if folder}
    if truth:
        _need("skimage", "--truth", "scikit-image", "evaluate")
    score = _niqe() if niqe else None
    rows = {}
    for stem, file in tqdm(pictures.items(), unit="picture", leave=False, disable=not sys.stderr.isatty()):
        found = {flag: files[stem] for flag, files in partners.items()}
        rows[file.relative_to(of).as_posix()] = _measure(file, found, score, enhancer)
    return rows


def _measure(file: Path, partners: dict[str, Path], niqe: Callable | None, enhancer: Enhancer | None) -> Row:
    """The row of one picture."""
    picture = enhancer.picture(read_image(file)).pixels if enhancer else _pixels(file)
    smallest = metrics.SSIM_SIDE if "--truth" in partners else metrics.EME_BLOCK
    if min(picture.shape[:2]) < smallest:
        raise TrainError(f"{file}: expected sides of {smallest} pixels or more; got {_size(picture)}; take it out")
    others = {}
    for flag, partner in partners.items():
        others[flag] = _pixels(partner)
        if others[flag].shape != picture.shape:
            raise TrainError(
                f"{file}: expected the size of its {flag} picture {partner}, {_size(others[flag])}; got "
                f"{_size(picture)} (height x width); make them alike"
            )
    row = {}
    if "--truth" in others:
        row = {"PSNR": metrics.psnr(picture, others["--truth"]), "SSIM": metrics.ssim(picture, others["--truth"])}
    row |= {"DE": metrics.discrete_entropy(picture), "EME": metrics.eme(picture)}
    if "--input" in others:
        row["LOE"] = metrics.loe(picture, others["--input"])
    if niqe:
        row["NIQE"] = niqe(file, picture)
    return row


def _by_stem(flag: str, folder: str) -> dict[str, Path]:
    """The pictures of a folder by their path in it without extension."""
    if not Path(folder).is_dir():
        raise TrainError(f"{flag}: expected a folder of pictures; got {folder}; check the path")
    found: dict[str, Path] = {}
    for file, name in find_images(folder):
        stem = name.with_suffix("").as_posix()
        if stem in found:
            raise TrainError(f"{flag}: expected one picture named {stem}; got {found[stem]} and {file}; take one out")
        found[stem] = file
    return found


def _partners(flag: str, folder: str, pictures: dict[str, Path], pred: str) -> dict[str, Path]:
    """The pictures of another folder by the same names."""
    others = _by_stem(flag, folder)
    missing = [file for stem, file in pictures.items() if stem not in others]
    if missing:
        raise TrainError(
            f"{missing[0]}: expected a picture of the same name in {flag} {folder}; found none ({len(missing)} of "
            f"{len(pictures)} lack theirs); add it, or take this one out"
        )
    if len(others) > len(pictures):
        _say(
            f"note: {len(others) - len(pictures)} of the {len(others)} pictures in {flag} {folder} have none in {pred}"
        )
    return others


def _pixels(file: Path) -> np.ndarray:
    pixels = read_image(file).pixels
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)


def _size(picture: np.ndarray) -> str:
    return "x".join(map(str, picture.shape[:2]))


def _need(module: str, flag: str, package: str, extra: str):
    try:
        return __import__(module)
    except ImportError:
        raise TrainError(
            f"{flag}: needs {package}, which is not installed; pip install '.[{extra}]', or leave {flag} out"
        ) from None


def _niqe() -> Callable[[Path, np.ndarray], float]:
    """NIQE of one picture, lower is better: Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality
    Analyzer", IEEE SPL 20(3), 2013, by pyiqa with its own settings and model.
    """
    pyiqa = _need("pyiqa", "--niqe", "pyiqa", "niqe")
    try:
        metric = pyiqa.create_metric("niqe", device=torch.device("cpu"))
    except Exception as error:  # it downloads its model when first used, which may raise nearly anything
        reason = " ".join(str(error).split())[:160]
        raise TrainError(
            f"--niqe: pyiqa could not load its model ({type(error).__name__}: {reason}); leave it out"
        ) from None

    def score(file: Path, picture: np.ndarray) -> float:
        tensor = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / 255)[None]
        reason = "no finite number"
        try:
            if math.isfinite(value := float(metric(tensor))):
                return value
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            reason = " ".join(str(error).split())[:160]
        raise TrainError(
            f"{file}: expected a picture of several blocks of 96x96 pixels for NIQE; got {_size(picture)} ({reason}); "
            "take it out, or leave out --niqe"
        )

    return score


def to_csv(rows: dict[str, Row]) -> str:
    """A line per picture, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *next(iter(rows.values()))])
    writer.writerows([name, *map(repr, row.values())] for name, row in rows.items())
    return text.getvalue()


def to_table(rows: dict[str, Row]) -> str:
    """A line per picture and one of the means, in columns."""
    names = list(next(iter(rows.values())))
    means = {name: math.fsum(row[name] for row in rows.values()) / len(rows) for name in names}
    lines = [["", *names]]
    lines += [[label, *(f"{row[name]:.4f}" for name in names)] for label, row in [*rows.items(), ("mean", means)]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _say(text: str) -> None:
    print(f"evaluate: {text}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status. Every mistake of the user ends in one line on stderr."""
    own_streams()
    parser = Parser(
        said_by="evaluate: ", prog="python -m train.evaluate", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--pred", metavar="DIR", help="the enhanced pictures, searched recursively; without it, --input is enhanced"
    )
    parser.add_argument("--truth", metavar="DIR", help="the bright photographs: PSNR and SSIM")
    parser.add_argument("--input", metavar="DIR", help="the dark photographs: LOE")
    parser.add_argument("--niqe", action="store_true", help="NIQE as well; needs pyiqa (pip install '.[niqe]')")
    parser.add_argument("--csv", metavar="FILE", help="write the numbers there, whole or not at all")
    parser.add_argument("--overwrite", action="store_true", help="replace the --csv of an earlier evaluation")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default=DEFAULT_WEIGHTS,
        help="without --pred: what enhances --input (default: those that come with the program)",
    )
    add_exposure_options(parser)
    options = parser.parse_args(argv)
    changed = options.exposure != "auto" or options.denoise is not None or options.weights != DEFAULT_WEIGHTS
    if options.pred and changed:
        parser.error("--weights, --exposure, --published, --denoise: enhance --input; with --pred leave them out")
    settle_exposure(parser, options)
    if not options.pred and not options.input:
        parser.error("expected --pred, or --input to be enhanced")
    try:
        enhancer = None
        if not options.pred:
            enhancer = Enhancer(options.weights, exposure=options.exposure, denoise=options.denoise)
        if options.csv:
            _check_place(Path(options.csv), options.overwrite)
        rows = evaluate(options.pred, options.truth, options.input, options.niqe, enhancer)
    except (TrainError, ImageError, WeightsError) as error:
        _say(f"error: {error}")
        return 1
    except OSError as error:
        file = error.filename or options.pred or options.input
        _say(f"error: {file}: expected pictures that can be read; got: {error.strerror or error}; check the path")
        return 1
    print(to_table(rows), flush=True)
    return _write(options.csv, rows, options.overwrite) if options.csv else 0


def _check_place(path: Path, overwrite: bool) -> None:
    """Raises TrainError where the CSV cannot be written, or would replace something else than a CSV of `to_csv`."""
    if not path.absolute().parent.is_dir():
        raise TrainError(f"--csv: expected a file in a folder that exists; got {path}; make the folder first")
    if os.path.lexists(path) and not _is_csv(path):
        raise TrainError(f"--csv: {path}: is no table of an evaluation and was left alone; name another file")
    if os.path.lexists(path) and not overwrite:
        raise TrainError(f"--csv: {path}: exists and was left alone; use --overwrite, or name another file")


def _is_csv(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_HEAD)) in (_HEAD, b"")


def _write(path: str, rows: dict[str, Row], overwrite: bool) -> int:
    """Write the CSV; returns the exit status."""
    try:
        # A name may hold bytes that are not UTF-8; they are written unchanged.
        write_atomically(path, to_csv(rows).encode(errors="surrogateescape"), exclusive=not overwrite)
    except OSError as error:
        _say(f"error: --csv: {path}: cannot be written ({error.strerror or error}); name another file")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
