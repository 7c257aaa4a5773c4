"""The run: one loop over the steps."""

import json
import platform
import shlex
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import sci_kernels
from model.files import write_atomically
from model.networks import FinetuneNetwork, Network
from model.weights import load_weights, save_weights

from . import checkpoint
from .config import Settings, from_dict, refuse_changes, to_json
from .data import Photos, Place, Schedule, ahead, load, stack
from .distributed import Lost, Processes, join, leave
from .errors import TrainError
from .late import LateReport
from .report import SAMPLE_COUNT, Report, preview
from .step import losses_function, make_optimizer, training_step
from .stop import Stopped, StopSignal


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
    place: Place  # where in an epoch `start` is
    saved: int | None  # the step of the checkpoint in `out`, if there is one
    processes: Processes
    replica: nn.Module  # what a step calls: `model`, or it among several processes

    @property
    def batch(self) -> int:
        """Photographs a step, of all processes."""
        return self.settings.batch_size * self.processes.count

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
        """What there is to go back to."""
        path = self.out / checkpoint.CHECKPOINT
        if not self.processes.first:  # process 0 may have died while it wrote
            return f"{path} keeps the last save, if there was one"
        return "nothing had been saved" if self.saved is None else f"{path} keeps step {self.saved}"


def train(settings: Settings, resume: bool = False, overwrite: bool = False) -> Path:
    """Train from the beginning, or from the checkpoint in `settings.out`, to the last step.

    The weights after a given step follow from the settings, the photographs, the device and, on a CPU, the number
    of threads; where the run was interrupted and resumed, and the number of workers, change no bit of them.

    Args:
        settings: where resuming, already merged with those saved.
        resume: continue the run in `settings.out`; one that was stopped before its first checkpoint begins again.
        overwrite: delete the run in `settings.out`, once everything else has been found in order.

    Started by torchrun, it is one of several processes of the run; see `train.distributed`.

    Returns:
        The weight file.

    Raises:
        TrainError, model.images.ImageError, model.weights.WeightsError: a mistake to be mended, told in one line.
        OSError: the folder cannot be written; what was saved before stays.
        Stopped: a signal arrived; the run has been saved.
        Elsewhere: of several processes, process 0 tells why the run ended.
    """
    processes, device = join(settings.device)
    run = prepare(settings, resume, overwrite, processes, device)
    report = Report(run.out, run.start, run.total, quiet=not processes.first)
    try:
        _announce(run, report)
        with StopSignal(quiet=not processes.first) as stop:
            loss = _steps(run, report, stop)
    except Lost as lost:
        raise TrainError(f"{lost}; {run.kept()}; to resume: {resume_command(run.out, processes.count)}") from None
    finally:
        report.close()
    processes.together(_finish, run, report, loss)
    leave()
    return run.out / checkpoint.WEIGHTS


def _finish(run: Run, report: Report, loss: float | None) -> None:
    """Write the weight file; print the summary, then the line that programs read."""
    if not run.processes.first:
        return
    weights = run.out / checkpoint.WEIGHTS
    save_weights(run.model, weights, _metadata(run))
    print(report.summary(max(run.start, run.total), loss, str(run.device), weights), end="", flush=True)
    seconds = round(statistics.median(report.seconds), 6) if report.seconds else None
    summary = {"weights": str(weights), "step": max(run.start, run.total), "loss": loss, "seconds_a_step": seconds}
    print(json.dumps(summary | {"device": str(run.device), "impl": run.settings.impl}), flush=True)


def _steps(run: Run, report: Report, stop: StopSignal) -> float | None:
    """The steps that are left; returns the mean loss of the last epoch."""
    settings, processes, place, loss = run.settings, run.processes, run.place, None
    epochs = place.epochs_after(run.total - run.start, len(run.photos), run.batch)
    share = processes.rank, processes.count
    schedule = Schedule(len(run.photos), settings.batch_size, settings.seed, run.start, run.total, run.place, *share)
    samples = _samples(run) if settings.sample_every and processes.first else []
    losses = losses_function(settings.compile, run.model, run.replica)
    late = LateReport(report, settings.lr, processes.count, run.kept)
    batches = load(run.photos, schedule, settings.workers, run.device)
    for step, batch in enumerate(batches if settings.workers else ahead(batches), run.start + 1):
        names, images = stack(batch, run.device)
        late.step(step, _step_or_error(run, step, names, images, losses), names)
        epoch, place = place.epoch + 1, place.next(len(run.photos), run.batch)
        epoch_ended = place.taken == 0 or step == run.total
        stopped = processes.largest(stop.number or 0)  # a signal reaches the processes at different steps
        if epoch_ended or stopped or (settings.save_every and step % settings.save_every == 0):
            late.flush()  # nothing is saved after a step that was not finite
            run.save(step, place)
        if epoch_ended:
            loss = report.epoch(epoch, epochs, step, run.total, processes.mean)
            if samples and (epoch in (1, epochs) or epoch % settings.sample_every == 0):
                report.samples(run.model, samples, epoch, step)
        if stopped and step < run.total:
            leave()
            command = resume_command(run.out, processes.count)
            raise Stopped(stopped, f"saved at step {step} of {run.total}; to resume: {command}")
        if epoch_ended:
            late.restart()
    return loss


