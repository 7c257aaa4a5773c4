"""Training runs on small dark photographs: processes of their own, and two runs compared bit by bit."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import ROOT


def photographs(folder: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    """Writes them, of heights and widths by name, the same ones every time."""
    folder.mkdir(exist_ok=True)
    for seed, (name, (h, w)) in enumerate(sizes.items()):
        pixels = np.random.default_rng(seed).integers(0, 80, (h, w, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def start_process(command: list[str], **variables: str) -> subprocess.Popen:
    """A process, of one thread, that is the first of a group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | variables
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, *processes: subprocess.Popen) -> None:
    """Poll until the condition holds; a process that ended first is a failure with the words of all."""
    deadline = time.monotonic() + 120
    while not condition():
        if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
            for process in processes:
                process.kill()
            pytest.fail(f"too late, or never begun: {[process.communicate() for process in processes]}")
        time.sleep(0.003)


def load_as_official(module: torch.nn.Module, path: Path) -> list[str]:
    """What the official code makes of a file: it takes the entries whose names it knows and drops the others, silently.

    Returns the names taken.
    """
    state = module.state_dict()
    taken = {name: tensor for name, tensor in torch.load(path).items() if name in state}
    module.load_state_dict(state | taken)
    return list(taken)


def assert_same_weights(out: Path, expected: Path) -> None:
    """Weights, BatchNorm statistics and the state of Adam of two finished runs."""
    assert_equal(load_file(out / "weights.safetensors"), load_file(expected / "weights.safetensors"))
    assert_equal(torch.load(out / "weights.pt", weights_only=True), load_file(out / "weights.safetensors"))
    ours, theirs = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (out, expected))
    assert ours["step"] == theirs["step"]
    assert_equal(ours["model"], theirs["model"])
    for index, state in theirs["optimizer"]["state"].items():
        assert_equal(ours["optimizer"]["state"][index], state)


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
