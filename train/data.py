"""The photographs of a folder, and which of them each step sees, cropped where.

Order and crops are a pure function of (seed, epoch, index), so that a resumed run needs no state of a random number
generator, and the number of worker processes changes nothing.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from model.files import ImageError, find_images
from model.images import Picture, read_image
from sci_kernels.constants import MIN_SIDE

from .errors import TrainError

# Decoded pixels are kept up to this size; other files are read again each time they are needed. Nothing is evicted:
# every epoch asks for every photograph once, so a cache that evicts the least recently used would never hit.
CACHE_BYTES = 1 << 30

_ORDER, _CROP = 0, 1  # separate streams of random numbers

Key = tuple[int, int]  # epoch, index of the photograph
Sample = tuple[str, Tensor | TrainError]


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which an epoch takes `count` photographs."""
    return np.random.default_rng((_ORDER, seed, epoch)).permutation(count)


def crop_corner(seed: int, epoch: int, index: int, size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Top and left of a photograph's crop in an epoch; every position is equally likely."""
    random = np.random.default_rng((_CROP, seed, epoch, index))
    top, left = (int(random.integers(side - part + 1)) for side, part in zip(size, crop, strict=True))
    return top, left


class Photos(Dataset):
    """The readable photographs of a folder; item `(epoch, index)` is `(name, (3, h, w))`.

    Pixels of 8 bits stay uint8 until they are on the device (`stack`); deeper ones are float32 in [0, 1].

    Every file is decoded once at the start, so that a damaged one is named before hours of work.

    Args:
        folder: searched recursively.
        crop: height and width, or None for the whole photograph.
        seed: of the crops.
        warn: called with one line for each file left out: unreadable, or below 3 pixels a side.

    Raises:
        TrainError: no photograph is left, or one is smaller than the crop.
        ImageError: the folder is missing or holds no picture.
    """

    def __init__(self, folder: str, crop: tuple[int, int] | None, seed: int, warn: Callable[[str], None]):
        self.crop, self.seed = crop, seed
        self.files: list[Path] = []
        self.names: list[str] = []
        self.sizes: list[tuple[int, int]] = []  # (height, width)
        self._pixels: dict[int, np.ndarray] = {}
        self._scan(folder, find_images([folder]), warn)
        self._check_crop()

    def _scan(self, folder: str, found: list[tuple[Path, Path]], warn: Callable[[str], None]) -> None:
        cached = 0
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            read = pool.map(_read_or_error, (file for file, _ in found))
            progress = tqdm(read, "reading", len(found), leave=False, disable=not sys.stderr.isatty())
            for (file, name), pixels in zip(found, progress, strict=True):
                if isinstance(pixels, TrainError):
                    warn(f"left out: {pixels}")
                    continue
                if cached + pixels.nbytes <= CACHE_BYTES:
                    cached += pixels.nbytes
                    self._pixels[len(self.files)] = pixels
                self.files.append(file)
                self.names.append(name.as_posix())
                self.sizes.append(pixels.shape[:2])
        if not self.files:
            raise TrainError(f"--data: expected a readable photograph in {folder}; all {len(found)} were left out")

    def _check_crop(self) -> None:
        for file, (h, w) in zip(self.files, self.sizes, strict=True):
            if self.crop and (h < self.crop[0] or w < self.crop[1]):
                raise TrainError(
                    f"{file}: expected at least --crop {self.crop[0]} {self.crop[1]} (height width); got {h} {w}; "
                    "choose a smaller --crop, or take the file out of --data"
                )

    def check_batches(self, batch_size: int, processes: int = 1) -> None:
        """Raise TrainError if photographs of different sizes would share a batch, or a process would have none."""
        if len(self) < processes:
            raise TrainError(
                f"--data: expected at least as many photographs as processes, {processes}; got {len(self)}; "
                "start fewer processes (--nproc_per_node), or add photographs"
            )
        if batch_size == 1 or self.crop:
            return
        for file, size in zip(self.files, self.sizes, strict=True):
            if size != self.sizes[0]:
                (h0, w0), (h, w) = self.sizes[0], size
                raise TrainError(
                    f"--batch-size {batch_size}: expected photographs of one size; got {self.files[0]} of {h0}x{w0} "
                    f"and {file} of {h}x{w} (height x width); use --crop H W, or --batch-size 1"
                )

    def identity(self) -> list[list]:
        """`[name, height, width]` of each photograph, which must be the same when the run is resumed."""
        return [[name, h, w] for name, (h, w) in zip(self.names, self.sizes, strict=True)]

    def image(self, index: int) -> Tensor:
        """The whole photograph, float32 `(3, H, W)`."""
        return Picture(self._read(index)).tensor()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        try:
            pixels = self._read(index)
        except TrainError as error:
            # `stack` raises it in the training process; raised in a worker it would arrive as a traceback.
            return self.names[index], error
        if self.crop:
            top, left = crop_corner(self.seed, epoch, index, self.sizes[index], self.crop)
            pixels = pixels[top : top + self.crop[0], left : left + self.crop[1]]
        if pixels.dtype != np.uint8:
            return self.names[index], Picture(pixels).tensor()
        return self.names[index], torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def _read(self, index: int) -> np.ndarray:
        if index in self._pixels:
            return self._pixels[index]
        pixels = _read_or_error(self.files[index])
        if isinstance(pixels, TrainError):
            raise pixels
        if pixels.shape[:2] != self.sizes[index]:
            raise TrainError(f"{self.files[index]}: the file changed its size while training; put it back")
        return pixels


def _read_or_error(file: Path) -> np.ndarray | TrainError:
    try:
        pixels = read_image(file).pixels
    except (ImageError, OSError) as error:
        return TrainError(str(error))
    h, w = pixels.shape[:2]
    if min(h, w) < MIN_SIDE:
        return TrainError(f"{file}: expected sides of {MIN_SIDE} pixels or more; got {h}x{w}")
    return pixels


@dataclass(frozen=True)
class Place:
    """How far a run has come: epochs done, and photographs of the next one done; whatever the batch size."""

    epoch: int
    taken: int

    def next(self, count: int, batch: int) -> "Place":
        """The place after a step of `batch` of the `count` photographs; an epoch's last step takes what is left."""
        taken = self.taken + batch
        return Place(self.epoch + 1, 0) if taken >= count else Place(self.epoch, taken)

    def steps_to(self, epochs: int, count: int, batch: int) -> int:
        """Steps until `epochs` epochs are done; negative where more than these are done."""
        an_epoch = -(-count // batch)
        return (epochs - self.epoch) * an_epoch - (an_epoch - -(-(count - self.taken) // batch))

    def epochs_after(self, steps: int, count: int, batch: int) -> int:
        """How many epochs have begun after this many more steps."""
        an_epoch = -(-count // batch)
        return self.epoch + max(0, -(-(steps + an_epoch - -(-(count - self.taken) // batch)) // an_epoch))


def place_of(step: int, count: int, batch: int) -> Place:
    """The place of a run after `step` steps, all with the same batch size."""
    epoch, batches = divmod(step, -(-count // batch))
    return Place(epoch, batches * batch)


class Schedule(Sampler[list[Key]]):
    """The batches of steps `start` to `stop`, counted from the beginning of the run; an epoch's last may be short.

    Of `processes` processes, each takes every `processes`-th photograph of a step's `processes * batch_size`. If the
    photographs of an epoch's last step cannot be shared equally, some from the beginning of the epoch are repeated.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        place: Place | None = None,
        rank: int = 0,
        processes: int = 1,
    ):
        self.count, self.seed = count, seed
        self.start, self.stop = start, stop
        self.rank, self.processes = rank, processes
        self.batch = batch_size * processes
        self.place = place or place_of(start, count, self.batch)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Key]]:
        place = self.place
        for step in range(self.start, self.stop):
            if place.taken == 0 or step == self.start:
                indices = order(self.seed, place.epoch, self.count).tolist()
                indices += indices[: self.processes - 1]
            size = min(self.batch, self.count - place.taken)
            size = -(-size // self.processes) * self.processes
            shares = indices[place.taken : place.taken + size]
            yield [(place.epoch, index) for index in shares[self.rank :: self.processes]]
            place = place.next(self.count, self.batch)


def load(photos: Photos, schedule: Schedule, workers: int, device: torch.device) -> DataLoader:
    """The batches of a schedule, each a list of samples, in order; workers stay alive from epoch to epoch."""
    return DataLoader(
        photos,
        batch_sampler=schedule,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=partial(_leave_signals_to_parent, os.getpid()),
        pin_memory=device.type == "cuda",
    )


def ahead(batches: Iterable[list[Sample]]) -> Iterator[list[Sample]]:
    """The same batches; each is read by a thread while the one before it is in use."""
    iterator = iter(batches)
    with ThreadPoolExecutor(1, "reader") as pool:
        waiting = pool.submit(next, iterator, None)
        while (batch := waiting.result()) is not None:
            waiting = pool.submit(next, iterator, None)
            yield batch


def _leave_signals_to_parent(parent: int, worker: int) -> None:
    """Ctrl-C reaches every process of the terminal's group; the parent still needs this one to finish its step.

    Leaving the group, rather than ignoring signals, lets the parent end a worker that hangs.
    """
    if os.getppid() != parent:  # the parent was killed before this worker began to watch it: it would wait forever
        os._exit(1)
    if hasattr(os, "setsid"):
        os.setsid()
    torch.set_num_threads(1)


def stack(samples: list[Sample], device: torch.device) -> tuple[list[str], Tensor]:
    """Names, and `(N, 3, h, w)` in [0, 1], float32, on the device; values of 8 bits travel there as uint8.

    Raises TrainError where a sample could not be read.
    """
    names, images = [], []
    for name, image in samples:
        if isinstance(image, TrainError):
            raise image
        names.append(name)
        image = image.to(device, non_blocking=True)
        # The same division as in Picture.tensor, so that the values are the same to the bit.
        images.append(image.float().div_(255.0) if image.dtype == torch.uint8 else image)
    return names, torch.stack(images)
