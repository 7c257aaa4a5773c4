"""Enhance pictures and videos: `python -m model.enhance -i PATH... -o DIR`, or `-i VIDEO -o FILE`.

Exit status: 0 all done, 1 some failed (each is named, the others are done), 2 nothing was started.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from . import exposure_cli, gallery_cli, video_cli
from .enhancer import Enhancer
from .files import make_output_folder
from .folder import enhance_files
from .image_output import OUTPUT_EXTENSIONS
from .images import EXTENSIONS, allow_pixels
from .jobs import Job, plan_jobs, without_results
from .picture import ImageError
from .search import find_files
from .video_cli import VideoJob
from .weights import DEFAULT_WEIGHTS, WeightsError


class _UsageError(Exception):
    """A mistake in the arguments that only shows when they are looked at together; one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _parse(argv)
    try:
        jobs, videos = _plan(args)
        device = _device(args.device, args.gpu)
        options = {"exposure": args.exposure, "denoise": args.denoise, "tile": args.tile}
        enhancer = Enhancer(args.weights, device, strength=args.strength, **options)
        if jobs:
            _make_folder(args.output)
    except (ImageError, WeightsError, _UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status, stopped = _enhance_pictures(jobs, enhancer, args) if jobs else (0, False)
    if videos and stopped:
        print(f"{len(videos)} videos not tried", file=sys.stderr)
    elif videos:
        status = max(status, video_cli.enhance_videos(videos, enhancer, device, args))
    return status


def _plan(args: argparse.Namespace) -> tuple[list[Job], list[VideoJob]]:
    """The pictures and the videos to enhance. Raises ImageError where the arguments do not fit together."""
    found = find_files(args.input, EXTENSIONS + video_cli.EXTENSIONS, "pictures or videos")
    found = without_results(found, args.input, args.output)
    videos = [(source, name) for source, name in found if video_cli.is_video(source)]
    if len(videos) < len(found) and args.output.suffix.lower() in EXTENSIONS and not args.output.is_dir():
        raise ImageError(
            f"{args.output}: expected a folder for the pictures, which keep their names; got the name of a picture; "
            "name the folder, as by -o bright"
        )
    pictures = [(source, name) for source, name in found if not video_cli.is_video(source)]
    gallery_cli.check(args)
    return (
        plan_jobs(pictures, args.output, args.suffix, args.ext, args.illumination),
        video_cli.plan_videos(videos, len(pictures), args),
    )


def _enhance_pictures(jobs: list[Job], enhancer: Enhancer, args: argparse.Namespace) -> tuple[int, bool]:
    """Enhance them and say what became of them; returns the exit status, and whether the run ends here."""
    if args.max_pixels is not None:
        allow_pixels(args.max_pixels)
    with gallery_cli.with_maps(jobs, args) as mapped:
        outcome = enhance_files(mapped, enhancer, args.overwrite, args.workers)
        left = f", {outcome.left} of them left as {'it was' if outcome.left == 1 else 'they were'}" * (outcome.left > 0)
        print(f"{outcome.done} of {len(jobs)} pictures enhanced{left}, in {args.output}")
        no_page = gallery_cli.write(mapped, outcome, args)
    if outcome.failures:
        print(f"{len(outcome.failures)} failed:", *outcome.failures, sep="\n  ", file=sys.stderr)
    for line in filter(None, (outcome.stopped, no_page)):
        print(f"error: {line}", file=sys.stderr)
    return (1 if outcome.failures or outcome.stopped or no_page else 0), outcome.stopped is not None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see python -m model.enhance --help\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m model.enhance",
        description="Enhance low-light pictures and videos: files, and folders with all below them.",
        epilog="Pictures are computed in float32 and written with 8 bits a channel; transparency, colour profile and "
        "greyness are kept, EXIF orientation is applied. Exit status: 0 all done, 1 some failed, 2 nothing started.",
        allow_abbrev=False,
    )
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
        help="for the results; of one video also FILE",
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
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--device",
        default="auto",
        type=_device_name,
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto, a GPU where there is one)",
    )
    device.add_argument("--gpu", type=_index, metavar="N", help="GPU number; without a GPU, the CPU")
    add("--seed", type=int, metavar="N", help="accepted from the official command line; nothing here is random")
    add(
        "--strength",
        default=1.0,
        type=_strength,
        metavar="S",
        help="0: the original, 1: all of the effect (default: 1)",
    )
    exposure_cli.add_options(parser, guards=True)
    add("-t", "--tile", type=_count, metavar="ROWS", help="compute this many rows at once (default: by free memory)")
    add("--max-pixels", type=_count, metavar="N", help="read pictures of up to N pixels (default: 178,956,970)")
    add(
        "--workers",
        type=_count,
        metavar="N",
        help="pictures in work at a time (default: one a thread of PyTorch, as memory allows)",
    )
    add("--overwrite", action="store_true", help="replace results that exist already")
    add("--illumination", action="store_true", help="also write the illumination map, as NAME_illumination")
    gallery_cli.add_options(add)
    video_cli.add_options(add)
    args = parser.parse_args(argv)
    exposure_cli.settle(parser, args)
    return args


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
    return exposure_cli.number(text, 1.0)


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


def _device(name: str, gpu: int | None = None) -> torch.device:
    """The device to run on; of a GPU given by its number, the CPU where there is no GPU."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu is not None and not found:
        print("note: --gpu: there is no GPU that PyTorch can use; enhancing on the CPU", file=sys.stderr)
        return torch.device("cpu")
    flag = f"--device {name}" if gpu is None else f"--gpu {gpu}"
    name = name if gpu is None else f"cuda:{gpu}"
    device = torch.device(("cuda" if found else "cpu") if name == "auto" else name)
    if device.type == "cuda":
        if (device.index or 0) >= found:
            raise _UsageError(f"{flag}: this PyTorch finds {found} GPUs; use --device cpu, or auto")
        # Convolutions would otherwise round to 10 bits, which shows in the last grey level.
        torch.backends.cudnn.allow_tf32 = False
    return device


def _make_folder(folder: Path) -> None:
    try:
        make_output_folder(folder)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise _UsageError(f"{folder}: cannot write there ({reason}); choose another folder with -o") from None


if __name__ == "__main__":
    sys.exit(main())
