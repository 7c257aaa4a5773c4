"""Enhance pictures and videos: `python -m model.enhance -i PATH... -o DIR`, or `-i VIDEO -o FILE`.

Exit status: 0 if all are done, 1 if some failed (each is named, the others are done), 2 if nothing was started.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from .command_line import RunReport
from .enhance_checks import UsageError, check_side_files, device_of, make_folder, make_report, open_report
from .enhance_options import parse
from .enhancement import Done, Enhancer, Job, Jobs, Naming, Options, Outcome, enhance_files
from .files import (
    PICTURE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    Again,
    Files,
    ImageError,
    Processes,
    Share,
    SharingError,
    remove_leftovers,
)
from .gallery import Gallery, check_gallery
from .images import allow_pixels
from .network import WeightsError
from .streams import own_streams, terminal_line
from .video import VideoJob, enhance_videos, is_video, plan_videos

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    own_streams()
    args = parse(argv)
    try:
        processes = Processes()
    except SharingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        return _run(args, processes)
    except KeyboardInterrupt:  # while nothing is in work; otherwise `run_jobs` and the videos have handled it
        print("error: interrupted; what was done by then is whole", file=sys.stderr)
        return 1
    except OSError as error:  # standard output, on a full disk; errors of all files have been handled
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - Python would fail again to flush it at exit
        reason = f"{error.filename or 'standard output'}: cannot be written ({error.strerror or error})"
        print(f"error: {reason}; what was done by then is whole", file=sys.stderr)
        return 1
    finally:
        processes.leave()


def _run(args: argparse.Namespace, processes: Processes) -> int:
    """This process's part of the run; returns the exit status."""
    try:
        # No process writes before all have looked for files: they would take results for sources.
        prepared = _together(processes, lambda: _prepare(args, processes))
        report = None if prepared is None else _together(processes, lambda: open_report(args))
        if prepared is None or report is None:
            return 2 if processes.first else 0  # torchrun ends process 0 as soon as another one fails
        with report:
            return _enhance(args, processes, *prepared, report)
    except SharingError as error:
        print(f"error: {error}; run again with --skip-existing", file=sys.stderr)
        return 1


def _together(processes: Processes, call: Callable[[], T]) -> T | None:
    """The result of a call that every process makes; None if it fails in one of them, and process 0 says why."""
    mistake = result = None
    try:
        result = call()
    except (ImageError, WeightsError, UsageError) as error:
        mistake = str(error)
    mistakes = list(dict.fromkeys(filter(None, processes.gather(mistake))))
    if mistakes and processes.first:
        print(*(f"error: {terminal_line(line)}" for line in mistakes), sep="\n", file=sys.stderr)
    return None if mistakes else result


def _prepare(args: argparse.Namespace, processes: Processes) -> tuple[Jobs | None, list[VideoJob], Enhancer]:
    """Everything that can fail before any work: finds the jobs, and makes the enhancer for them.

    Raises ImageError, WeightsError or UsageError.
    """
    if processes.count > 1 and args.shard.count > 1:
        raise UsageError("--shard: torchrun's processes share the files by themselves; leave it out")
    if processes.count > 1 and args.gallery:
        raise UsageError("--gallery: is written by a single process; leave it out, or start without torchrun")
    if args.max_pixels is not None:
        allow_pixels(args.max_pixels)
    jobs, videos = _plan(args, processes.share if processes.count > 1 else args.shard)
    device = device_of(args.device, args.gpu, processes.local_rank)
    options = {"exposure": args.exposure, "denoise": args.denoise, "tile": args.tile}
    enhancer = Enhancer(args.weights, device, strength=args.strength, **options)
    if jobs:
        make_folder(args.output)
    check_side_files(args, jobs, videos)
    if processes.first:
        make_report(args)
    return jobs, videos, enhancer


def _plan(args: argparse.Namespace, share: Share) -> tuple[Jobs | None, list[VideoJob]]:
    """The pictures, None where there are none, and the videos. Raises ImageError where the arguments do not fit."""
    found = Files(args.input, PICTURE_EXTENSIONS + VIDEO_EXTENSIONS, "pictures or videos", without=args.output)
    count, videos = 0, []
    for source, name in tqdm(found, "looking for files", unit="", disable=None, leave=False, delay=2):
        if is_video(source):
            videos.append((source, name))
        else:
            count += 1
    if count and args.output.suffix.lower() in PICTURE_EXTENSIONS and not os.path.isdir(args.output):
        raise ImageError(
            f"{args.output}: expected a folder for the pictures, which keep their names; got the name of a picture; "
            "name the folder, as by -o bright"
        )
    check_gallery(args)
    naming = Naming(args.output, args.suffix, args.ext, args.illumination, args.bits)
    pictures = Again(lambda: (pair for pair in found if not is_video(pair[0])))
    jobs = Jobs(pictures, naming, args.skip_existing, share) if count else None
    if share.index == 0:
        print(*(f"note: {line}\n" for line in found.passed_over()), sep="", end="", file=sys.stderr)
    names = dict(videos)
    return jobs, [job for job in plan_videos(videos, count, args) if share.has(names[job.source])]


