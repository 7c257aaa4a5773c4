"""The part of `python -m model.enhance` that handles videos; PyAV is imported only if there are any."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from tqdm import tqdm

from ..command_line import RunReport
from ..enhancement import Enhancer
from ..files import VIDEO_EXTENSIONS, ImageError, Names, make_output_folder
from ..streams import terminal_line

if TYPE_CHECKING:
    from .enhance_frames import Report

_SMOOTH = 0.5  # seconds over which brightness is smoothed, unless --smooth says otherwise


def is_video(path: Path) -> bool:
    """Whether a file is treated as a video, by its extension alone."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


_Videos = Sequence[tuple[Path, Path]]  # each video with the relative name of its result


class VideoJob(NamedTuple):
    """One video to enhance: the file to read and the file to write."""

    source: Path
    result: Path


class _Options(TypedDict):
    """The arguments of `enhance_video` that follow from the command line."""

    find_exposure: Callable[[torch.Tensor], float] | None
    smooth: float | None
    lossless: bool
    overwrite: bool
    device: torch.device


def add_video_options(add: Callable[..., object]) -> None:
    """Add the options of videos to a command line, with its parser's `add_argument`."""
    add(
        "--smooth",
        nargs="?",
        const=_SMOOTH,
        type=_seconds,
        metavar="SECONDS",
        help=f"for videos: smooth the brightness over this time; 0: off (default: {_SMOOTH}; with published: 0)",
    )
    add("--lossless", action="store_true", help="for videos: store the results exactly; large files")


def plan_videos(found: _Videos, others: int, args: argparse.Namespace) -> list[VideoJob]:
    """The videos to read and the files to write; an empty list if there are none.

    It is also empty, with a note, if PyAV is missing, there are pictures, and no video was named by itself.

    Args:
        found: the videos, as `Files` gives them.
        others: how many pictures are enhanced in the same run.
        args: the command line.

    Raises ImageError: an option does not apply to any input, the output does not fit, two results would have the same
    name, or PyAV is missing.
    """
    given = {"--smooth": args.smooth is not None, "--lossless": args.lossless}
    wanted = [option for option in given if given[option]]
    if wanted and not found:
        raise ImageError(f"{wanted[0]}: is for videos, and no input is one; leave it out")
    if found and not others and (args.illumination or args.gallery):
        raise ImageError("--illumination, --gallery: are for pictures, and all inputs are videos; leave them out")
    if not found:
        return []
    try:
        from .enhance_frames import OUTPUT_EXTENSIONS
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        missing = "videos need PyAV, which is not installed; pip install '.[video]', or av by itself"
        if wanted or not others or any(source in args.input for source, _ in found):
            raise ImageError(f"{found[0][0]}: {missing}") from None
        first = f", {found[0][0]} the first" if len(found) > 1 else f", {found[0][0]}"
        print(f"note: {_number(len(found), 'video')} skipped{first}: {missing}", file=sys.stderr)
        return []
    if file := _output_file(found, others, args, OUTPUT_EXTENSIONS):
        jobs = [VideoJob(found[0][0], file)]
    else:
        jobs = [VideoJob(source, _result(source, name, args, OUTPUT_EXTENSIONS)) for source, name in found]
    names = Names(jobs, "run them one by one", resumed=args.skip_existing)
    return [job for job in jobs if not names.is_earlier_result(job.source, job.result)]


