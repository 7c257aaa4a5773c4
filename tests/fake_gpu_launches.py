"""Launches of all kernels on a GPU that is not there: what the driver would be given, directly and by Triton's own way.

    python -m tests.fake_gpu_launches   in a process where nothing is interpreted; `PYTHONPATH` may name another Triton

Real are the launchers, Triton's JIT up to the compiler, and what a compiled kernel does when it is launched. The
compiler and the driver are stand-ins: every kernel compiled has a number of its own, and the driver writes down what it
is given.
"""

import concurrent.futures
import contextlib
import types
import unittest.mock
from collections.abc import Callable, Iterator

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel

from sci_kernels import triton as launchers
from sci_kernels.enhance_weights import CHANNELS, LAYERS, TAPS
from sci_kernels.triton import launcher

TARGET = GPUTarget("cuda", 90, 32)


class Driver:
    """Stands for Triton's driver of CUDA: `launches` are what it was given, `compiled` the kernels there would be."""

    def __init__(self):
        self.launches: list[tuple] = []
        self.compiled: list[CompiledKernel] = []
        self.stream = 7
        self.utils = types.SimpleNamespace(
            load_binary=lambda name, kernel, shared, device: (object(), kernel, 0, 0, 1024),
            get_device_properties=lambda device: {"max_shared_mem": 1 << 16},
            unload_module=lambda module: None,
        )

    def get_current_device(self) -> int:
        return -1  # what tensors on a CPU say of theirs

    def get_current_stream(self, device: int) -> int:
        return self.stream

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def launcher_cls(self, source, metadata) -> Callable:
        return lambda *given: self.launches.append(given)

    def compile(self, source, target=None, options=None, **_) -> CompiledKernel:
        made = CompiledKernel.__new__(CompiledKernel)
        metadata = types.SimpleNamespace(shared=0, num_warps=options["num_warps"], target=target, warp_size=32)
        made.__dict__ |= {"src": source, "metadata": metadata, "packed_metadata": (options["num_warps"], len(options))}
        made.__dict__ |= {"name": source.fn.__name__, "kernel": len(self.compiled), "hash": "", "metadata_group": {}}
        made.module = made.function = made._run = made._module_pid = None
        self.compiled.append(made)
        return made


@contextlib.contextmanager
def rehearsal() -> Iterator[Driver]:
    """While entered, CPU tensors pass for those of a GPU. Its driver, which is returned, stays: kernels outlive it."""
    driver = Driver()
    triton.runtime.driver.set_active(driver)
    with (
        unittest.mock.patch.object(triton.compiler, "compile", driver.compile),
        unittest.mock.patch.object(torch.Tensor, "is_cuda", property(lambda tensor: True)),
        unittest.mock.patch.object(torch.cuda, "get_device_capability", lambda device=None: (9, 0)),
    ):
        yield driver


@triton.jit(do_not_specialize=["free_ptr", "count", "wide"])
def _probe_kernel(x_ptr, y_ptr, free_ptr, count, wide: triton.language.int64, FLAG: triton.language.constexpr):
    pass


PROBE = launcher.Launcher(_probe_kernel)
Case = tuple[str, Callable[..., object], tuple]


def probes() -> Iterator[Case]:
    """Each differs from the first in one thing that Triton may compile for."""
    x = torch.zeros(64)
    plain = {"x": x, "y": x, "free": x, "count": 5, "wide": 5, "flag": False, "warps": 4}
    for name, value in (
        ("x", x), ("x", x[1:]), ("y", x[1:]), ("free", x[1:]), ("x", x[4:]), ("x", x[:0]), ("x", x.half()),
        ("y", x.double()), ("free", x.byte()), ("count", 1), ("count", 16), ("count", -(2**31)), ("count", 2**31),
        ("count", 2**63), ("wide", 2**40), ("wide", 1), ("wide", 16), ("flag", True), ("warps", 8),
    ):  # fmt: skip
        yield f"probe {name}", probe, tuple((plain | {name: value}).values())