def _enhance(
    args: argparse.Namespace,
    processes: Processes,
    jobs: Jobs | None,
    videos: list[VideoJob],
    enhancer: Enhancer,
    report: RunReport,
) -> int:
    """Pictures, then videos; returns the exit status."""
    status, stopped = 0, False
    if jobs is not None or processes.count > 1:
        status, stopped = _enhance_pictures(jobs, enhancer, args, report, processes)
    if videos and stopped:
        print(f"{len(videos)} video{'s' * (len(videos) > 1)} not tried", file=sys.stderr)
    elif videos:
        status = max(status, enhance_videos(videos, enhancer, enhancer.device, args, report))
    # torchrun ends the others as soon as one fails: process 0 alone fails, once all have printed their messages.
    sys.stdout.flush()
    if report.lost:
        line = f"error: {report.path}: cannot be written ({report.reason}); lacks the lines of {report.lost} files"
        print(line, file=sys.stderr)
        status = max(status, 1)
    status = max(processes.gather(status))
    return status if processes.first else 0


def _enhance_pictures(
    jobs: Jobs | None, enhancer: Enhancer, args: argparse.Namespace, report: RunReport, processes: Processes
) -> tuple[int, bool]:
    """Enhance them and report the results; returns the exit status, and whether the run ends here."""
    with Gallery(args) as gallery:

        def listen(job: Job, done: str, result: Done, error: str | None) -> None:
            gallery.add(job, done, result)
            report.add(
                *(job.source, job.result, done),
                before=result.before,
                after=result.after,
                exposure=result.exposure,
                seconds=result.seconds,
                notes=result.notes,
                error=error,
            )

        options = Options(args.overwrite, args.bits, args.strip, args.raw_half, resume=args.skip_existing)
        skip = _EarlierRun(args.illumination) if args.skip_existing else None
        mapped = _WithIlluminations(jobs, gallery)
        outcome = enhance_files(mapped, enhancer, options, args.workers, skip=skip, listener=listen)
        outcomes, counts = processes.gather(outcome), processes.gather(len(mapped))
        if processes.first:
            _print_outcome(_sum(outcomes), sum(counts), args.output)
        no_page = gallery.write()
    for line in filter(None, (outcome.stopped, no_page)):
        print(f"error: {terminal_line(line)}", file=sys.stderr)
    return (1 if outcome.failures or outcome.stopped or no_page else 0), outcome.stopped is not None


class _WithIlluminations:
    """The jobs, if any, with the illuminations that the gallery shows."""

    def __init__(self, jobs: Jobs | None, gallery: Gallery):
        self._jobs: Jobs | tuple[Job, ...] = () if jobs is None else jobs
        self._gallery = gallery

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return (self._gallery.mapped(job, number) for number, job in enumerate(self._jobs))


class _EarlierRun:
    """Whether an earlier run has written all results of a job; also deletes the leftovers where that run was killed."""

    def __init__(self, illumination: bool):
        self._illumination = illumination
        self._folder: Path | None = None

    def __call__(self, job: Job) -> bool:
        if job.result.parent != self._folder:
            self._folder = job.result.parent
            remove_leftovers(self._folder)
        return all(os.path.lexists(path) for path in (job.results if self._illumination else (job.result,)))


def _sum(outcomes: list[Outcome]) -> Outcome:
    """The outcomes of all processes added up."""
    return Outcome(
        sum(outcome.done for outcome in outcomes),
        [line for outcome in outcomes for line in outcome.failures],
        left=sum(outcome.left for outcome in outcomes),
        skipped=sum(outcome.skipped for outcome in outcomes),
    )


def _print_outcome(outcome: Outcome, count: int, folder: Path) -> None:
    left = f", {outcome.left} of them left as {'it was' if outcome.left == 1 else 'they were'}" * (outcome.left > 0)
    skipped = f", {outcome.skipped} skipped, whose results were there" * (outcome.skipped > 0)
    print(f"{outcome.done} of {count} pictures enhanced{left}{skipped}, in {folder}")
    if outcome.failures:
        lines = map(terminal_line, outcome.failures)
        print(f"{len(outcome.failures)} failed:", *lines, sep="\n  ", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
