"""A run of training: one loop over the steps."""

import json
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from model.network import save_weights

from . import checkpoint
from .config import Settings
from .data import Schedule, ahead, load, stack
from .distributed import Lost, join, leave
from .errors import TrainError
from .prepare import Run, metadata, passes, prepare, resume_command
from .reporting import SAMPLE_COUNT, LateReport, TrainingReport, preview
from .signals import Stopped, StopSignal
from .step import Graphs, StepResult, graphs_of, losses_function, training_step


def train(settings: Settings, resume: bool = False, overwrite: bool = False) -> Path:
    """Train from the beginning, or from the checkpoint in `settings.out`, to the last step.

    The weights after a given step follow from the settings, the photographs, the device and, on a CPU, the number
    of threads; interrupting and resuming the run, and the number of workers, change no bit of them.

    Args:
        settings: of a resumed run, already merged with those saved.
        resume: continue the run in `settings.out`; one that was stopped before its first checkpoint begins again.
        overwrite: delete the run in `settings.out`, once everything else has been checked.

    Started by torchrun, this is one of several processes of the run; see `train.distributed`.

    Returns:
        The weight file of this project.

    Raises:
        TrainError, model.ImageError, model.WeightsError: a mistake that the user can correct, told in one line.
        OSError: the folder cannot be written; what was saved before stays.
        Stopped: a signal arrived; the run has been saved.
        Elsewhere: of several processes, process 0 says why the run ended.
    """
    processes, device = join(settings.device)
    run = prepare(settings, resume, overwrite, processes, device)
    report = TrainingReport(run.out, run.start, run.total, quiet=not processes.first)
    try:
        _announce(run, report)
        graphs = graphs_of(settings, run.device, processes.count, run.impl, run.optimizer, report.line)
        with StopSignal(quiet=not processes.first) as stop, graphs.stream() if graphs else nullcontext():
            loss = _steps(run, report, stop, graphs)
    except Lost as lost:
        raise TrainError(f"{lost}; {run.kept()}; to resume: {resume_command(run.out, processes.count)}") from None
    finally:
        report.close()
    processes.together(_finish, run, report, loss)
    leave()
    return run.out / checkpoint.WEIGHTS


def _finish(run: Run, report: TrainingReport, loss: float | None) -> None:
    """Write the weight files and say what each is for; print the summary, then a line of JSON for programs."""
    if not run.processes.first:
        return
    weights, official = run.out / checkpoint.WEIGHTS, run.out / checkpoint.OFFICIAL
    save_weights(run.model, weights, metadata(run))
    save_weights(run.model, official)
    report.line(
        f"use {weights.name} with this project, {official.name} with the official code; "
        f"{checkpoint.CHECKPOINT} is for --resume alone"
    )
    print(report.summary(max(run.start, run.total), loss, str(run.device), weights, official), end="", flush=True)
    seconds = round(statistics.median(report.seconds), 6) if report.seconds else None
    summary = {"weights": str(weights), "step": max(run.start, run.total), "loss": loss, "seconds_a_step": seconds}
    summary |= {"device": str(run.device), "impl": run.impl, "weights_pt": str(official)}
    print(json.dumps(summary), flush=True)


def _steps(run: Run, report: TrainingReport, stop: StopSignal, graphs: Graphs | None) -> float | None:
    """Run the remaining steps; returns the mean loss of the last epoch."""
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
        late.step(step, _step_or_error(run, step, names, images, losses, graphs), names)
        epoch, place = place.epoch + 1, place.next(len(run.photos), run.batch)
        epoch_ended = place.taken == 0 or step == run.total
        stopped = processes.largest(stop.number or 0)  # a signal reaches the processes at different steps
        if epoch_ended or stopped or (settings.save_every and step % settings.save_every == 0):
            late.flush()  # raises if the step was not finite, so that nothing is saved after it
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


def _step_or_error(
    run: Run,
    step: int,
    names: list[str],
    images: torch.Tensor,
    losses: Callable[..., torch.Tensor],
    graphs: Graphs | None,
) -> StepResult:
    where = f"step {step} ({', '.join(names)})"
    try:
        return training_step(run.replica, run.criterion, run.optimizer, images, run.settings.amp, losses, graphs)
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
        planned, without = _planned(run, len(names), h, w), "--no-graph, " if graphs else ""
        raise TrainError(
            f"{where}: out of memory on {run.device} with {len(names)} x {h}x{w} (height x width); {run.kept()}; "
            f"use {without}--crop H W, a smaller --batch-size, --checkpoint block or --amp bf16 ({planned})"
        ) from None


def _planned(run: Run, batch: int, height: int, width: int) -> str:
    """The advice of the memory planner on a step that did not fit."""
    from .memory_plan import advice  # takes a while to load, and is seldom needed

    memory = torch.cuda.get_device_properties(run.device).total_memory if run.device.type == "cuda" else None
    return advice(run.settings, height, width, batch, memory)


def _announce(run: Run, report: TrainingReport) -> None:
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    kind = "fine-tuning" if run.settings.finetune else f"{run.settings.stage} stages"
    many = f" x {run.processes.count} processes" if run.processes.count > 1 else ""
    report.line(
        f"{len(run.photos)} photographs, {kind}, {parameters} parameters, {run.device}{many}, "
        f"impl {run.impl}, results in {run.out}"
    )
    if run.start >= run.total:
        report.line(f"already at step {run.start} of {run.total}; give more --epochs or --steps to go on")
    elif run.start:
        report.line(f"resuming after step {run.start} of {run.total}")
    elif run.settings.finetune:
        report.line(passes(run.settings, run.total, len(run.photos), run.batch))


def _samples(run: Run) -> list[tuple[str, torch.Tensor]]:
    return [
        (run.photos.names[index], preview(run.photos.image(index)).to(run.device))
        for index in range(min(SAMPLE_COUNT, len(run.photos)))
    ]
