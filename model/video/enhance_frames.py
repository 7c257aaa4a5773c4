"""Enhance a video frame by frame and keep its sound.

What is kept: the presentation time of each frame, with variable rates too, as finely as the result's format counts,
less the first time of all streams; size and pixel aspect, rotation, YCbCr matrix, range, primaries and transfer; sound,
packet by packet if the result's format supports it, else re-encoded as AAC or Opus; subtitles if the format stays the
same; chapters and metadata. A matrix that the source does not name is guessed as players do: BT.709 from 1280 columns
or above 576 lines, else BT.601. Frames of more than 8 bits are read with all of them; results have 8. Odd sizes are
neither cropped nor padded: H.264 then stores color at full size (yuv444p).
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

from ..enhancement import brightness
from ..files import is_same
from ..images import quantize
from .color_spaces import rgb_of
from .deflicker import Steady
from .reader import VideoError, VideoReader
from .writer import OUTPUT_EXTENSIONS, VideoWriter


class Report(NamedTuple):
    """What became of a video."""

    result: Path  # the file that was written: the partial one if the run was interrupted
    frames: int
    fault: str | None = None  # what of the source is missing in it, part of a line
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    before: float | None = None  # mean brightness of the source's frames, see `brightness`
    after: float | None = None  # and of the result's frames
    exposure: float | None = None  # the mean exposure, if one was found


def enhance_video(
    source: str | Path,
    result: str | Path,
    enhance: Callable[..., Tensor],
    *,
    find_exposure: Callable[[Tensor], float] | None = None,
    smooth: float | None = None,
    lossless: bool = False,
    overwrite: bool = False,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int | None], object] = lambda done, total: None,
) -> Report:
    """Enhance every frame of a video and keep its sound; two frames are in memory besides those of the codecs.

    The file is NAME.partial.EXT until it is complete, then it is renamed. Ctrl-C or SIGTERM completes it after the
    current frame under its partial name; it can be played even if the process is killed outright.

    Args:
        source: a video.
        result: .mp4, .m4v, .mov, .mkv (H.264) or .webm (VP9).
        enhance: takes an image `(1, 3, H, W)`, float32 in [0, 1] on `device`, and with `find_exposure` the exposure as
            a second argument; returns the enhanced image in the same form.
        find_exposure: returns the exposure of such an image.
        smooth: seconds over which brightness is smoothed, see `Steady`; None treats each frame by itself.
        lossless: store the enhanced RGB values exactly (H.264): large, and not supported by every player.
        overwrite: replace an existing `result`.
        device: where `enhance` computes.
        progress: called after each frame with the number done, and the total if the source tells it.

    Returns:
        A report. If the source is cut off or damaged, the result has what could be read, and `fault` says what is
        missing. Properties that the result's format cannot keep are in `notes`.

    Raises:
        VideoError: the source is not a video; `result` exists, is the source, has an unknown extension or cannot be
            written. What was already written is kept and named if it can be played.
        ValueError: `smooth` is not above 0.
        ModuleNotFoundError: on importing this module, if PyAV is missing.
    """
    source, result = Path(source), Path(result)
    worker = _Worker(enhance, find_exposure, None if smooth is None else Steady(smooth), device)
    _check_result(source, result, overwrite)
    with (
        VideoReader(source) as reader,
        _Interrupts() as interrupts,
        VideoWriter(result, reader, lossless) as writer,
    ):
        for item in reader.items():
            if interrupts.seen:
                break
            if isinstance(item, av.VideoFrame):
                writer.encode(worker.enhanced(item), item)
                progress(writer.frames, reader.stream.frames or None)
            else:
                writer.add(item)
        written = writer.finish(rename=not interrupts.seen, overwrite=overwrite)
    faults = ["interrupted"] if interrupts.seen else reader.faults + writer.faults()
    notes = tuple(writer.notes + reader.notes())
    return Report(written, writer.frames, "; ".join(faults) or None, notes, interrupts.seen, *worker.means())


class _Interrupts:
    """A context in which the first SIGINT or SIGTERM only sets `seen`; a second one interrupts at once."""

    seen = False

    def __enter__(self) -> "_Interrupts":
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread, which alone may handle signals
                break
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


def _check_result(source: Path, result: Path, overwrite: bool) -> None:
    if result.suffix.lower() not in OUTPUT_EXTENSIONS:
        raise VideoError(f"{result}: cannot write this format; use one of {' '.join(OUTPUT_EXTENSIONS)}")
    if is_same(source, result):
        raise VideoError(f"{result}: is the source and would be replaced; choose another name")
    if os.path.lexists(result) and not overwrite:
        raise VideoError(f"{result}: exists and was left alone; use --overwrite, or another name")


class _Worker:
    """Enhances decoded frames one after another, and averages their brightness."""

    def __init__(
        self,
        enhance: Callable[..., Tensor],
        find_exposure: Callable[[Tensor], float] | None,
        steady: Steady | None,
        device: str | torch.device,
    ):
        self._enhance, self._find_exposure, self._steady, self._device = enhance, find_exposure, steady, device
        self._frames, self._sums = 0, np.zeros(3)

    def enhanced(self, frame: av.VideoFrame) -> np.ndarray:
        """The enhanced pixels of one decoded frame, RGB, uint8 `(H, W, 3)`."""
        pixels = rgb_of(frame)
        planes = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1)
        planes = planes.to(torch.float32, memory_format=torch.contiguous_format)
        image = planes[None].div_(float(np.iinfo(pixels.dtype).max))
        result, exposure = self._bright(image, float(frame.time or 0))
        self._frames += 1
        self._sums += brightness(pixels), brightness(result), exposure
        return result

    def means(self) -> tuple[float | None, float | None, float | None]:
        """Mean brightness before and after, and mean exposure; None if unknown."""
        if not self._frames:
            return None, None, None
        before, after, exposure = (self._sums / self._frames).tolist()
        return before, after, None if self._find_exposure is None else exposure

    def _bright(self, image: Tensor, time: float) -> tuple[np.ndarray, float]:
        """The enhanced pixels and the exposure, which is 0 without `find_exposure`."""
        if self._find_exposure is not None:
            exposure = self._find_exposure(image)
            exposure = exposure if self._steady is None else self._steady.exposure(exposure, image, time)
            return quantize(self._enhance(image, exposure)[0], rounded=True), exposure
        reflectance = self._enhance(image)
        if self._steady is not None:
            reflectance = (reflectance * self._steady.gain(reflectance, time)).clamp(0.0, 1.0)
        return quantize(reflectance[0]), 0.0
