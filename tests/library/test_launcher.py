"""Direct launches are those of Triton: rehearsed without a GPU, and on one bit for bit."""

import os
import subprocess
import sys
from unittest import mock

import pytest
import torch

from bench.versions.tried import FOLDER
from sci_kernels import illumination_loss
from tests.conftest import ROOT

FETCHED = sorted(FOLDER.glob("triton-*"))  # by `python -m bench tritons`


@pytest.mark.parametrize("place", [None, *FETCHED], ids=lambda place: place.name if place else "installed")
def test_the_driver_is_given_what_triton_gives(place):
    """In a process of its own, where nothing is interpreted."""
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [place, ROOT] if place else [ROOT]))
    command = [sys.executable, "-m", "tests.fake_gpu_launches"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "launches of" in done.stdout and (place is None or place.name[7:] in done.stdout)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_bits_on_a_gpu_and_calls_of_the_ordinary_way(dtype):
    triton = pytest.importorskip("triton")
    generator = torch.Generator("cuda").manual_seed(2)
    x, y = (torch.rand(1, 3, 40, 61, generator=generator, device="cuda").to(dtype) for _ in range(2))
    x, y = x.requires_grad_(), y.requires_grad_()

    def results() -> list[torch.Tensor]:
        loss = illumination_loss(x, y, color="ycbcr")
        return [loss.detach(), *torch.autograd.grad(loss, (x, y))]

    from sci_kernels.triton.launcher import Launcher

    with mock.patch.object(Launcher, "_watched", lambda self: True):
        expected = results()
    results()  # what is compiled for is kept
    getitem, ordinary = triton.JITFunction.__getitem__, []

    def noted(kernel, grid):
        ordinary.append(kernel)
        return getitem(kernel, grid)

    with mock.patch.object(triton.JITFunction, "__getitem__", noted):
        direct = results()
        assert torch.version.hip or not ordinary
        with mock.patch.object(Launcher, "_watched", lambda self: True):
            results()
        assert len(ordinary) >= 2
    for a, b in zip(direct, expected, strict=True):
        assert torch.equal(a, b)