def enhance_videos(
    jobs: Sequence[VideoJob],
    enhancer: Enhancer,
    device: torch.device,
    args: argparse.Namespace,
    report: RunReport | None = None,
) -> int:
    """Enhance one video after another and print what became of it; returns the exit status.

    Args:
        jobs: what to read and write, from `plan_videos`.
        enhancer: brightens the frames.
        device: where it computes.
        args: the command line.
        report: gets a line for each video that was started or skipped.
    """
    report = report or RunReport(None)
    options = _options(enhancer, device, args)
    enhance = enhancer if args.exposure is None else enhancer.frame
    faults = skipped = 0
    for number, job in enumerate(jobs, 1):
        if args.skip_existing and os.path.lexists(job.result):
            skipped += 1
            report.add(job.source, job.result, "skipped", notes=["its result exists"])
            continue
        done = _enhance_video(job, enhance, options, report)
        faults += done is None or done.fault is not None
        if done is not None and done.interrupted:
            if number < len(jobs):
                print(f"{_number(len(jobs) - number, 'video')} not tried", file=sys.stderr)
            break
    if skipped:
        print(f"{skipped} videos skipped, their results exist" if skipped > 1 else "1 video skipped, its result exists")
    return 1 if faults else 0


def _options(enhancer: Enhancer, device: torch.device, args: argparse.Namespace) -> _Options:
    exposed = args.exposure is not None
    smooth = (_SMOOTH if exposed else 0.0) if args.smooth is None else args.smooth

    def find_exposure(image: torch.Tensor) -> float:
        exposures = enhancer.exposures(image)
        return 0.0 if exposures is None else float(exposures)

    return {
        "find_exposure": find_exposure if exposed else None,
        "smooth": smooth or None,
        "lossless": args.lossless,
        "overwrite": args.overwrite,
        "device": device,
    }


def _enhance_video(job: VideoJob, enhance: Callable, options: _Options, report: RunReport) -> "Report | None":
    """Enhance one video and print what became of it; returns None if there is no result."""
    from .enhance_frames import VideoError, enhance_video

    start = time.perf_counter()
    with tqdm(unit="frame", disable=None, desc=job.source.name) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update()

        try:
            make_output_folder(job.result.parent)
            done = enhance_video(job.source, job.result, enhance, progress=show, **options)
        except (VideoError, OSError) as error:
            reason = f"{job.result}: cannot be written ({getattr(error, 'strerror', None) or error})"
            reason = str(error) if isinstance(error, VideoError) else reason
            bar.write(terminal_line(f"error: {reason}"), file=sys.stderr)
            report.add(job.source, job.result, "failed", seconds=time.perf_counter() - start, error=reason)
            return None
    _print_result(job, done)
    report.add(
        job.source,
        done.result,
        "failed" if done.interrupted else "enhanced",
        before=done.before,
        after=done.after,
        exposure=done.exposure,
        frames=done.frames,
        seconds=time.perf_counter() - start,
        notes=done.notes,
        error=done.fault,
    )
    return done


def _print_result(job: VideoJob, done: "Report") -> None:
    for note in done.notes:
        print(terminal_line(f"note: {job.source}: {note}"), file=sys.stderr)
    if done.fault:
        frames = f"{_number(done.frames, 'frame')} {'is' if done.frames == 1 else 'are'}"
        print(terminal_line(f"error: {job.source}: {done.fault}; {frames} in {done.result}"), file=sys.stderr)
    else:
        print(terminal_line(f"{_number(done.frames, 'frame')} enhanced, in {done.result}"))


def _number(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"


def _output_file(found: _Videos, others: int, args: argparse.Namespace, extensions: Sequence[str]) -> Path | None:
    """The file that -o names; None if it names a folder."""
    output, count = args.output, len(found) + others
    known = output.suffix.lower() in extensions
    if not output.suffix or os.path.isdir(output):
        return None
    if known and count > 1:
        raise ImageError(f"{output}: is not a folder, and there are {count} files to write; name a folder with -o")
    if not known and args.input == [found[0][0]]:
        raise ImageError(f"{output}: cannot write this format; use one of {' '.join(extensions)}, or a folder")
    return output if known else None


def _result(source: Path, name: Path, args: argparse.Namespace, extensions: Sequence[str]) -> Path:
    """The path in the output folder, under the video's relative name, in its own format if that can be written."""
    extension = source.suffix if source.suffix.lower() in extensions else ".mp4"
    return args.output / name.parent / f"{name.stem}{args.suffix}{extension}"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, or 0 to turn it off; got {text!r}")
    return seconds
