"""Pictures from files to files, several at a time: while one is computed, others are decoded and encoded.

A worker is a thread that reads, enhances and writes one picture, then takes the next. Decoders, encoders and PyTorch
release Python's lock, so the cores work in parallel, and no more pictures are in memory than there are workers. On a
CPU the workers share PyTorch's threads; a GPU enhances one picture at a time, while others are read and written.
"""

import contextlib
import errno
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from ..files import ImageError
from ..images import DEEP_EXTENSIONS, NO_METADATA, Picture, pixel_count, read_image, to_bits, write_image
from ..machine import free_memory
from ..streams import terminal_line
from .enhancer import Enhancer
from .output_paths import Job

# Errors that every further picture would meet as well, so the run stops.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTCONN, errno.ESTALE, errno.ENODEV)
# More workers gain nothing: Python's own share of the work is done by one thread at a time.
_MOST_WORKERS = 16
# Memory for each pixel of a picture in work: as read, as enhanced, encoded, and what computing it takes.
_PIXEL_BYTES = 32
# As by default, but always pictures per second, never seconds per picture.
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_one_on_the_gpu = threading.Lock()


class Done(NamedTuple):
    """What was done to one picture that has been written."""

    notes: tuple[str, ...] = ()  # what could not be kept
    line: str | None = None  # what was done, in words for the user
    left: bool = False  # whether the picture was left alone
    exposure: float | None = None
    before: float | None = None  # mean luma of the original
    after: float | None = None  # mean luma of the result
    seconds: float | None = None


class Outcome(NamedTuple):
    """The pictures of a run, counted."""

    done: int  # written
    failures: list[str]  # a line for each that was not
    stopped: str | None = None  # why the run ended early, if it did
    left: int = 0  # of those done, left alone
    skipped: int = 0  # because their results existed


# Called for each picture in order with its job, what became of it ("enhanced", "left", "skipped" or "failed"), the
# details, and why it failed.
Listener = Callable[[Job, str, Done, str | None], object]


class JobList(Protocol):
    """Jobs that are iterated over once, and may be found meanwhile; how many there are is known before."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Job]: ...


class Options(NamedTuple):
    """How pictures are read and written."""

    overwrite: bool = False
    bits: int | None = None  # per channel; None: in TIFF as many as the source has, otherwise 8
    strip: bool = False  # leave out all metadata
    half: bool = False  # read raw files at half their size
    resume: bool = False  # results that exist stay, and those that are missing are written


def enhance_files(
    jobs: JobList,
    enhancer: Enhancer,
    options: Options = Options(),  # noqa: B008 - immutable
    workers: int | None = None,
    *,
    skip: Callable[[Job], bool] | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Enhance each job's picture; one that fails does not keep the others from being done.

    Args:
        jobs: see `JobList`.
        workers: pictures at a time; None: one for each thread of PyTorch's, which they then share.
        skip: whether to skip a job because its results exist.
        listener: called for each picture.
    """
    return run_jobs(jobs, lambda job: enhance_file(job, enhancer, options), workers, skip=skip, listener=listener)


def enhance_file(job: Job, enhancer: Enhancer, options: Options = Options()) -> Done:  # noqa: B008 - immutable
    """Read, enhance and write one picture.

    Raises:
        ImageError: the source is not a picture, or a result exists and is not to be replaced.
        OSError: a result cannot be written.
    """
    began = time.perf_counter()
    there = [] if options.overwrite else [path for path in job.results if os.path.lexists(path)]
    if there and not options.resume:
        raise ImageError(_left_alone(there[0]))
    picture = read_image(job.source, half=options.half)
    bits = _bits(options.bits, job.result, picture)
    with contextlib.nullcontext() if enhancer.device.type == "cpu" else _one_on_the_gpu:
        enhanced = enhancer.picture(picture, job.illumination is not None, bits)
    metadata, notes = (NO_METADATA, _stripped(picture)) if options.strip else (picture.metadata, picture.notes)
    alpha, gray, exclusive = picture.alpha, picture.gray, not options.overwrite
    del picture  # its pixels are no longer needed, and take as much memory as the result
    job.result.parent.mkdir(parents=True, exist_ok=True)
    try:
        if job.result not in there:
            notes += write_image(job.result, enhanced.pixels, alpha, gray, metadata, exclusive=exclusive)
        if job.illumination is not None and enhanced.illumination is not None and job.illumination not in there:
            light = enhanced.illumination
            if job.illumination.suffix.lower() not in DEEP_EXTENSIONS:  # for the gallery it is JPEG
                light = to_bits(light, 8)
            write_image(job.illumination, light, None, gray, exclusive=exclusive)
    except FileExistsError as error:
        raise ImageError(_left_alone(Path(error.filename))) from None
    seconds = time.perf_counter() - began
    return Done(notes, enhanced.line, enhanced.left, enhanced.exposure, enhanced.before, enhanced.after, seconds)