def _step_or_error(run: Run, step: int, names: list[str], images: torch.Tensor, losses: Callable[..., torch.Tensor]):
    where = f"step {step} ({', '.join(names)})"
    try:
        return training_step(run.replica, run.criterion, run.optimizer, images, run.settings.amp, losses)
    except RuntimeError as error:
        run.processes.check_lost(error)
        if run.settings.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            reason = " ".join(str(error).split()).split(" Set TORCH")[0][:200]
            raise TrainError(
                f"{where}: --compile: torch.compile cannot make the step here ({reason}); {run.kept()}; go on with "
                "--resume --no-compile"
            ) from None
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        h, w = images.shape[2:]
        planned = _planned(run, len(names), h, w)
        raise TrainError(
            f"{where}: out of memory on {run.device} with {len(names)} x {h}x{w} (height x width); {run.kept()}; "
            f"use --crop H W, a smaller --batch-size, --checkpoint block or --amp bf16 ({planned})"
        ) from None


def _planned(run: Run, batch: int, height: int, width: int) -> str:
    """The planner's word on a step that did not fit."""
    from .plan import advice  # takes a while, and is needed on this day alone

    memory = torch.cuda.get_device_properties(run.device).total_memory if run.device.type == "cuda" else None
    return advice(run.settings, height, width, batch, memory)


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


def _checked(settings: Settings, resume: bool, overwrite: bool, processes: Processes, device: str) -> Run:
    out = Path(settings.out)
    if out.resolve().is_relative_to(Path(settings.data).resolve()):
        raise TrainError(
            f"--out: expected a folder outside --data, or its sample pictures would be trained on; got {out} "
            f"in {settings.data}; choose another"
        )
    if not resume and not overwrite:
        checkpoint.refuse_existing_run(out)
    device = pick_device(device)
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


def build(settings: Settings, device: torch.device, finetune: str | None):
    """Network, loss and optimizer; the initial weights are drawn on the CPU, so that every device starts alike."""
    torch.manual_seed(settings.seed)
    model = (
        FinetuneNetwork(settings.impl, settings.checkpoint)
        if settings.finetune
        else Network(settings.stage, settings.impl, settings.exact, settings.checkpoint)
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


def pick_device(name: str) -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:N, or gpu:N, which is the CPU where there is no GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("gpu:"):
        if not torch.cuda.is_available():
            warn("--gpu: there is no GPU that PyTorch can use; training on the CPU")
            return torch.device("cpu")
        name = "cuda:" + name.removeprefix("gpu:")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except Exception as error:  # what an absent device raises depends on its kind and on how PyTorch was built
        reason = " ".join(str(error).split())[:120]
        raise TrainError(
            f"--device: expected auto, cpu, cuda or cuda:N that is present; got {name} ({reason})"
        ) from None
    return device


def resume_command(out: Path, processes: int = 1) -> str:
    """The command that continues the run in `out`."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return shlex.join([sys.executable, *many, "-m", "train", "--out", str(out), "--resume"])


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"train: {text}", file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Where process 0 says the same."""


def _announce(run: Run, report: Report) -> None:
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    kind = "fine-tuning" if run.settings.finetune else f"{run.settings.stage} stages"
    many = f" x {run.processes.count} processes" if run.processes.count > 1 else ""
    report.line(
        f"{len(run.photos)} photographs, {kind}, {parameters} parameters, {run.device}{many}, "
        f"impl {run.settings.impl}, results in {run.out}"
    )
    if run.start >= run.total:
        report.line(f"already at step {run.start} of {run.total}; give more --epochs or --steps to go on")
    elif run.start:
        report.line(f"resuming after step {run.start} of {run.total}")


def _samples(run: Run) -> list[tuple[str, torch.Tensor]]:
    return [
        (run.photos.names[index], preview(run.photos.image(index)).to(run.device))
        for index in range(min(SAMPLE_COUNT, len(run.photos)))
    ]


def _versions(device: torch.device) -> dict[str, str]:
    """What a run's numbers depend on besides its settings."""
    return {
        "sci_kernels": sci_kernels.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _metadata(run: Run) -> dict[str, str]:
    """Kept inside the weight file: how it was made."""
    fixed = {name: str(value) for name, value in run.settings.fixed().items()}
    return fixed | {"step": str(max(run.start, run.total)), "photographs": str(len(run.photos))} | _versions(run.device)
