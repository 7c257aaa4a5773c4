"""What a call costs beyond its C kernels."""

import time

import pytest
import torch

import sci_kernels
from bench.compare.host_overhead import median_beyond_kernels
from bench.compare.runner import Comparison
from sci_kernels import native
from sci_kernels.native import launch_loss

pytestmark = pytest.mark.skipif(native.compiler_error() is not None, reason="needs a C compiler")


def test_kernels_are_left_out_and_launchers_put_back(monkeypatch):
    in_bands = launch_loss.in_bands

    def slow(*arguments):
        in_bands(*arguments)
        time.sleep(0.5)

    x, illumination = torch.rand(2, 1, 3, 8, 8)
    modules = [native.launch_batch_norm, native.launch_loss]
    for module in modules:
        monkeypatch.setattr(module, "in_bands", slow)
    call = lambda: (sci_kernels.smooth_loss(x, illumination), time.sleep(0.01))  # noqa: E731
    assert 0.01 <= median_beyond_kernels(call, 3) < 0.5
    assert all(module.in_bands is slow for module in modules)


def test_rows_of_native_tell_it():
    run = Comparison("cpu", ["reference", "native"], ["forward"], 3, False, float("inf"), 1e9, [], lambda: None)
    from bench.compare.cases import Case

    run.run(Case("loss", 12, 16, torch.float32, "ycbcr"))
    rows = {row["provider"]: row for row in run.rows if row["part"] == "forward"}
    assert 0 < rows["native"]["beyond_kernel_ms"] <= 2 * rows["native"]["ms"]["p80"]
    assert "beyond_kernel_ms" not in rows["reference"]
