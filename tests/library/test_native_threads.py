"""The C kernels on PyTorch's own threads: which, how many, and what they never change."""

import ctypes
import functools
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sci_kernels import batch_norm, native
from sci_kernels.native import threads
from tests.native_runs import run, threads_alive, threads_of

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux names them")
RUNTIMES = ("openmp", "python")


@pytest.fixture(autouse=True)
def _compiler():
    if reason := native.compiler_error():
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def openmp():
    if not threads._openmp():
        pytest.skip("this PyTorch does without OpenMP, or hides it")


@pytest.fixture(params=RUNTIMES)
def runtime(request, monkeypatch):
    """On PyTorch's threads, and on those of Python."""
    if request.param == "python":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    else:
        request.getfixturevalue("openmp")


def loss(dtype=torch.float32) -> list[torch.Tensor]:
    x, light = draw(2, 2, 3, 37, 41, dtype=dtype)
    results = [native.loss(x, light, 0.3, color, 1.5, 1.0, True, True) for color in ("reference", "ycbcr")]
    value, _, alone = native.loss(x, light, 0.3, "rgb", 1.5, 1.0, False, True)
    return [*results[0], *results[1], value, alone]


def retinex(dtype=torch.float32) -> list[torch.Tensor]:
    pictures = draw(5, 2, 3, 37, 41, dtype=dtype)
    return [*native.retinex(*pictures[:3]), *native.retinex_gradient(*pictures)]


def enhance() -> list[torch.Tensor]:
    (x,) = draw(1, 2, 3, 37, 41)
    weights = draw(3, 3, 28, dtype=torch.float64) - 0.5
    exposed = native.enhance(x, weights, True, torch.tensor([0.0, 7.0]), True)
    return [*native.enhance(x, weights, True)[:2], *exposed, native.enhance((255 * x).byte(), weights, False)[0]]


def denoise() -> list[torch.Tensor]:
    (x,) = draw(1, 2, 3, 37, 41)
    gain = 1 + 3 * draw(2, 1, 37, 41)
    return [native.denoise(x, gain, 1.0), native.denoise((255 * x).byte(), gain, 1.0)]


def exposure() -> list[torch.Tensor]:
    x, light = draw(2, 9, 3, 11, 13)
    return [native.find_exposure(0.2 * x, x + light, 0.4, 0.5)]


def normalized() -> list[torch.Tensor]:
    z, residual, grad = draw(3, 2, 5, 97, 41).clone(memory_format=torch.preserve_format)
    z, residual, grad = (x.contiguous(memory_format=torch.channels_last) for x in (z, residual, grad))
    gamma, beta = draw(2, 5) + 0.5
    table = batch_norm.statistics(z, gamma, beta, 1e-5, "native")
    y = batch_norm.forward([z, grad], [table, table], "native", residual)
    sums = torch.zeros_like(table)
    grad_z = batch_norm.gradient(grad, z, table, sums, "native", other=residual)
    return [table, y, grad_z, sums, batch_norm.channel_sums(z, "native")]


def draw(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape)))


in_double = [functools.partial(kernel, torch.float64) for kernel in (loss, retinex)]
KERNELS = {kernel.__name__: kernel for kernel in (loss, retinex, enhance, denoise, exposure, normalized)}
KERNELS |= {f"{partial.func.__name__} in double": partial for partial in in_double}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_number_of_threads_changes_no_bit(kernel, runtime, monkeypatch):
    monkeypatch.setattr(threads, "_MIN_ELEMENTS", 1)  # small pictures are cut as large ones
    torch.set_num_threads(1)
    expected = kernel()
    assert not any(tensor.isnan().any() for tensor in expected)
    for count in (2, 3, 5, 8):
        torch.set_num_threads(count)
        assert all(torch.equal(a, b) for a, b in zip(kernel(), expected, strict=True)), count


@LINUX
def test_as_many_threads_as_pytorch_has_at_the_moment(runtime):
    for count in (2, 3, 1, 5, 2):
        torch.set_num_threads(count)
        rows = 4 * count
        assert len(set(threads_of(count, together=count))) == count
        assert len(set(threads_of(rows))) <= count
        with ThreadPoolExecutor(1) as pool:
            assert len(set(pool.submit(threads_of, count, together=count).result())) == count


def test_few_rows_or_small_ones_take_fewer_bands(monkeypatch):
    torch.set_num_threads(5)
    assert len(set(threads_of(1))) == 1
    monkeypatch.setattr(threads, "_MIN_ELEMENTS", 1 << 40)
    assert len(set(threads_of(7))) == 1


@LINUX
def test_they_are_the_threads_of_pytorch(openmp):
    """Those that PyTorch's own loops have started, as long as their number stays."""
    torch.set_num_threads(3)
    torch.rand(1 << 20).add(1)
    alive = threads_alive()
    for _ in range(200):
        threads_of(2)
        assert set(threads_of(3, together=3)) <= alive
    assert threads_alive() == alive


