"""Everything that a run needs, checked and built before the first step."""

import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import sci_kernels
from model.files import write_atomically
from model.machine import device_named
from model.network import FinetuneNetwork, Network, load_weights
from sci_kernels import convolution

from . import checkpoint
from .config import Settings, from_dict, refuse_changes, to_json
from .data import Photos, Place
from .distributed import Processes
from .errors import TrainError, warn
from .step import make_optimizer


@dataclass
class Run:
    """Everything the loop needs, checked."""

    settings: Settings
    out: Path
    device: torch.device
    photos: Photos
    model: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    start: int  # steps already done
    total: int  # steps in all
    place: Place  # of `start` in its epoch
    saved: int | None  # the step of the checkpoint in `out`, if there is one
    processes: Processes
    replica: nn.Module  # what a step calls: `model`, with several processes wrapped in DistributedDataParallel

    @property
    def batch(self) -> int:
        """Photographs per step, of all processes."""
        return self.settings.batch_size * self.processes.count

    @property
    def impl(self) -> str:
        """The implementation of the operators; "auto" is resolved."""
        return sci_kernels.default_impl(self.device) if self.settings.impl == "auto" else self.settings.impl

    def save(self, step: int, place: Place) -> None:
        """Write the checkpoint of `step`; never over a good one with weights that are not finite."""
        if not self.processes.first:
            return
        if not all(torch.isfinite(tensor).all() for tensor in self.model.state_dict().values()):
            raise TrainError(
                f"step {step}: the weights are NaN or infinite; training has stopped, {self.kept()}; try a smaller --lr"
            )
        checkpoint.save_checkpoint(
            self.out, step, self.model, self.optimizer, self.settings, self.photos.identity(), place
        )
        self.saved = step

    def kept(self) -> str:
        """Which checkpoint there is to go back to, for a message."""
        path = self.out / checkpoint.CHECKPOINT
        if not self.processes.first:  # process 0 may have died while it wrote one
            return f"{path} keeps the last save, if there was one"
        return "nothing had been saved" if self.saved is None else f"{path} keeps step {self.saved}"


def prepare(settings: Settings, resume: bool, overwrite: bool, processes: Processes, device: str) -> Run:
    """Check everything, then claim the folder; until then no file of an earlier run is touched."""
    run = processes.together(_checked, settings, resume, overwrite, processes, device)
    processes.together(_claim, run, overwrite)
    run.replica = processes.wrap(run.model, run.device, settings.sync_bn)
    return run


def _claim(run: Run, overwrite: bool) -> None:
    if run.processes.first:
        checkpoint.prepare_folder(run.out, overwrite)
        versions = _versions(run.device) | {"processes": str(run.processes.count)}
        write_atomically(run.out / checkpoint.CONFIG, to_json(run.settings, versions).encode())


def _checked(settings: Settings, resume: bool, overwrite: bool, processes: Processes, device_name: str) -> Run:
    out = Path(settings.out)
    if out.resolve().is_relative_to(Path(settings.data).resolve()):
        raise TrainError(
            f"--out: expected a folder outside --data, or its sample pictures would be trained on; got {out} "
            f"in {settings.data}; choose another"
        )
    if not resume and not overwrite:
        checkpoint.refuse_existing_run(out)
    if overwrite:
        checkpoint.refuse_to_delete(out, {"--data": settings.data, "--finetune": settings.finetune})
    device = pick_device(device_name, warn if processes.first else _silent)
    state = checkpoint.load_checkpoint(out) if resume else None
    photos = Photos(settings.data, settings.crop, settings.seed, warn if processes.first else _silent)
    photos.check_batches(settings.batch_size, processes.count)
    model, criterion, optimizer = build(settings, device, settings.finetune if state is None else None)
    if settings.sync_bn:
        processes.check_sync_bn(device)
    start, place = 0, Place(0, 0)
    if state is not None:
        checkpoint.refuse_other_photographs(state["photographs"], photos.identity(), settings.data)
        refuse_changes(from_dict(state["settings"]).fixed(), settings.fixed(), str(out / checkpoint.CHECKPOINT))
        start = checkpoint.restore(state, out, model, optimizer)
        place = checkpoint.saved_place(state, len(photos), settings.batch_size)
    batch = settings.batch_size * processes.count
    total = settings.steps or start + place.steps_to(settings.epochs, len(photos), batch)
    saved = None if state is None else start
    return Run(settings, out, device, photos, model, criterion, optimizer, start, total, place, saved, processes, model)


