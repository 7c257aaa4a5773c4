"""What a run shows: progress bar, a line per epoch, TensorBoard, sample pictures, and a summary at the end."""

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


class TrainingReport:
    """The outputs of a run that are for people; nothing here changes a weight."""

    def __init__(self, out: Path, step: int, total: int, quiet: bool = False):
        self.out = out
        self._quiet = quiet  # of several processes, all but one only collect their losses and show nothing
        self.seconds: list[float] = []  # of every step of this process
        self.losses: list[float] = []  # of this process's steps in the current epoch
        self._first_loss: float | None = None  # mean over the first epoch since the process started
        self._tones: tuple[Tone, Tone] | None = None  # of the samples: input, enhanced
        self._images = 0
        self._bar = tqdm(initial=step, total=total, unit="step", disable=quiet or not sys.stderr.isatty())
        self._excepthook, threading.excepthook = threading.excepthook, _hide_oserror
        self._board = None if quiet else _open_board(out / TENSORBOARD, step, self.line)

    def line(self, text: str) -> None:
        """Print one line on stdout, above the progress bar, and append it to log.txt."""
        if self._quiet:
            return
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        with open(self.out / LOG, "a", encoding="utf-8") as log:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

    def step(self, step: int, result: StepResult, seconds: float, images: int, lr: float) -> None:
        """To be called for each step; `step` counts from 1."""
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
        """Print the line of an epoch, over its steps since the process started; returns their mean loss.

        `mean` averages over the processes; the scalars of single steps are those of process 0 alone.
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
        """Enhance a few photographs: to PNG files as `model.enhance` would, and for TensorBoard to strips.

        A strip shows input | illumination | published division | the PNG file. The tone is that of the division, which
        changes by training alone.
        """
        enhanced = []
        for name, image in images:
            illumination, reflectance = (x[0].float().cpu() for x in enhance_image(model, image, impl="plain"))
            # Another extension is kept before .png: a.jpg and a.bmp may lie in one folder.
            file = name if name.lower().endswith(".png") else f"{name}.png"
            exposed = _exposed(model, image.float()).cpu()
            self._write_sample(f"epoch_{epoch:04d}", file, exposed)
            strip = torch.cat([image[0].float().cpu(), illumination, reflectance, exposed], dim=2)
            self._log("add_image", f"samples/{name}", strip, step)
            enhanced.append(reflectance)
        self._tones = tone([image[0].cpu() for _, image in images]), tone(enhanced)
        for when, found in zip(("input", "enhanced"), self._tones, strict=True):
            self._log("add_scalar", f"samples/brightness_{when}", found.brightness, step)
            self._log("add_scalar", f"samples/color_cast_{when}", found.cast, step)

    def _write_sample(self, folder: str, file: str, image: Tensor) -> None:
        """Write a sample; one that cannot be written, as its name with .png may be too long, does not stop the run."""
        target = self.out / SAMPLES / folder / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, quantize(image, rounded=True))
        except OSError as error:
            warn(f"warning: {target}: this sample is left out ({error.strerror or error})")

    def summary(self, step: int, loss: float | None, device: str, weights: Path, official: Path) -> str:
        """The results of the run, in plain lines. They replace summary.txt only if there were steps."""
        seconds = sum(self.seconds)
        lines = [f"step {step} reached, {len(self.seconds)} steps now, {seconds:.1f} s in steps on {device}"]
        if loss is not None:
            lines.append(f"loss {self._first_loss:.6f} over the first epoch since the start, {loss:.6f} over the last")
        if self._tones:
            lines += [f"samples before: {self._tones[0]}", f"samples after:  {self._tones[1]}"]
        lines += [f"weights {weights}", f"the same for the official code {official}"]
        lines += [f"tensorboard --logdir {shlex.quote(str(self.out / TENSORBOARD))}"]
        text = "\n".join(lines) + "\n"
        if self.seconds or not (self.out / SUMMARY).exists():
            write_atomically(self.out / SUMMARY, text.encode())
        return text

    def close(self) -> None:
        """Flush and close."""
        self._bar.close()
        self._log("close")
        threading.excepthook = self._excepthook

    def _log(self, method: str, *arguments) -> None:
        """Write to TensorBoard; where that fails, say so once and go on training without it."""
        if self._board is None:
            return
        try:
            getattr(self._board, method)(*arguments)
        except OSError as error:
            self._board = None
            print(f"train: warning: the TensorBoard log of {self.out} ends here: {error}", file=sys.stderr)


def _exposed(model: nn.Module, image: Tensor) -> Tensor:
    """`(3, H, W)` as `model.enhance` would write it, by operators that are not compiled for each set of weights."""
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
    """A TensorBoard writer, or None, after printing why."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        # A run that was killed may have logged steps after its last checkpoint, which are now run again.
        return SummaryWriter(str(folder), purge_step=step + 1)
    except ImportError:
        line("TensorBoard is not installed: no scalars are written (pip install tensorboard)")
    except OSError as error:
        print(f"train: warning: no TensorBoard log in {folder}: {error}", file=sys.stderr)
    return None


def _hide_oserror(args: threading.ExceptHookArgs) -> None:
    """Print no traceback for an OSError of TensorBoard's writing thread, which also passes it to the main thread."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)
