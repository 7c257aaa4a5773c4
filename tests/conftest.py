"""Golden vectors and the optional folder of official photographs and weights."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"
OFFICIAL = Path(os.environ.get("SCI_OFFICIAL", ROOT.parent / "shared" / "sci-official"))


def load_golden(name: str) -> dict[str, torch.Tensor]:
    """The arrays of one golden file as tensors."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key].copy()) for key in arrays.files}


@pytest.fixture
def golden():
    return load_golden


@pytest.fixture(scope="session")
def official() -> Path:
    """The folder of official weights, photographs and published outputs, or a skip that says so."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"official photographs and weights not found at {OFFICIAL}; set SCI_OFFICIAL to their folder")
    return OFFICIAL
