"""The command line of `python -m model.enhance`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from .command_line import Parser, add_exposure_options, number_from_zero, settle_exposure
from .files import ALL, Share
from .gallery import add_gallery_options
from .images import DEEP_EXTENSIONS, OUTPUT_EXTENSIONS
from .network import DEFAULT_WEIGHTS
from .video import add_video_options


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, each checked by itself; a mistake ends the program with one line and status 2."""
    parser = Parser(
        prog="python -m model.enhance",
        description="Enhance low-light pictures and videos: files, and folders with all below them.",
        epilog="Transparency, color profile and metadata are kept, EXIF orientation is applied. Processes started by "
        "torchrun share the files. Exit status: 0 all done, 1 some failed, 2 nothing started.",
        allow_abbrev=False,
    )
    # In the order of --help.
    _add_files(parser)
    _add_device(parser)
    _add_brightening(parser)
    _add_resources(parser)
    _add_formats(parser)
    _add_existing_results(parser)
    _add_further_outputs(parser)
    args = parser.parse_args(argv)
    settle_exposure(parser, args)
    if args.bits == 16 and args.ext != "auto" and f".{args.ext}" not in DEEP_EXTENSIONS:
        parser.error(f"--bits 16: expected --ext {', '.join(e[1:] for e in DEEP_EXTENSIONS)} or auto; got {args.ext}")
    return args


def _add_files(parser: Parser) -> None:
    """What is read, and the names of the results."""
    add = parser.add_argument
    add(
        "-i",
        "--input",
        "--data_path",
        nargs="+",
        required=True,
        type=_path,
        metavar="PATH",
        help="pictures, videos, and folders of them",
    )
    add(
        "-o",
        "--output",
        "--save_path",
        required=True,
        type=_path,
        metavar="DIR",
        help="folder for the results; for one video also FILE",
    )
    add(
        "-n",
        "--weights",
        "--model",
        "--model_path",
        default=DEFAULT_WEIGHTS,
        type=_path,
        metavar="FILE",
        help=".safetensors or .pt, an official one too (default: those that come with the program)",
    )
    add("--suffix", default="", type=_suffix, metavar="TEXT", help="added to each name, before the extension")
    add(
        "--ext",
        default="png",
        type=_extension,
        metavar="EXT",
        help=f"of the results: {' '.join(e[1:] for e in OUTPUT_EXTENSIONS)}, or auto: each source's own (default: png)",
    )


def _add_device(parser: Parser) -> None:
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--device",
        default="auto",
        type=_device_name,
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto, a GPU where there is one)",
    )
    device.add_argument("--gpu", type=_index, metavar="N", help="GPU number; without a GPU, the CPU")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="accepted from the official command line; nothing here is random"
    )


def _add_brightening(parser: Parser) -> None:
    parser.add_argument(
        "--strength",
        default=1.0,
        type=_strength,
        metavar="S",
        help="0: the original, 1: all of the effect (default: 1)",
    )
    add_exposure_options(parser, guards=True)


def _add_resources(parser: Parser) -> None:
    """Memory and threads."""
    add = parser.add_argument
    add("-t", "--tile", type=_count, metavar="ROWS", help="compute this many rows at once (default: by free memory)")
    add("--max-pixels", type=_count, metavar="N", help="read pictures of up to N pixels (default: 178,956,970)")
    add(
        "--workers",
        type=_count,
        metavar="N",
        help="pictures in work at a time (default: one per thread of PyTorch, as memory allows)",
    )


def _add_formats(parser: Parser) -> None:
    """How pictures are read and written."""
    add = parser.add_argument
    add(
        "--bits",
        type=int,
        choices=(8, 16),
        help="per channel of PNG and TIFF (default: TIFF as its source, else 8)",
    )
    add("--strip", action="store_true", help="leave out EXIF, XMP, resolution and color profile")
    add("--raw-half", action="store_true", help="read raw files at half their width and height: faster, less noise")


def _add_existing_results(parser: Parser) -> None:
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    existing.add_argument(
        "--skip-existing", action="store_true", help="continue an earlier run: skip files that have a result"
    )


def _add_further_outputs(parser: Parser) -> None:
    """What else is written, and the options of videos."""
    add = parser.add_argument
    add("--report", type=_path, metavar="FILE", help="also write the outcome for each file, as lines of JSON")
    add(
        "--shard",
        default=ALL,
        type=_shard,
        metavar="K/N",
        help="only the K-th, from 1, of N parts of the files, for parallel runs",
    )
    add("--illumination", action="store_true", help="also write the illumination map, as NAME_illumination")
    add_gallery_options(add)
    add_video_options(add)


def _path(text: str) -> Path:
    if not text:  # an unset shell variable; Path would make it the current folder
        raise argparse.ArgumentTypeError("expected a path; got an empty one")
    return Path(text)


def _suffix(text: str) -> str:
    if "/" in text or os.sep in text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected part of a file name, without {os.sep!r}; got {text!r}")
    return text


def _extension(text: str) -> str:
    ext = text.lower().removeprefix(".")
    if ext != "auto" and f".{ext}" not in OUTPUT_EXTENSIONS:
        raise argparse.ArgumentTypeError(
            f"expected auto or one of {' '.join(e[1:] for e in OUTPUT_EXTENSIONS)}; got {text!r}"
        )
    return ext


def _strength(text: str) -> float:
    return number_from_zero(text, 1.0)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1; got {text!r}")
    return int(text)


def _index(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected the number of a GPU, from 0; got {text!r}")
    return int(text)


def _device_name(text: str) -> str:
    kind, colon, index = text.partition(":")
    if text not in ("auto", "cpu", "cuda") and not (kind == "cuda" and colon and index.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N; got {text!r}")
    return text


def _shard(text: str) -> Share:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected K/N, K from 1 to N; got {text!r}")
    return Share(int(number) - 1, int(count))
