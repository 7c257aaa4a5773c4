"""Enhance pictures: `python -m model.enhance -i PATH... -o DIR`; videos: `-i FILE -o FILE`.

Exit status: 0 all done, 1 some pictures failed (each is named, the others are done), 2 nothing was started.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from tqdm import tqdm

from . import gallery_cli, video_cli
from .enhancer import Enhancer
from .files import make_output_folder
from .images import OUTPUT_EXTENSIONS, ImageError, allow_pixels, find_images, read_image, write_image
from .weights import DEFAULT_WEIGHTS, WeightsError

# Every further picture would meet these too, so the run stops.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Job(NamedTuple):
    """One picture to enhance: the file to read and the files to write."""

    source: Path
    result: Path
    illumination: Path | None = None


class Outcome(NamedTuple):
    """How many pictures were written, a line for each that was not, and the line that ended the run early, if any."""

    done: int
    failures: list[str]
    stopped: str | None = None


class _UsageError(Exception):
    """A mistake in the arguments that only shows when they are looked at together; one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _parse(argv)
    try:
        videos = video_cli.plan_videos(args)
        gallery_cli.check(args)
        jobs = [] if videos else plan_jobs(args.input, args.output, args.suffix, args.ext, args.illumination)
        device = _device(args.device)
        enhancer = Enhancer(args.weights, device, strength=args.strength, guard=args.guard, tile=args.tile)
        if not videos:
            _make_folder(args.output)
    except (ImageError, WeightsError, _UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if videos:
        return video_cli.enhance_videos(videos, enhancer, device, args)
    if args.max_pixels is not None:
        allow_pixels(args.max_pixels)
    with gallery_cli.with_maps(jobs, args) as mapped:
        outcome = enhance_files(mapped, enhancer, args.overwrite)
        print(f"{outcome.done} of {len(jobs)} pictures enhanced, in {args.output}")
        no_page = gallery_cli.write(mapped, outcome.failures, args)
    if outcome.failures:
        print(f"{len(outcome.failures)} failed:", *outcome.failures, sep="\n  ", file=sys.stderr)
    if outcome.stopped:
        print(f"error: {outcome.stopped}", file=sys.stderr)
    if no_page:
        print(f"error: {no_page}", file=sys.stderr)
    return 1 if outcome.failures or outcome.stopped or no_page else 0


def plan_jobs(
    inputs: Sequence[Path], folder: Path, suffix: str = "", ext: str = "png", illumination: bool = False
) -> list[Job]:
    """What to read and what to write, decided before any work.

    Args:
        inputs: files and folders, as for `find_images`. Pictures in `folder` are left out when it lies inside one of
            them: they are the results of an earlier run.
        folder: where results go, each under its relative name.
        suffix: put between a name and its extension.
        ext: one of `OUTPUT_EXTENSIONS` without the dot, or "auto": the source's own, png where that cannot be written.
        illumination: also plan for NAME_illumination.

    Raises:
        ImageError: nothing to enhance; two results would have one name; a result would replace a source.
    """
    jobs: list[Job] = []
    for source, name in _without_results(inputs, folder):
        own = name.suffix.lower()
        extension = (own if own in OUTPUT_EXTENSIONS else ".png") if ext == "auto" else f".{ext}"
        stem = folder / name.parent / f"{name.stem}{suffix}"
        result = stem.with_name(stem.name + extension)
        jobs.append(
            Job(source, result, stem.with_name(f"{stem.name}_illumination{extension}") if illumination else None)
        )
    _refuse_collisions(jobs)
    return jobs


def enhance_files(jobs: Sequence[Job], enhancer: Enhancer, overwrite: bool = False) -> Outcome:
    """Enhance each job's picture; one that fails does not keep the others from being done."""
    done, failures = 0, []
    progress = tqdm(jobs, unit="picture", disable=None)
    try:
        for job in progress:
            try:
                notes = enhance_file(job, enhancer, overwrite)
            except OSError as error:
                where = error.filename if error.filename else job.result
                failures.append(f"{where}: cannot be written ({error.strerror or error})")
                if error.errno in _FULL:
                    left = len(jobs) - done - len(failures)
                    return Outcome(
                        done,
                        failures,
                        f"{job.result.parent}: {error.strerror}; {left} not tried; make room and run again",
                    )
            except ImageError as error:
                failures.append(str(error))
            except (RuntimeError, MemoryError, ValueError) as error:
                failures.append(f"{job.source}: {_reason(error)}")
            else:
                done += 1
                for note in notes:
                    progress.write(f"note: {job.source}: {note}", file=sys.stderr)
    except KeyboardInterrupt:
        return Outcome(done, failures, f"interrupted; {len(jobs) - done - len(failures)} pictures not tried")
    finally:
        progress.close()
    return Outcome(done, failures)


def enhance_file(job: Job, enhancer: Enhancer, overwrite: bool = False) -> tuple[str, ...]:
    """Read, enhance and write one picture; returns notes on what could not be kept and on what the guard did.

    Raises:
        ImageError: the source is no picture, or a result exists and `overwrite` is not set.
        OSError: a result cannot be written.
    """
    for path in (job.result, job.illumination):
        if path is not None and os.path.lexists(path) and not overwrite:
            raise ImageError(f"{path}: exists and was left alone; use --overwrite, or --suffix for another name")
    picture = read_image(job.source)
    enhanced = enhancer.picture(picture, job.illumination is not None)
    picture = replace(picture, pixels=None)  # no longer needed, and as large as the result
    job.result.parent.mkdir(parents=True, exist_ok=True)
    write_image(job.result, enhanced.pixels, picture.alpha, picture.grey, picture.icc_profile)
    if job.illumination is not None:
        write_image(job.illumination, enhanced.illumination, None, picture.grey)
    return picture.notes + ((enhanced.note,) if enhanced.note else ())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see python -m model.enhance --help\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m model.enhance",
        description="Enhance low-light pictures: files, and folders with all below them.",
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
        help="pictures and folders of them, or videos",
    )
    add(
        "-o",
        "--output",
        "--save_path",
        required=True,
        type=_path,
        metavar="DIR",
        help="for the results; video: or FILE",
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
    add(
        "--device",
        default="auto",
        type=_device_name,
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto, a GPU where there is one)",
    )
    add("--strength", default=1.0, type=_strength, metavar="S", help="0: the original, 1: the result (default: 1)")
    add(
        "--guard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave alone what is bright already, and say so (default: on)",
    )
    add("-t", "--tile", type=_count, metavar="ROWS", help="compute this many rows at once (default: by free memory)")
    add("--max-pixels", type=_count, metavar="N", help="read pictures of up to N pixels (default: 178,956,970)")
    add("--overwrite", action="store_true", help="replace results that exist already")
    add("--illumination", action="store_true", help="also write the illumination map, as NAME_illumination")
    gallery_cli.add_options(add)
    video_cli.add_options(add)
    return parser.parse_args(argv)


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
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1; got {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1; got {text!r}")
    return int(text)


def _device_name(text: str) -> str:
    kind, colon, index = text.partition(":")
    if text not in ("auto", "cpu", "cuda") and not (kind == "cuda" and colon and index.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N; got {text!r}")
    return text


def _device(name: str) -> torch.device:
    """The device to run on."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if found else "cpu") if name == "auto" else name)
    if device.type == "cuda":
        if (device.index or 0) >= found:
            raise _UsageError(f"--device {name}: this PyTorch finds {found} GPUs; use --device cpu, or auto")
        # Convolutions would otherwise round to 10 bits, which shows in the last grey level.
        torch.backends.cudnn.allow_tf32 = False
    return device


def _make_folder(folder: Path) -> None:
    try:
        make_output_folder(folder)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise _UsageError(f"{folder}: cannot write there ({reason}); choose another folder with -o") from None


def _without_results(inputs: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    """What `find_images` finds, less the results of an earlier run into a folder inside the input."""
    found, folder = find_images(inputs), _real(folder)
    if not any(_real(path) in folder.parents for path in inputs):
        return found
    kept = [(source, name) for source, name in found if folder not in _real(source).parents]
    if not kept:
        raise ImageError(f"{inputs[0]}: no pictures here but those in the output folder {folder}")
    return kept


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """No result may replace another, or a picture that is read."""
    sources = {_real(job.source) for job in jobs}
    writers: dict[Path, Path] = {}
    for job in jobs:
        for path in filter(None, (job.result, job.illumination)):
            if _real(path) in sources:
                raise ImageError(f"{path}: is one of the inputs and would be replaced; choose another -o, or --suffix")
            other = writers.setdefault(path, job.source)
            if other != job.source:
                raise ImageError(
                    f"{other} and {job.source} would both be written to {path}; "
                    "use --ext auto if only their formats differ, or enhance them one by one into different folders"
                )


def _real(path: Path) -> Path:
    """The path without links; unlike `Path.resolve` never an error."""
    return Path(os.path.realpath(path))


def _reason(error: Exception) -> str:
    """Why a picture could not be enhanced, in part of a line."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return "not enough memory to enhance it; use a smaller --tile, scale the picture down, or try --device cpu"
    lines = str(error).strip().splitlines()
    return f"cannot be enhanced ({lines[0] if lines else type(error).__name__})"


if __name__ == "__main__":
    sys.exit(main())
