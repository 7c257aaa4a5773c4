"""What a run shows of itself: progress bar, a line an epoch, TensorBoard, sample pictures, a summary at the end."""

import shlex
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from model.enhancement import Brightener
from model.files import write_atomically
from model.images import quantize, write_image
from model.network import enhance_image

from ..checkpoint import LOG, SAMPLES, SUMMARY, TENSORBOARD
from ..errors import warn
from ..step import StepResult
from .color_cast import Tone, tone

SAMPLE_COUNT = 4
SAMPLE_SIDE = 640  # samples are previews: a longer photograph is scaled down before it is enhanced


class Report:
    """The outputs of a run that are for people; nothing here changes a weight."""

    def __init__(self, out: Path, step: int, total: int, quiet: bool = False):
        self.out = out
        self._quiet = quiet  # not the process that speaks: it keeps its losses, and shows nothing
        self.seconds: list[float] = []  # of every step of this process
        self.losses: list[float] = []  # of this process's steps of the epoch
        self._first_loss: float | None = None  # mean of the first epoch, of this process's start
        self._tones: tuple[Tone, Tone] | None = None  # of the samples: input, enhanced
        self._images = 0
        self._bar = tqdm(initial=step, total=total, unit="step", disable=quiet or not sys.stderr.isatty())
        self._excepthook, threading.excepthook = threading.excepthook, _hide_oserror
        self._board = None if quiet else _open_board(out / TENSORBOARD, step, self.line)

    def line(self, text: str) -> None:
        """One line on stdout, beside the progress bar, and in log.txt."""
        if self._quiet:
            return
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        with open(self.out / LOG, "a", encoding="utf-8") as log:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

    def step(self, step: int, result: StepResult, seconds: float, images: int, lr: float) -> None:
        """After each step; `step` counts from 1."""
        self.seconds.append(seconds)
        self.losses.append(result.loss)
        self._images += images
        self._bar.set_postfix(loss=f"{result.loss:.4f}", refresh=False)
        self._bar.update()
        scalars = {"loss/total": result.loss, "gradient_norm": result.gradient_norm}
        scalars |= {f"loss/stage_{k}": loss for k, loss in enumerate(result.stage_losses, 1)}
        scalars |= {"learning_rate": lr, "seconds_a_step": seconds}
        for name, value in scalars.items():
            self._log("add_scalar", name, value, step)

    def epoch(self, epoch: int, epochs: int, step: int, total: int, mean: Callable[[float], float] = float) -> float:
        """The line of an epoch, over the steps made in it since the start; returns their mean loss.

        `mean` is over the processes; the scalars of single steps are of process 0's photographs.
        """
        steps, seconds = len(self.losses), sum(self.seconds[-len(self.losses) :])
        loss = mean(sum(self.losses) / steps)
        self._first_loss = loss if self._first_loss is None else self._first_loss
        self.line(
            f"epoch {epoch}/{epochs}  step {step}/{total}  loss {loss:.6f}  "
            f"{seconds / steps:.3f} s/step  {self._images / seconds:.2f} images/s"
        )
        self.losses, self._images = [], 0
        self._log("flush")
        return loss

    def samples(self, model: nn.Module, images: list[tuple[str, Tensor]], epoch: int, step: int) -> None:
        """Enhance a few photographs: PNG files of what `model.enhance` would make of them, and for TensorBoard input |
        illumination | published division | those. The tone is that of the division, which training alone changes."""
        enhanced = []
        for name, image in images:
            illumination, reflectance = (x[0].float().cpu() for x in enhance_image(model, image, impl="plain"))
            # The whole name is kept where it is no .png: a.jpg and a.bmp may lie side by side.
            file = name if name.lower().endswith(".png") else f"{name}.png"
            exposed = _exposed(model, image.float()).cpu()
            self._write_sample(f"epoch_{epoch:04d}", file, exposed)
            strip = torch.cat([image[0].float().cpu(), illumination, reflectance, exposed], dim=2)
            self._log("add_image", f"samples/{name}", strip, step)
            enhanced.append(reflectance)
        self._tones = tone([image[0].cpu() for _, image in images]), tone(enhanced)
        for when, found in zip(("input", "enhanced"), self._tones, strict=True):
            self._log("add_scalar", f"samples/brightness_{when}", found.brightness, step)
            self._log("add_scalar", f"samples/colour_cast_{when}", found.cast, step)

    def _write_sample(self, folder: str, file: str, image: Tensor) -> None:
        """A sample that cannot be written, as one whose name with .png is too long, is no reason to stop either."""
        target = self.out / SAMPLES / folder / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, quantize(image, rounded=True))
        except OSError as error:
            warn(f"warning: {target}: this sample is left out ({error.strerror or error})")

    def summary(self, step: int, loss: float | None, device: str, weights: Path, official: Path) -> str:
        """What came of the run, in plain lines; also kept in summary.txt."""
        seconds = sum(self.seconds)
        lines = [f"step {step} reached, {len(self.seconds)} steps now, {seconds:.1f} s in steps on {device}"]
        if loss is not None:
            lines.append(f"loss {self._first_loss:.6f} over the first epoch since the start, {loss:.6f} over the last")
        if self._tones:
            lines += [f"samples before: {self._tones[0]}", f"samples after:  {self._tones[1]}"]
        lines += [f"weights {weights}", f"the same for the official code {official}"]
        lines += [f"tensorboard --logdir {shlex.quote(str(self.out / TENSORBOARD))}"]
        text = "\n".join(lines) + "\n"
        write_atomically(self.out / SUMMARY, text.encode())
        return text

    def close(self) -> None:
        """Flush and close."""
        self._bar.close()
        self._log("close")
        threading.excepthook = self._excepthook

    def _log(self, method: str, *arguments) -> None:
        """Write to TensorBoard; where that fails, say so once and train on: the checkpoint is what matters."""
        if self._board is None:
            return
        try:
            getattr(self._board, method)(*arguments)
        except OSError as error:
            self._board = None
            print(f"train: warning: the TensorBoard log of {self.out} ends here: {error}", file=sys.stderr)


def _exposed(model: nn.Module, image: Tensor) -> Tensor:
    """`(3, H, W)` as `model.enhance` would write it; by plain operators, which are not compiled for each weights."""
    brighten = Brightener(model, image.device, impl="blocked")
    return brighten(image, brighten.find_exposure(image))[0][0]


def preview(image: Tensor) -> Tensor:
    """`(3, H, W)` as `(1, 3, h, w)` with no side longer than SAMPLE_SIDE."""
    h, w = image.shape[1:]
    scale = max(h, w) / SAMPLE_SIDE
    if scale <= 1:
        return image[None]
    size = max(1, round(h / scale)), max(1, round(w / scale))
    return torch.nn.functional.interpolate(image[None], size=size, mode="area")


def _open_board(folder: Path, step: int, line):
    """A TensorBoard writer, or None, with a line that says why."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        # A run that was killed has logged steps after its last checkpoint; they are about to be made again.
        return SummaryWriter(str(folder), purge_step=step + 1)
    except ImportError:
        line("TensorBoard is not installed: no scalars are written (pip install tensorboard)")
    except OSError as error:
        print(f"train: warning: no TensorBoard log in {folder}: {error}", file=sys.stderr)
    return None


def _hide_oserror(args: threading.ExceptHookArgs) -> None:
    """TensorBoard's writing thread hands its error to the main thread; a traceback besides would tell it twice."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)
