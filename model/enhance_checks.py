"""What `python -m model.enhance` checks before any work: the device, and the places of everything that it writes."""

import argparse
import os
import sys
from pathlib import Path

import torch

from .command_line import RunReport, is_report
from .enhancement import Jobs
from .files import is_same, make_output_folder
from .machine import DeviceError, device_named
from .video import VideoJob


class UsageError(Exception):
    """A mistake in the arguments that shows only when they are checked together; the message is one line."""


def check_side_files(args: argparse.Namespace, jobs: Jobs | None, videos: list[VideoJob]) -> None:
    """Raises UsageError where the report or the page would replace another file of this run, or be replaced by one."""
    for flag, path in (("--report", args.report), ("--gallery", args.gallery)):
        if path is None:
            continue
        if (jobs and jobs.reads(path)) or any(is_same(path, job.source) for job in videos):
            raise UsageError(f"{path}: is one of the inputs and would be replaced; choose another name for {flag}")
        if (jobs and jobs.writes(path)) or any(is_same(path, job.result) for job in videos):
            raise UsageError(f"{path}: is the name of a result too; choose another name for {flag}")
    if args.report is not None and args.gallery is not None and is_same(args.gallery, args.report):
        raise UsageError(f"{args.report}: is the name of both --report and --gallery; choose another for --report")


def make_report(args: argparse.Namespace) -> None:
    """Create the report. Raises UsageError where it cannot be written, or would replace an earlier one."""
    path = args.report
    if path is None:
        return
    if os.path.lexists(path) and not (args.overwrite or args.skip_existing):
        raise UsageError(
            f"{path}: exists and was left alone; use --overwrite, --skip-existing to go on with it, or another name "
            "for --report"
        )
    try:
        if os.path.exists(path) and not is_report(path):
            raise UsageError(
                f"{path}: is not the report of an earlier run and was left alone; use another name for --report"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if args.overwrite and args.shard.count == 1:  # other shards may be writing to it
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(_unwritable(path, error)) from None
    open_report(args).close()


def open_report(args: argparse.Namespace) -> RunReport:
    """The report, opened. Raises UsageError where it cannot be written."""
    try:
        return RunReport(args.report)
    except OSError as error:
        raise UsageError(_unwritable(args.report, error)) from None


def _unwritable(path: Path, error: OSError) -> str:
    return f"{path}: cannot be written ({error.strerror}); choose another place for --report"


def device_of(name: str, gpu: int | None = None, local_rank: int | None = None) -> torch.device:
    """The device to run on; for a GPU given by its number, the CPU where there is no GPU."""
    if gpu is not None and not torch.cuda.is_available():
        print("note: --gpu: there is no GPU that PyTorch can use; enhancing on the CPU", file=sys.stderr)
        return torch.device("cpu")
    flag = f"--device {name}" if gpu is None else f"--gpu {gpu}"
    try:
        device = device_named(name if gpu is None else f"cuda:{gpu}")
    except DeviceError as error:
        raise UsageError(f"{flag}: {error}; use --device cpu, or auto") from None
    if device.type == "cuda":
        if local_rank is not None and device.index is None:
            device = torch.device("cuda", local_rank % torch.cuda.device_count())
        # Convolutions would otherwise round to 10 bits, which changes the last gray level.
        torch.backends.cudnn.allow_tf32 = False
    return device


def make_folder(folder: Path) -> None:
    """Make the folder for the results. Raises UsageError where no file can be written there."""
    try:
        make_output_folder(folder)
    except OSError as error:
        reason = "it is a file" if os.path.isfile(folder) else error.strerror
        raise UsageError(f"{folder}: cannot write there ({reason}); choose another folder with -o") from None
