"""What a call of an operator does in Python, counted: time would depend on the machine."""

import sys

import pytest
import torch

import sci_kernels


def functions_called(call) -> int:
    """Of Python and C alike, of the second call: the first one prepares."""
    call()
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture(autouse=True)
def native(one_thread):
    if (reason := sci_kernels.native.compiler_error()) is not None:
        pytest.skip(reason)


def test_of_the_loss_and_its_gradients():
    x, y = (torch.rand(1, 3, 16, 16).requires_grad_() for _ in range(2))
    count = functions_called(lambda: torch.autograd.grad(sci_kernels.smooth_loss(x, y), (x, y)))
    assert 50 < count < 220


def test_of_enhance():
    weights = sci_kernels.EnhanceWeights.pack(*[(torch.rand(3, 3, 3, 3), torch.rand(3)) for _ in range(3)])
    image = torch.rand(1, 3, 16, 16)
    assert 30 < functions_called(lambda: sci_kernels.enhance(image, weights)) < 80
