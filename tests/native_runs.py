"""The C kernels in processes of their own, and a kernel that notes the threads it runs on."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from sci_kernels.native import build, threads

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 1 << 20  # elements of a row, enough for a band

WHAT_RUNS = """
import sys, torch, sci_kernels
x = torch.rand(1, 3, 6, 6)
print(sci_kernels.default_impl("cpu"), float(sci_kernels.smooth_loss(x, 1 - x)) > 0)
try:
    sci_kernels.smooth_loss(x, x, impl="native")
except RuntimeError as error:
    print(error)
"""
THE_LOSS = """
import torch
from sci_kernels import blocked, native
torch.manual_seed(0)
arguments = (*torch.rand(2, 1, 3, 9, 41), 0.2, "ycbcr", 1.5, 1.0, True, True)
assert native.compiler_error() is None
for a, b in zip(native.loss(*arguments), blocked.loss(*arguments), strict=True):
    assert (a - b).abs().max() <= 5e-6 * b.abs().max()
"""


class _Problem(ctypes.Structure):
    """As in `probe.c`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("threads", "times")),
        *((name, ctypes.c_int64) for name in ("begun", "together", "failing", "pause")),
    ]


def run(code: str, folder: Path, **environment: str) -> list[str]:
    """Lines printed by a new process whose cache is in this folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=_environment(folder, environment),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _environment(folder: Path, more: dict[str, str]) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("CC", "SCI_KERNELS_CFLAGS")}
    return clean | {"XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder)} | more


# Of what is run it imports PyTorch alone, and computes nothing: each child is as a new process but for that import,
# which takes longer than all else.
PARENT = """
import json, os, sys, tempfile, traceback
import torch
for line in sys.stdin:
    code, environment, said, errors = json.loads(line)
    child = os.fork()
    if not child:
        status = 1
        try:
            for path, number in ((said, 1), (errors, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.environ.clear()
            os.environ.update(environment)
            tempfile.tempdir = None  # perhaps found already
            exec(code, {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forked:
    """`run` in children of one process, one after another. What is read as PyTorch is loaded cannot be chosen."""

    def __init__(self, folder: Path):
        self.said, self.errors = folder / "said", folder / "errors"
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, code: str, folder: Path, **environment: str) -> list[str]:
        task = code, _environment(folder, environment), str(self.said), str(self.errors)
        self.parent.stdin.write(json.dumps(task) + "\n")
        self.parent.stdin.flush()
        status = self.parent.stdout.readline()
        assert status == "0\n", self.errors.read_text()
        return self.said.read_text().splitlines()

    def close(self) -> None:
        self.parent.stdin.close()
        self.parent.wait(timeout=60)


def threads_of(rows: int, together: int = 0, failing: int = -1, pause: int = 0) -> list[int]:
    """The thread that ran each row, each row once; all rows are begun before `together` of them end."""
    seen, times = torch.zeros(2, rows, dtype=torch.int64)
    problem = _Problem(seen.data_ptr(), times.data_ptr(), 0, together, failing, pause)
    problem.tensors = (seen, times)
    threads.in_bands(build.library(str(ROOT / "tests" / "probe.c")).note, problem, rows, WIDTH)
    assert times.tolist() == [1] * rows
    return seen.tolist()


def threads_alive() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}
