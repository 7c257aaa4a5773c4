"""The part of `python -m model.enhance` that handles videos; PyAV is imported only once there is one."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from .files import make_output_folder
from .images import ImageError

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"),
)


class VideoJob(NamedTuple):
    """One video to enhance: the file to read and the file to write."""

    source: Path
    result: Path


def add_options(add: Callable[..., object]) -> None:
    """Add what only videos need to a command line, by its parser's `add_argument`."""
    add(
        "--smooth",
        nargs="?",
        const=0.5,
        type=_seconds,
        metavar="SECONDS",
        help="of videos: steady the brightness over that time, against flicker (0.5 where no number follows)",
    )
    add("--lossless", action="store_true", help="of videos: store the results exactly; large files")


def plan_videos(args: argparse.Namespace) -> list[VideoJob]:
    """What to read and write if the inputs are videos, by their extensions; an empty list if none of them is.

    Raises ImageError: videos and other inputs together, an option of the other kind, an output that does not fit them,
    two results of one name, or PyAV is missing.
    """
    sources = [path for path in args.input if path.suffix.lower() in EXTENSIONS and not path.is_dir()]
    if not sources:
        if args.smooth is not None or args.lossless:
            raise ImageError("--smooth, --lossless: are for videos, and no input is one; leave them out")
        return []
    others = [path for path in args.input if path not in sources]
    if others:
        raise ImageError(f"{others[0]}: is no video and {sources[0]} is one; enhance videos in a run of their own")
    if args.illumination or args.gallery:
        raise ImageError("--illumination, --gallery: are for pictures, and the inputs are videos; leave them out")
    jobs = [VideoJob(source, _result(source, args.output, args.suffix, len(sources))) for source in sources]
    for k, job in enumerate(jobs):
        twin = next((other for other in jobs[:k] if other.result == job.result), None)
        if twin:
            raise ImageError(
                f"{twin.source} and {job.source} would both be written to {job.result}; run them one by one"
            )
    return jobs


def enhance_videos(
    jobs: Sequence[VideoJob],
    enhance: Callable[[Tensor], Tensor],
    device: torch.device,
    args: argparse.Namespace,
) -> int:
    """Enhance each video, one by one, and say what became of it; returns the exit status."""
    from .video import VideoError, enhance_video

    faults = 0
    for job in jobs:
        with tqdm(unit="frame", disable=None, desc=job.source.name) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update()

            options = {"smooth": args.smooth, "lossless": args.lossless, "overwrite": args.overwrite}
            try:
                make_output_folder(job.result.parent)
                report = enhance_video(job.source, job.result, enhance, device=device, progress=show, **options)
            except (VideoError, OSError) as error:
                reason = (
                    f"{job.result}: cannot be written (no folder can be made there: {getattr(error, 'strerror', '')})"
                )
                bar.write(f"error: {error if isinstance(error, VideoError) else reason}", file=sys.stderr)
                faults += 1
                continue
        for note in report.notes:
            print(f"note: {job.source}: {note}", file=sys.stderr)
        if report.fault:
            faults += 1
            print(
                f"error: {job.source}: {report.fault}; {report.frames} frames are in {report.result}", file=sys.stderr
            )
        else:
            print(f"{report.frames} frames enhanced, in {report.result}")
        if report.interrupted:
            break
    return 1 if faults else 0


def _result(source: Path, output: Path, suffix: str, count: int) -> Path:
    """The file to write: `output` itself, or one in that folder, in the source's format where that can be written."""
    try:
        from .video import OUTPUT_EXTENSIONS
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise ImageError(
            f"{source}: videos need PyAV, which is not installed; pip install '.[video]', or av by itself"
        ) from None
    if output.suffix and not output.is_dir():
        if count > 1:
            raise ImageError(f"{output}: is no folder, and there are {count} videos; name a folder with -o")
        if output.suffix.lower() not in OUTPUT_EXTENSIONS:
            raise ImageError(
                f"{output}: cannot write this format; use one of {' '.join(OUTPUT_EXTENSIONS)}, or a folder"
            )
        return output
    extension = source.suffix if source.suffix.lower() in OUTPUT_EXTENSIONS else ".mp4"
    return output / f"{source.stem}{suffix}{extension}"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0; got {text!r}")
    return seconds
