"""What a training step dispatches, and that it does not become more."""

import pytest
import torch

from bench.networks.operator_counts import SIDE, _Count, dispatched_step, step_text
from sci_kernels import batch_norm

pytestmark = pytest.mark.usefixtures("one_thread")


def counted(call) -> tuple[int, int]:
    with _Count() as count:
        call()
    return count.operators, count.bytes


def test_each_tensor_counts_once():
    x, y = torch.rand(10), torch.rand(10)
    assert counted(lambda: x + y) == (1, 120)
    assert counted(lambda: x.add_(y)) == (1, 120)
    assert counted(lambda: x.view(2, 5).t()) == (2, 0)
    assert counted(lambda: torch.empty(10)) == (1, 0)
    assert counted(lambda: torch.cat([x, y])) == (1, 160)


def test_both_passes_of_a_gradient_count(host):
    if host == "blocked":
        pytest.skip("plain PyTorch has no such kernels")
    z, other = (torch.rand(1, 4, 5, 5).contiguous(memory_format=torch.channels_last) for _ in range(2))
    table, sums = torch.ones(4, 4), torch.zeros(3, 4)
    assert counted(lambda: batch_norm.gradient(other, z, table, sums, host, overwrite=True)) == (1, 5 * 400)
    assert counted(lambda: batch_norm.gradient(z.clone(), z, table, sums, host, other=other))[1] == 2 * 400 + 7 * 400


def test_a_step_on_a_gpu_dispatches_few_operators():
    operators, moved = dispatched_step(gpu=True)
    # Below the bounds' halves, the counting would be at fault.
    assert 140 < operators <= 280 and 10_000 < moved <= 18_700


def test_a_step_on_a_cpu_dispatches_few_operators(host):
    if host == "blocked":
        pytest.skip("plain PyTorch takes more, and is for where nothing can be compiled")
    assert 150 < dispatched_step(gpu=False).operators <= 315


def test_the_line_says_what_was_counted():
    counts, text = step_text()
    assert f"dispatches {counts['gpu']['operators']} operators on a GPU" in text and "counted, not timed" in text
    assert counts["cpu"]["bytes_a_pixel"] * SIDE > 0