def build(
    settings: Settings, device: torch.device, finetune: str | None
) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    """Network, loss and optimizer; the initial weights are drawn on the CPU, so that every device starts with the same.

    `finetune` names the weights to start from, if any.
    """
    if settings.convolutions == "triton" and not _has_tensor_cores(device):
        raise TrainError(
            f"--convolutions triton: expected an NVIDIA GPU from sm_80 on; got {device}; use --convolutions auto"
        )
    torch.manual_seed(settings.seed)
    options = {"checkpoint": settings.checkpoint, "convolutions": settings.convolutions}
    model = (
        FinetuneNetwork(settings.impl, **options)
        if settings.finetune
        else Network(settings.stage, settings.impl, settings.exact, **options)
    )
    if finetune:
        load_weights(model, finetune)
    model.to(device)
    criterion = sci_kernels.LossFunction(
        fidelity_weight=settings.fidelity_weight, sigma=settings.sigma, color=settings.color, impl=settings.impl
    )
    try:
        probe = torch.zeros(1, 3, 3, 3, device=device)
        criterion(probe, probe)
    except (RuntimeError, ValueError) as error:
        raise TrainError(f"--impl {settings.impl}: cannot run on {device}: {' '.join(str(error).split())}") from None
    return model, criterion, make_optimizer(model, settings.lr)


def _has_tensor_cores(device: torch.device) -> bool:
    """Whether `sci_kernels.convolution` runs there."""
    example = torch.zeros(1, 3, 3, 3, device=device)
    return convolution.takes(example, example)


def pick_device(name: str, tell: Callable[[str], None] = warn) -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:N, or gpu and gpu:N, which are the CPU if there is no GPU."""
    kind, colon, number = name.partition(":")
    if kind == "gpu":
        if not torch.cuda.is_available():
            tell(f"{'--gpu' if colon else '--cuda'}: there is no GPU that PyTorch can use; training on the CPU")
            return torch.device("cpu")
        name = f"cuda{colon}{number}"
    try:
        device = device_named(name)
        torch.zeros(1, device=device)
    except Exception as error:  # which one is raised for an unusable device depends on its kind
        reason = " ".join(str(error).split())[:120]
        raise TrainError(
            f"--device: expected auto, cpu, cuda or cuda:N that is present; got {name} ({reason})"
        ) from None
    return device


def passes(settings: Settings, total: int, count: int, batch: int) -> str:
    """How many passes the steps of a fine-tuning run are, as the official `--steps` counts passes, not steps."""
    an_epoch = -(-count // batch)
    number = f"{total / an_epoch:.2f}".rstrip("0").rstrip(".")
    unit = "pass" if number == "1" else "passes"
    number = "under 0.01" if number == "0" else f"about {number}" if 100 * total % an_epoch else number
    steps = "1 step is" if total == 1 else f"{total} steps are"
    text = f"{steps} {number} {unit} over the {count} photograph{'s' * (count != 1)}"
    if settings.steps is None:
        return text
    return (
        f"{text}; the official finetune.py counts passes in --steps: its --steps {settings.steps} is "
        f"--epochs {settings.steps} here"
    )


def resume_command(out: Path, processes: int = 1) -> str:
    """The command that continues the run in `out`."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return shlex.join([sys.executable, *many, "-m", "train", "--out", str(out), "--resume"])


def _silent(text: str) -> None:
    """Prints nothing, as process 0 prints the same."""


def _versions(device: torch.device) -> dict[str, str]:
    """What the numbers of a run depend on in addition to its settings."""
    return {
        "sci_kernels": sci_kernels.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def metadata(run: Run) -> dict[str, str]:
    """How the weights were made, to be kept inside the weight file."""
    fixed = {name: str(value) for name, value in run.settings.fixed().items()}
    return fixed | {"step": str(max(run.start, run.total)), "photographs": str(len(run.photos))} | _versions(run.device)
