"""A folder of JPEGs enhanced by the command, compared with decoding and encoding alone.

    python -m bench enhance --folder 12|DIR

`command` is `python -m model.enhance` called in this process: it finds the files, loads the weights, enhances.
`coding` reads the same files and writes the same results with the command's own functions and as many workers, but
computes nothing in between. Both write PNG, the command's default, which has a bound to keep, and then JPEG, which is
coded so quickly that it leaves the least time for the network. Before that, the command's files are compared byte for
byte with those of the pictures enhanced one by one.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import model.enhance
from model import Enhancer, ImageError, Picture, find_images, read_image, write_image
from model.enhancement import Done, Job, plan_jobs, run_jobs

from ..low_light_photos import write_jpegs
from ..measure import Row, interleave

SIZE = (1920, 1080)
MOST = 24  # pictures of DIR at most, as their results are held in memory
# By format, the share of coding's pictures per second that the command must reach.
BOUNDS: dict[str, float | None] = {"png": 0.95, "jpg": None}


def folder_rows(
    source: str, device: str, repeats: int, check: bool, deadline: float, add: Callable[[Row], None]
) -> bool:
    """Measures each format, and tells whether the command wrote the same files as enhancing one by one.

    Args:
        source: the number of JPEGs to make, or a folder that has some.
        check: compare the files, time nothing.
        deadline: of time.perf_counter(): no format is started after it.
        add: is given each row.

    Raises ImageError: the folder has no picture.
    """
    good = True
    with tempfile.TemporaryDirectory(prefix="sci-folder-") as place:
        photos = _photos(source, Path(place))
        width, height = read_image(photos[0]).pixels.shape[1::-1]
        about = {"op": "folder", "width": width, "height": height, "dtype": "uint8", "color": None, "provider": "ours"}
        about |= {"pictures": len(photos), "made": source.isdecimal()}
        for extension in BOUNDS:
            row = about | {"part": extension}
            if time.perf_counter() > deadline:
                add(row | {"status": "not measured: the time given by --seconds is up"})
                continue
            case = _Case(photos, Path(place), extension, device)
            if wrong := case.differing():
                good = False
                add(row | {"status": f"not timed: {wrong} differs from the picture enhanced by itself"})
            elif check:
                add(row | {"status": "agrees with the pictures enhanced one by one"})
            else:
                add(row | {"status": "ok"} | _rates(case, repeats))
    return good


def folder_text(row: Row) -> str:
    """A row as a line."""
    start = f"{row['pictures']} JPEGs to {row['part']}, {row['width']}x{row['height']}"
    if row["status"] != "ok":
        return f"{start}: {row['status']}"
    command, coding = row["pictures_per_s"]["median"], row["coding_per_s"]["median"]
    bound = f" (must: {row['must']:.0%})" if row["must"] else ""
    return f"{start}: {command:.2f} pictures/s, coding alone {coding:.2f}: {row['share']:.0%}{bound}"


class _Case:
    """Pictures written in one format: enhanced by the command, enhanced one by one, and only decoded and encoded."""

    def __init__(self, photos: list[Path], place: Path, extension: str, device: str):
        self.photos, self.device = photos, device
        self.folders = {name: place / f"{extension}-{name}" for name in ("command", "single", "coding")}
        self.extension = extension
        self.bright: dict[Path, np.ndarray] = {}  # the enhanced pixels of each photograph

    def differing(self) -> str | None:
        """The first file of the command that differs from its picture enhanced alone, which fills `bright`."""
        self.command()
        enhancer = Enhancer(device=self.device)
        for job in self._jobs("single"):
            picture = read_image(job.source)
            self.bright[job.source] = enhancer.picture(picture).pixels
            self._write(job, picture)
            if job.result.read_bytes() != (self.folders["command"] / job.result.name).read_bytes():
                return job.result.name
        return None

    def command(self) -> None:
        """Runs the command. Raises RuntimeError with what it printed if it failed."""
        printed = io.StringIO()
        arguments = ["-i", *map(str, self.photos), "-o", str(self.folders["command"]), "--overwrite"]
        arguments += ["--ext", self.extension, "--device", self.device]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = model.enhance.main(arguments)
        if status:
            raise RuntimeError(f"python -m model.enhance failed: {printed.getvalue().strip()}")

    def coding(self) -> None:
        """Decodes and encodes. Raises RuntimeError if a file could not be read or written."""

        def work(job: Job) -> Done:
            self._write(job, read_image(job.source))
            return Done()

        with contextlib.redirect_stderr(io.StringIO()):  # its progress
            outcome = run_jobs(self._jobs("coding"), work)
        if outcome.failures or outcome.stopped:
            raise RuntimeError(outcome.stopped or outcome.failures[0])

    def _jobs(self, name: str) -> list[Job]:
        self.folders[name].mkdir(exist_ok=True)
        return plan_jobs(find_images(self.photos), self.folders[name], ext=self.extension)

    def _write(self, job: Job, picture: Picture) -> None:
        write_image(job.result, self.bright[job.source], picture.alpha, picture.gray, picture.metadata)


def _rates(case: _Case, repeats: int) -> Row:
    """The pictures per second of both, measured in turns."""
    times = interleave({"command": case.command, "coding": case.coding}, repeats)
    count = len(case.photos)
    rates = {
        name: {"median": count / timing.median, "p20": count / timing.p80, "p80": count / timing.p20}
        for name, timing in times.items()
    }
    share = rates["command"]["median"] / rates["coding"]["median"]
    return {
        "pictures_per_s": rates["command"],
        "coding_per_s": rates["coding"],
        "share": share,
        "must": BOUNDS[case.extension],
        "threads": torch.get_num_threads(),
        "repeats": repeats,
    }


def _photos(source: str, place: Path) -> list[Path]:
    if source.isdecimal():
        return write_jpegs(place / "photographs", int(source), SIZE)
    found = [path for path, _ in find_images(source) if path.suffix.lower() in (".jpg", ".jpeg")]
    if not found:
        raise ImageError("no JPEGs in this folder or below it")
    return found[:MOST]
