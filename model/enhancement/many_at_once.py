"""Pictures from files to files, several at a time: while one is computed, others are decoded and encoded.

A worker is a thread that reads, enhances and writes one picture, then takes the next: decoders, encoders and PyTorch
let go of Python's lock, so no core waits for another, and no more pictures are in memory than there are workers. On a
CPU the workers share PyTorch's threads; a GPU takes one picture at a time, while the others are read and written.
"""

import contextlib
import errno
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..files import ImageError
from ..images import NO_METADATA, Picture, pixel_count, read_image, write_image
from ..machine import free_memory
from ..streams import one_line_of
from .enhancer import Enhancer
from .output_paths import Job

# Every further picture would meet these too, so the run stops.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTCONN, errno.ESTALE, errno.ENODEV)
# More gain nothing: Python's own share of the work is done by one thread at a time.
_MOST_WORKERS = 16
# Of memory, for each pixel of a picture in work: as read, as enhanced, encoded, and what computing it takes.
_PIXEL_BYTES = 32
# tqdm's own, but always pictures a second, never seconds a picture.
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_one_on_the_gpu = threading.Lock()


class Done(NamedTuple):
    """What came of one picture that was written."""

    notes: tuple[str, ...] = ()  # what could not be kept
    line: str | None = None  # what was done, for the user
    left: bool = False  # as it was
    exposure: float | None = None
    before: float | None = None  # mean luma
    after: float | None = None
    seconds: float | None = None


class Outcome(NamedTuple):
    """How many pictures were written, a line for each that was not, and the line that ended the run early, if any."""

    done: int
    failures: list[str]
    stopped: str | None = None
    left: int = 0  # of those done, left as they were
    skipped: int = 0  # their results were there


# Told of each picture in order: its job, what came of it ("enhanced", "left", "skipped" or "failed"), more of what was
# done, and why it failed.
Listener = Callable[[Job, str, Done, str | None], object]


class Options(NamedTuple):
    """How pictures are read and written."""

    overwrite: bool = False
    bits: int | None = None  # a channel; None: of TIFF as the source has, else 8
    strip: bool = False  # leave out all metadata
    half: bool = False  # raw files at half their size


