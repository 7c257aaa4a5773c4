"""Enhance pictures and videos: `python -m model.enhance -i PATH... -o DIR`, or `-i VIDEO -o FILE`.

Exit status: 0 all done, 1 some failed (each is named, the others are done), 2 nothing was started.
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
from .enhancement import Enhancer, Job, Jobs, Naming, Options, Outcome, enhance_files
from .files import PICTURE_EXTENSIONS, Again, Files, ImageError, Processes, Share, SharingError, remove_leftovers
from .gallery import Gallery, check_gallery
from .images import allow_pixels
from .network import WeightsError
from .streams import one_line_of, own_streams
from .video import VIDEO_EXTENSIONS, VideoJob, enhance_videos, is_video, plan_videos

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
    except KeyboardInterrupt:  # while nothing is in work: `run_jobs` and videos have words of their own
        print("error: interrupted; what was done by then is whole", file=sys.stderr)
        return 1
    except OSError as error:  # all files have words of their own: this is what the run says, on a full disk
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is left of it could not be written at the exit
        reason = f"{error.filename or 'standard output'}: cannot be written ({error.strerror or error})"
        print(f"error: {reason}; what was done by then is whole", file=sys.stderr)
        return 1
    finally:
        processes.leave()


def _run(args: argparse.Namespace, processes: Processes) -> int:
    """This process's part of the run; returns the exit status."""
    try:
        # No process writes before all have looked: results would else be taken for sources.
        prepared = _together(processes, lambda: _prepare(args, processes))
        report = prepared and _together(processes, lambda: open_report(args))
        if not report:
            return 2 if processes.first else 0  # torchrun ends process 0 as soon as another one fails
        with report:
            return _enhance(args, processes, *prepared, report)
    except SharingError as error:
        print(f"error: {error}; run again with --skip-existing", file=sys.stderr)
        return 1


def _together(processes: Processes, call: Callable[[], T]) -> T | None:
    """What a call gives that every process makes; None if it fails in one of them, of which process 0 says why."""
    mistake = result = None
    try:
        result = call()
    except (ImageError, WeightsError, UsageError) as error:
        mistake = str(error)
    mistakes = list(dict.fromkeys(filter(None, processes.gather(mistake))))
    if mistakes and processes.first:
        print(*(f"error: {one_line_of(line)}" for line in mistakes), sep="\n", file=sys.stderr)
    return None if mistakes else result


def _prepare(args: argparse.Namespace, processes: Processes) -> tuple[Jobs | list, list[VideoJob], Enhancer]:
    """All that can fail before any work: what to do, and with what.

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
    if len(jobs):
        make_folder(args.output)
    check_side_files(args, jobs, videos)
    if processes.first:
        make_report(args)
    return jobs, videos, enhancer


def _plan(args: argparse.Namespace, share: Share) -> tuple[Jobs | list, list[VideoJob]]:
    """The pictures and the videos to enhance. Raises ImageError where the arguments do not fit together."""
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
    jobs = Jobs(pictures, naming, args.skip_existing, share) if count else []
    if share.index == 0:
        print(*(f"note: {line}\n" for line in found.passed_over()), sep="", end="", file=sys.stderr)
    names = dict(videos)
    return jobs, [job for job in plan_videos(videos, count, args) if share.has(names[job.source])]


def _enhance(
    args: argparse.Namespace,
    processes: Processes,
    jobs: Jobs | list,
    videos: list[VideoJob],
    enhancer: Enhancer,
    report: RunReport,
) -> int:
    """Pictures, then videos; returns the exit status."""
    status, stopped = 0, False
    if isinstance(jobs, Jobs) or processes.count > 1:
        status, stopped = _enhance_pictures(jobs, enhancer, args, report, processes)
    if videos and stopped:
        print(f"{len(videos)} videos not tried", file=sys.stderr)
    elif videos:
        status = max(status, enhance_videos(videos, enhancer, enhancer.device, args, report))
    # torchrun ends the others as soon as one fails: that is left to process 0, when all have said what they have to.
    sys.stdout.flush()
    if report.lost:
        line = f"error: {report.path}: cannot be written ({report.reason}); lacks the lines of {report.lost} files"
        print(line, file=sys.stderr)
        status = max(status, 1)
    status = max(processes.gather(status))
    return status if processes.first else 0


def _enhance_pictures(
    jobs: Jobs | list, enhancer: Enhancer, args: argparse.Namespace, report: RunReport, processes: Processes
) -> tuple[int, bool]:
    """Enhance them and say what became of them; returns the exit status, and whether the run ends here."""
    with Gallery(args) as gallery:

        def listen(job: Job, done: str, result: object, error: str | None) -> None:
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

        options = Options(args.overwrite, args.bits, args.strip, args.raw_half)
        skip = _Earlier(args.illumination) if args.skip_existing else None
        mapped = _Mapped(jobs, gallery)
        outcome = enhance_files(mapped, enhancer, options, args.workers, skip=skip, listener=listen)
        outcomes, counts = processes.gather(outcome), processes.gather(len(jobs))
        if processes.first:
            _say(_sum(outcomes), sum(counts), args.output)
        no_page = gallery.write()
    for line in filter(None, (outcome.stopped, no_page)):
        print(f"error: {one_line_of(line)}", file=sys.stderr)
    return (1 if outcome.failures or outcome.stopped or no_page else 0), outcome.stopped is not None


class _Mapped:
    """The jobs, with illuminations for the gallery."""

    def __init__(self, jobs: Jobs | list, gallery: Gallery):
        self._jobs, self._gallery = jobs, gallery

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return (self._gallery.mapped(job, number) for number, job in enumerate(self._jobs))


class _Earlier:
    """What an earlier run has done: tells whether it has written all of a job, and cleans up where it was killed."""

    def __init__(self, illumination: bool):
        self._illumination, self._folder = illumination, None

    def __call__(self, job: Job) -> bool:
        if job.result.parent != self._folder:
            self._folder = job.result.parent
            remove_leftovers(self._folder)
        return os.path.lexists(job.result) and (not self._illumination or os.path.lexists(job.illumination))


def _sum(outcomes: list[Outcome]) -> Outcome:
    """What the processes have done together."""
    return Outcome(
        sum(outcome.done for outcome in outcomes),
        [line for outcome in outcomes for line in outcome.failures],
        left=sum(outcome.left for outcome in outcomes),
        skipped=sum(outcome.skipped for outcome in outcomes),
    )


def _say(outcome: Outcome, count: int, folder: Path) -> None:
    left = f", {outcome.left} of them left as {'it was' if outcome.left == 1 else 'they were'}" * (outcome.left > 0)
    skipped = f", {outcome.skipped} skipped, whose results were there" * (outcome.skipped > 0)
    print(f"{outcome.done} of {count} pictures enhanced{left}{skipped}, in {folder}")
    if outcome.failures:
        lines = map(one_line_of, outcome.failures)
        print(f"{len(outcome.failures)} failed:", *lines, sep="\n  ", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