def probe(x, y, free, count, wide, flag, warps) -> None:
    PROBE(3, (x, y, free, count, wide), (flag,), {"num_warps": warps, "enable_fp_fusion": True})


def cases() -> Iterator[Case]:
    """Launches of every kernel, in dtypes and shapes that are compiled for, and in others."""
    yield from probes()
    one = torch.ones(())
    for dtype in (torch.float32, torch.float64, torch.float16):
        for width in (16, 15):
            x, y, z = (torch.zeros(1, 3, 16, width, dtype=dtype) for _ in range(3))
            numbers = torch.float64 if dtype == torch.float64 else torch.float32
            for color in ("reference", "ycbcr", "rgb"):
                for fidelity in (0.0, 1.5):
                    weights = (0.2, color, fidelity, 1.0)
                    yield "forward", launchers.launch_loss_forward, (x, y, *weights)
                    for needed in ((True, True), (True, False), (False, True)):
                        yield "backward", launchers.launch_loss_backward, (one.to(numbers), x, y, *weights, *needed)
            yield "mixed", launchers.launch_loss_forward, (x, y.float(), 0.1, "rgb", 0.0, 1.0)
            for sigmoid in (False, True):
                yield "retinex", launchers.launch_retinex_forward, (x, y, z, dtype, sigmoid)
                yield "retinex", launchers.launch_retinex_backward, (x, y, z, x, y, dtype, sigmoid)
            for image in (x, x.to(torch.uint8)):
                for packed in ((0.25,) * (LAYERS * CHANNELS * (TAPS + 1)), tuple(map(float, range(252)))):
                    yield "enhance", launchers.launch_enhance, (image, packed, True)
                    yield "exposed", launchers.launch_enhance, (image, packed, False, torch.ones(1), 0.5, True)
                yield "denoise", launchers.launch_denoise, (image, x[:, :1].to(numbers), 2.0)
            yield "exposure", launchers.launch_exposure, (x.to(numbers), y.to(numbers), 0.4, 0.5)
            yield from network_cases(x, y, z, torch.ones(4, 3, dtype=numbers))


def network_cases(x: Tensor, y: Tensor, z: Tensor, table: Tensor) -> Iterator[Case]:
    """What drives its own backward: BatchNorm with all that it may be given, and convolutions."""
    one = table[0]
    for given in ((one, one, one, torch.tensor(1), 0.1, 1e-5), (None, None, None, None, 0.0, 1e-5)):
        yield "table", launchers.launch_batch_norm_statistics, (x, one, one, *given)
    for sources, residual, plain in (([x], None, True), ([x, y], z, False), ([x] * 4, z, True)):
        yield "sum", launchers.launch_batch_norm_relu, (sources, [table] * (len(sources) - plain), residual, plain)
    for other in (None, y):
        yield "gradient", launchers.launch_batch_norm_relu_gradient, (z, x, other, y, table, table)
    if x.dtype != torch.float64:
        weight = torch.zeros(5, 3, 3, 3, dtype=x.dtype)
        for bias in (None, weight[:, 0, 0, 0].contiguous()):
            yield "convolution", launchers.launch_convolution, (x, weight, bias, "tf32")
        yield (
            "its gradient",
            launchers.launch_convolution_input_gradient,
            (x, weight.transpose(0, 1).contiguous(), "tf32x3"),
        )
        yield "its weights", launchers.launch_convolution_weight_gradient, (x, y, "tf32x3")


def launches_of(driver: Driver, function: Callable, arguments: tuple, ordinary: bool = False) -> list[tuple]:
    """What the driver is given by a call, in a form that compares; all of it by Triton's own way if `ordinary`."""
    driver.launches.clear()
    if ordinary:
        with unittest.mock.patch.object(launcher.Launcher, "_watched", lambda self: True):
            function(*arguments)
    else:
        function(*arguments)
    known = {argument.data_ptr() for argument in arguments if isinstance(argument, torch.Tensor)}
    return [tuple(_comparable(one, known) for one in given) for given in driver.launches]


