"""The files in the folder of a run, and the checkpoint that a resumed run continues from.

No state of a random number generator is kept: after the initial weights, the only random numbers are the order and the
crops, which follow from the seed and the step.
"""

import io
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from model.files import make_output_folder, write_atomically
from model.network import CHECKPOINT_ENTRIES, RUN_WEIGHTS

from .config import Settings
from .data import Place, place_of
from .errors import TrainError

CONFIG, CHECKPOINT, LOG = "config.json", "checkpoint.pt", "log.txt"
WEIGHTS, OFFICIAL = RUN_WEIGHTS  # the same numbers; the second for the official code
SAMPLES, TENSORBOARD, SUMMARY = "samples", "tensorboard", "summary.txt"
_FILES = (CHECKPOINT, WEIGHTS, OFFICIAL, LOG, CONFIG, SUMMARY)
_FOLDERS = (SAMPLES, TENSORBOARD)
_ENTRIES = CHECKPOINT_ENTRIES | {"place", "photographs"}


def refuse_existing_run(out: Path) -> None:
    """Raise TrainError where a new run would be mixed with an earlier one, or replace it."""
    found = [name for name in (*_FILES, *_FOLDERS) if (out / name).exists()]
    if found:
        raise TrainError(
            f"--out: expected a folder without a run; {out} holds {', '.join(found)}; use --resume to continue it, "
            "--overwrite to delete it, or another folder"
        )


def prepare_folder(out: Path, overwrite: bool) -> None:
    """Make the folder, deleting an earlier run if asked to; nothing else in it is touched."""
    make_output_folder(out)
    for leftover in out.glob(".sci-*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink()
    if overwrite:
        # The checkpoint first: a run resumed from a half-deleted folder must not find the old one.
        for name in _FILES:
            (out / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)


def refuse_to_delete(out: Path, needed: dict[str, str | None]) -> None:
    """Raise TrainError where `prepare_folder` would delete what the new run reads; `needed` has paths by flag."""
    for flag, path in needed.items():
        real = None if path is None else Path(path).resolve()
        for name in (*_FILES, *_FOLDERS):
            if real is not None and real.is_relative_to((out / name).resolve()):
                raise TrainError(
                    f"{flag}: {path} belongs to the run in {out}, which --overwrite deletes; choose another --out"
                )


def save_checkpoint(
    out: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    photographs: list[list],
    place: Place,
) -> None:
    """Write the state after `step` steps, whole or not at all. Raises OSError; the earlier checkpoint then stays."""
    buffer = io.BytesIO()
    state = {
        "step": step,
        "place": [place.epoch, place.taken],
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "settings": asdict(settings),
        "photographs": photographs,
    }
    torch.save(state, buffer)
    write_atomically(out / CHECKPOINT, buffer.getvalue())


def load_checkpoint(out: Path) -> dict | None:
    """The saved state on the CPU, or None where the run was stopped before its first checkpoint."""
    path = out / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # for a damaged archive the loader may raise nearly anything
        raise TrainError(
            f"{path}: expected a checkpoint of this trainer; it is truncated, damaged or holds something else "
            f"({type(error).__name__}); restore it from a copy, or start anew with --overwrite"
        ) from None
    if not isinstance(state, dict) or set(state) | {"place"} != _ENTRIES:  # older ones have no place
        raise TrainError(
            f"{path}: expected a checkpoint of this trainer with {', '.join(sorted(_ENTRIES))}; got something else; "
            "restore it from a copy, start anew with --overwrite, or give the file to --finetune"
        )
    return state


def restore(state: dict, out: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the saved state into model and optimizer; returns the steps done."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise TrainError(
            f"{out / CHECKPOINT}: expected the state of this run's network; got that of another ({reason[:200]}); "
            "restore it from a copy, or start anew with --overwrite"
        ) from None
    return int(state["step"])


def saved_place(state: dict, count: int, batch_size: int) -> Place:
    """How far the saved run had come in its epoch; older checkpoints, without a place, are of a single process."""
    return Place(*state["place"]) if "place" in state else place_of(int(state["step"]), count, batch_size)


def refuse_other_photographs(saved: list, found: list, folder: str) -> None:
    """Raise TrainError where the photographs are not those the run began with."""
    if saved == found:
        return
    before, now = ({name: (h, w) for name, h, w in photographs} for photographs in (saved, found))
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    first = differing[0] if differing else "their order"
    what = "is missing" if first not in now else "is new" if first not in before else "has another size"
    raise TrainError(
        f"--resume: expected the photographs the run began with; in {folder} {first} {what} "
        f"({len(differing)} differ in all); put them back, or start a new run in another --out"
    )