def enhance_files(
    jobs: Collection[Job],
    enhancer: Enhancer,
    options: Options = Options(),  # noqa: B008 - immutable
    workers: int | None = None,
    *,
    skip: Callable[[Job], bool] | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Enhance each job's picture; one that fails does not keep the others from being done.

    Args:
        jobs: gone through once; may be found as they come.
        workers: pictures at a time; None: one for each thread that PyTorch computes with, which they then share.
        skip: whether to pass over a job, as its results are there.
        listener: told of each picture.
    """
    return run_jobs(jobs, lambda job: enhance_file(job, enhancer, options), workers, skip=skip, listener=listener)


def enhance_file(job: Job, enhancer: Enhancer, options: Options = Options()) -> Done:  # noqa: B008 - immutable
    """Read, enhance and write one picture.

    Raises:
        ImageError: the source is no picture, or a result exists and is not to be replaced.
        OSError: a result cannot be written.
    """
    began = time.perf_counter()
    for path in job.results:
        if os.path.lexists(path) and not options.overwrite:
            raise ImageError(_left_alone(path))
    picture = read_image(job.source, half=options.half)
    bits = _bits(options.bits, job.result, picture)
    with contextlib.nullcontext() if enhancer.device.type == "cpu" else _one_on_the_gpu:
        enhanced = enhancer.picture(picture, job.illumination is not None, bits)
    picture = replace(picture, pixels=None)  # no longer needed, and as large as the result
    job.result.parent.mkdir(parents=True, exist_ok=True)
    metadata, notes = (NO_METADATA, _stripped(picture)) if options.strip else (picture.metadata, picture.notes)
    try:
        notes += write_image(
            job.result, enhanced.pixels, picture.alpha, picture.grey, metadata, exclusive=not options.overwrite
        )
        if job.illumination is not None:
            write_image(job.illumination, enhanced.illumination, None, picture.grey, exclusive=not options.overwrite)
    except FileExistsError as error:
        raise ImageError(_left_alone(Path(error.filename))) from None
    seconds = time.perf_counter() - began
    return Done(notes, enhanced.line, enhanced.left, enhanced.exposure, enhanced.before, enhanced.after, seconds)


def _left_alone(path: Path) -> str:
    return f"{path}: exists and was left alone; use --overwrite, --skip-existing, or --suffix for another name"


def _bits(wanted: int | None, result: Path, picture: Picture) -> int:
    """The depth of a result."""
    if wanted is None:
        return 16 if result.suffix.lower() in (".tif", ".tiff") and picture.pixels.dtype == np.uint16 else 8
    return wanted


def _stripped(picture: Picture) -> tuple[str, ...]:
    """The notes of a picture without its metadata."""
    profile = picture.metadata.icc_profile
    return picture.notes + ("its color profile is stripped, and colors may look different",) * (profile is not None)


def run_jobs(
    jobs: Collection[Job],
    work: Callable[[Job], Done],
    workers: int | None = None,
    *,
    skip: Callable[[Job], bool] | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """`work` on each job, `workers` at a time; what came of them is told in their order.

    No more are in work than fit into half of the memory that is free at the start, and always one. Ctrl-C and a full
    disk end the run once the pictures in work are done; a second Ctrl-C does not wait for them.
    """
    workers = max(1, min(workers or min(torch.get_num_threads(), _MOST_WORKERS), len(jobs)))
    room = free_memory(torch.device("cpu")) // (2 * _PIXEL_BYTES)
    queue: deque[tuple[Job, Future, int]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="picture")
    with _Tally(len(jobs), listener) as tally, _shared_threads(workers):
        try:
            for job in jobs:
                if skip is not None and skip(job):
                    tally.skip(job)
                    continue
                pixels = pixel_count(job.source)
                # Enough in the queue for the others to go on while the oldest takes long.
                while queue and (len(queue) >= 2 * workers - 1 or _in_work(queue) + pixels > room):
                    tally.add_first(queue)
                queue.append((job, pool.submit(work, job), pixels))
            while queue:
                tally.add_first(queue)
        except (_Full, ImageError) as error:  # the latter: a folder can no longer be listed
            tally.finish(queue)
            advice = "make room and run again" if isinstance(error, _Full) else "run again with --skip-existing"
            tally.stopped = f"{error}; {tally.left} not tried; {advice}"
        except KeyboardInterrupt:
            tally.finish(queue)
            tally.stopped = f"interrupted; {tally.left} pictures not tried"
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return Outcome(tally.done, tally.failures, tally.stopped, tally.left_alone, tally.skipped)


class _Full(Exception):
    """Nothing more can be written; the message says where and why."""


@dataclass
class _Tally:
    """What became of the pictures so far, shown as it grows."""

    total: int
    listener: Listener | None = None
    done: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: str | None = None
    left_alone: int = 0
    skipped: int = 0

    def __enter__(self) -> "_Tally":
        self._progress = tqdm(total=self.total, unit=" pictures", disable=None, bar_format=_BAR)
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.close()

    @property
    def left(self) -> int:
        return self.total - self.done - len(self.failures) - self.skipped

    def skip(self, job: Job) -> None:
        """Counts one whose results are there."""
        self._progress.update()
        self.skipped += 1
        self._tell(job, "skipped")

    def add_first(self, queue: deque[tuple[Job, Future, int]]) -> None:
        """Waits for the first of the queue, takes it out and counts it. Raises _Full."""
        wait([queue[0][1]])  # before it is taken out: an interruption comes here
        job, future, _ = queue.popleft()
        self._progress.update()
        try:
            result = future.result()
        except OSError as error:
            self._fail(job, f"{error.filename or job.result}: cannot be written ({error.strerror or error})")
            if error.errno in _FULL:
                raise _Full(f"{job.result.parent}: {error.strerror}") from None
        except ImageError as error:
            self._fail(job, str(error))
        except (RuntimeError, MemoryError, ValueError) as error:
            self._fail(job, f"{job.source}: {_reason(error)}")
        else:
            self.done += 1
            self.left_alone += result.left
            if result.line:
                self._progress.write(one_line_of(f"{job.source}: {result.line}"), file=sys.stdout)
            for note in result.notes:
                self._progress.write(one_line_of(f"note: {job.source}: {note}"), file=sys.stderr)
            self._tell(job, "left" if result.left else "enhanced", result)

    def _fail(self, job: Job, line: str) -> None:
        self.failures.append(line)
        self._tell(job, "failed", error=line)

    def _tell(self, job: Job, done: str, result: Done = Done(), error: str | None = None) -> None:  # noqa: B008
        if self.listener is not None:
            self.listener(job, done, result, error)

    def finish(self, queue: deque[tuple[Job, Future, int]]) -> None:
        """Counts those of the queue that are in work, and drops the rest."""
        begun = deque(item for item in queue if not item[1].cancel())
        with contextlib.suppress(KeyboardInterrupt):
            while begun:
                with contextlib.suppress(_Full):
                    self.add_first(begun)


def _in_work(queue: deque[tuple[Job, Future, int]]) -> int:
    """Pixels of the pictures that are not done yet."""
    return sum(pixels for _, future, pixels in queue if not future.done())


@contextlib.contextmanager
def _shared_threads(workers: int) -> Iterator[None]:
    """PyTorch's threads shared among `workers`: each that starts in here computes with its share of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _reason(error: Exception) -> str:
    """Why a picture could not be enhanced, in part of a line."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return "not enough memory to enhance it; use a smaller --tile, scale the picture down, or try --device cpu"
    lines = str(error).strip().splitlines()
    return f"cannot be enhanced ({lines[0] if lines else type(error).__name__})"