def _left_alone(path: Path) -> str:
    return f"{path}: exists and was left alone; use --overwrite, --skip-existing, or --suffix for another name"


def _bits(wanted: int | None, result: Path, picture: Picture) -> int:
    """The bits per channel of a result."""
    if wanted is None:
        return 16 if result.suffix.lower() in (".tif", ".tiff") and picture.pixels.dtype == np.uint16 else 8
    return wanted


def _stripped(picture: Picture) -> tuple[str, ...]:
    """The notes of a picture without its metadata."""
    profile = picture.metadata.icc_profile
    return picture.notes + ("its color profile is stripped, and colors may look different",) * (profile is not None)


def run_jobs(
    jobs: JobList,
    work: Callable[[Job], Done],
    workers: int | None = None,
    *,
    skip: Callable[[Job], bool] | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Do `work` on each job, `workers` at a time, and report the results in the order of the jobs.

    Only as many are in work as fit into half of the memory that is free at the start, but at least one. Ctrl-C and a
    full disk end the run once the pictures in work are done; a second Ctrl-C does not wait for them.
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
                # The queue is long enough for the other workers to go on while the oldest picture takes long.
                while queue and (len(queue) >= 2 * workers - 1 or _in_work(queue) + pixels > room):
                    tally.add_first(queue)
                queue.append((job, pool.submit(work, job), pixels))
            while queue:
                tally.add_first(queue)
        except (_Full, ImageError) as error:  # ImageError: a folder can no longer be listed
            tally.finish(queue)
            advice = "make room and run again" if isinstance(error, _Full) else "run again with --skip-existing"
            tally.stopped = f"{error}; {tally.left} not tried; {advice}"
        except KeyboardInterrupt:
            tally.finish(queue)
            tally.stopped = f"interrupted; {tally.left} picture{'s' * (tally.left != 1)} not tried"
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
        """Count a picture whose results exist."""
        self._progress.update()
        self.skipped += 1
        self._tell(job, "skipped")

    def add_first(self, queue: deque[tuple[Job, Future, int]]) -> None:
        """Wait for the first picture of the queue, take it out and count it. Raises _Full."""
        wait([queue[0][1]])  # before it is taken out, so that an interruption leaves it in the queue
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
                self._progress.write(terminal_line(f"{job.source}: {result.line}"), file=sys.stdout)
            for note in result.notes:
                self._progress.write(terminal_line(f"note: {job.source}: {note}"), file=sys.stderr)
            self._tell(job, "left" if result.left else "enhanced", result)

    def _fail(self, job: Job, line: str) -> None:
        self.failures.append(line)
        self._tell(job, "failed", error=line)

    def _tell(self, job: Job, done: str, result: Done = Done(), error: str | None = None) -> None:  # noqa: B008
        if self.listener is not None:
            self.listener(job, done, result, error)

    def finish(self, queue: deque[tuple[Job, Future, int]]) -> None:
        """Count those of the queue that are in work, and drop the rest."""
        begun = deque(item for item in queue if not item[1].cancel())
        with contextlib.suppress(KeyboardInterrupt):
            while begun:
                with contextlib.suppress(_Full):
                    self.add_first(begun)


def _in_work(queue: deque[tuple[Job, Future, int]]) -> int:
    """The pixels of all pictures that are not done yet."""
    return sum(pixels for _, future, pixels in queue if not future.done())


@contextlib.contextmanager
def _shared_threads(workers: int) -> Iterator[None]:
    """Share PyTorch's threads among `workers`: one that starts within this context computes with its share of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _reason(error: Exception) -> str:
    """Why a picture could not be enhanced, to be part of a line."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return "not enough memory to enhance it; use a smaller --tile, scale the picture down, or try --device cpu"
    lines = str(error).strip().splitlines()
    return f"cannot be enhanced ({lines[0] if lines else type(error).__name__})"