@LINUX
def test_no_call_leaves_a_thread_behind(runtime):
    torch.set_num_threads(3)
    threads_of(3, together=3)
    alive = len(threads_alive())
    for _ in range(200):
        threads_of(3)
    deadline = time.monotonic() + 20
    while len(threads_alive()) > alive:  # a thread that was joined is gone a moment later
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("failing", [0, 6, None])
def test_a_row_that_fails_in_any_thread_is_told(runtime, failing):
    torch.set_num_threads(3)
    if failing is None:
        threads_of(7)
    else:
        with pytest.raises(MemoryError):
            threads_of(7, failing=failing)


def test_several_python_threads_at_once(runtime, monkeypatch):
    monkeypatch.setattr(threads, "_MIN_ELEMENTS", 1)
    torch.set_num_threads(3)
    expected = [*loss(), *enhance()]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: [*loss(), *enhance()], range(40)):
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@LINUX
def test_within_a_parallel_region_each_thread_runs_its_own_call(openmp):
    """Even where regions may be nested, as in PyTorch."""
    torch.set_num_threads(3)
    runtime, seen = ctypes.CDLL(torch._C.__file__, mode=os.RTLD_NOLOAD), []
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: seen.append(threads_of(6, pause=10)))
    levels = runtime.omp_get_max_active_levels()
    runtime.omp_set_nested(1)  # of which older versions of OpenMP make it depend
    runtime.omp_set_max_active_levels(2)
    runtime.GOMP_parallel(region, None, 3, 0)
    runtime.omp_set_nested(0)
    runtime.omp_set_max_active_levels(levels)
    assert [len(set(threads)) for threads in seen] == [1, 1, 1]
    assert len({threads[0] for threads in seen}) == 3


@pytest.mark.parametrize("flush", [False, True])
def test_numbers_below_the_normal_ones_are_as_the_caller_wants_them(runtime, flush):
    """Threads that were started before keep their own way, which no band may show."""
    torch.set_num_threads(4)
    x = torch.full((1, 3, 700, 700), 1e-40)
    native.retinex(x, 1 + x, x)
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor cannot")
    try:
        assert torch.equal(native.retinex(x, 1 + x, x)[1] == 0, torch.full(x.shape, flush))
    finally:
        torch.set_flush_denormal(False)
    assert (native.retinex(x, 1 + x, x)[1] > 0).all()


def test_another_runtime_is_not_taken_for_that_of_pytorch():
    class Other:
        count = torch.get_num_threads()

        def omp_get_max_threads(self):
            return self.count

        def omp_set_num_threads(self, count):
            self.count = count

    other, before = Other(), torch.get_num_threads()
    assert not threads._is_that_of_pytorch(other)
    assert other.count == torch.get_num_threads() == before


def test_looking_for_the_runtime_changes_no_number_of_threads(openmp):
    torch.set_num_threads(3)
    threads._openmp.cache_clear()
    assert threads._openmp() and torch.get_num_threads() == 3
    torch.set_num_threads(1)
    threads._openmp.cache_clear()
    assert threads._openmp() and torch.get_num_threads() == 1


COUNTED = """
import os, torch
from tests.native_runs import threads_alive, threads_of
from sci_kernels import native
seen = threads_of(6)
torch.manual_seed(0)
x, light = torch.rand(2, 1, 3, 300, 500)
value, *gradients = native.loss(x, light, 0.3, "ycbcr", 1.5, 1.0, True, True)
bits = [value.item().hex(), *(g.numpy().tobytes() for g in gradients)]
print(len(set(seen)), hash(tuple(bits)))
"""


@pytest.mark.quick(every=2)
@LINUX
def test_the_environment_is_obeyed(libraries):
    """One thread, a number that is none, and fewer threads than asked for: the same bits, and every row once."""
    cases = [{"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "0"}, {"OMP_NUM_THREADS": "5", "OMP_THREAD_LIMIT": "2"}]
    printed = [run(COUNTED, libraries, PYTHONHASHSEED="0", **case)[-1].split() for case in cases]
    assert len({bits for _, bits in printed}) == 1
    assert printed[0][0] == "1" and int(printed[2][0]) <= 2


def test_an_interrupted_call_keeps_what_its_threads_write_to(monkeypatch):
    """PyTorch's threads end before Python sees an interrupt. Any other holds the problem, which holds the tensors."""
    problems = []
    real = threads.Thread

    class Thread(real):
        def __init__(self, target, args):
            problems.append(target.__closure__)
            super().__init__(target=target, args=args)

    x = torch.rand(1, 3, 300, 300)
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    monkeypatch.setattr(threads, "Thread", Thread)
    native.loss(x, x, 0.3, "rgb", 0.0, 1.0, True, True)
    (closure,) = problems
    assert any(len(getattr(cell.cell_contents, "tensors", ())) == 5 for cell in closure)


INTERRUPTED = """
import signal, threading, time, torch
from sci_kernels.native import threads
from tests.native_runs import threads_of
assert threads._openmp()
torch.set_num_threads(3)
threads_of(3)
start = time.monotonic()
try:
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    threads_of(6, pause=1000)
    time.sleep(20)  # Python may see the interrupt some instructions later
except KeyboardInterrupt:
    print(time.monotonic() - start >= 2)
"""


def test_an_interrupt_waits_for_the_threads(openmp, libraries):
    assert run(INTERRUPTED, libraries) == ["True"]