def _comparable(given: object, known: set[int]) -> object:
    """Tensors that were made in the call have other addresses in the next; a chain without hooks is none."""
    if isinstance(given, torch.Tensor):
        return given.dtype, given.shape, given.stride(), given.data_ptr() if given.data_ptr() in known else "made"
    if type(given).__name__ in ("HookChain", "LazyDict"):
        return given.calls or None if hasattr(given, "calls") else None
    return given


@contextlib.contextmanager
def ordinary_launches() -> Iterator[list]:
    """The kernels that are launched by Triton's own way, one by one."""
    seen, getitem = [], triton.JITFunction.__getitem__

    def noted(kernel, grid):
        seen.append(kernel)
        return getitem(kernel, grid)

    with unittest.mock.patch.object(triton.JITFunction, "__getitem__", noted):
        yield seen


def rehearse_all(driver: Driver) -> int:
    """Every case by both ways, in the order of a first and in the opposite one of a second time; how many launches."""
    every = list(cases())
    for _, function, arguments in every:
        function(*arguments)
    count = 0
    for name, function, arguments in reversed(every):
        with ordinary_launches() as seen:
            direct = launches_of(driver, function, arguments)
        too_large = any(type(argument) is int and argument >= 2**31 for argument in arguments[:4])
        assert bool(seen) == too_large, name
        assert direct and direct == launches_of(driver, function, arguments, ordinary=True), name
        count += len(direct)
    assert len({kernel.kernel for kernel in driver.compiled}) == len(driver.compiled) > 100
    return count


def rehearse_streams_and_threads(driver: Driver) -> None:
    name, function, arguments = next(probes())
    driver.stream = 9
    with ordinary_launches() as seen:
        (given,) = launches_of(driver, function, arguments)
        assert given[:4] == (3, 1, 1, 9) and not seen
        driver.launches.clear()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: function(*arguments), range(400)))
        assert len(driver.launches) == 400 and len({given[4] for given in driver.launches}) == 1 and not seen


def rehearse_watchers(driver: Driver) -> None:
    """Whoever wants to know of a launch does, and gets what Triton gives."""
    _, function, arguments = next(probes())
    runtime, hook = triton.knobs.runtime, lambda *_, **options: None
    with ordinary_launches() as seen:
        for name in ("launch_enter_hook", "launch_exit_hook"):
            before = getattr(runtime, name)
            before.add(hook) if hasattr(before, "add") else setattr(runtime, name, hook)
            (given,) = launches_of(driver, function, arguments)
            assert hook in (given[7], given[8]) or [hook] in given[7:9]
            before.remove(hook) if hasattr(before, "remove") else setattr(runtime, name, before)
        _probe_kernel.pre_run_hooks.append(hook)
        assert launches_of(driver, function, arguments)
        _probe_kernel.pre_run_hooks.clear()
        compiled = len(driver.compiled)
        runtime.debug = True
        assert launches_of(driver, function, arguments) and len(driver.compiled) == compiled + 1
        runtime.debug = False
        assert len(seen) == 4
        assert launches_of(driver, function, arguments) and len(seen) == 4
    with unittest.mock.patch.object(triton.JITFunction, "run", lambda *_, **options: seen.append(options)):
        assert not launches_of(driver, function, arguments) and seen[4]["grid"] == (3,)


def main() -> None:
    with rehearsal() as driver:
        count = rehearse_all(driver)
        rehearse_streams_and_threads(driver)
        rehearse_watchers(driver)
    print(f"Triton {triton.__version__}: {count} launches of {len(driver.compiled)} kernels as by JITFunction.run")


if __name__ == "__main__":
    main()
