"""The C kernels in forked processes, which have the memory of PyTorch's runtime but not its threads."""

import os
import sys

import pytest

from sci_kernels import native
from tests.native_runs import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.fixture(autouse=True)
def _compiler():
    if reason := native.compiler_error():
        pytest.skip(reason)


FORK = """
import os, signal, sys, threading, torch
before = "{imported}" == "before"
if before:
    from sci_kernels import native
torch.set_num_threads({threads})
torch.manual_seed(0)
x, light = torch.rand(2, 1, 3, 300, 500)
(torch.rand(1 << 20) + 1).sum()  # PyTorch has started its threads

def bits():
    from sci_kernels import native
    value, *gradients = native.loss(x, light, 0.3, "ycbcr", 1.5, 1.0, True, True)
    return [value.item(), *(gradient.numpy().tobytes() for gradient in gradients)]

def forked():
    expected = bits() if before else None
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            os._exit(0 if bits() == (expected or bits()) else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bits() == (expected or bits())

forked()
caller = threading.Thread(target=forked)
caller.start()
caller.join()
forked()
"""


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("imported", ["before", "in the child"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_forked_child_does_not_wait_for_threads_that_it_has_not(libraries, count, imported):
    """libgomp's would: it remembers threads that exist in the parent alone."""
    if imported != "before" and sys.platform != "linux":
        pytest.skip("only Linux tells that a process was forked")
    run(FORK.format(threads=count, imported=imported), libraries)


WORKERS = """
import torch
from sci_kernels import native

class Losses(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        x = torch.full((1, 3, 300, 500), 0.1 * index)
        return native.loss(x, x * x, 0.3, "ycbcr", 1.5, 1.0, False, False)[0], torch.get_num_threads()

if __name__ == "__main__":
    torch.set_num_threads(3)
    (torch.rand(1 << 20) + 1).sum()
    data = Losses()
    expected = [data[index][0].item() for index in range(4)]
    loader = torch.utils.data.DataLoader(data, num_workers=2, timeout=60, multiprocessing_context="fork")
    assert [(value.item(), threads.item()) for value, threads in loader] == [(value, 1) for value in expected]
"""


def test_workers_of_a_loader(libraries):
    run(WORKERS, libraries)
