"""The time of a native operator's call outside its C kernels: checks, dispatch, autograd, launch."""

import contextlib
import importlib
import pkgutil
import statistics
import time
import unittest.mock
from collections.abc import Callable, Iterator

from sci_kernels import native


def median_beyond_kernels(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of `call()`, less those of the C kernels that it runs (with their threads)."""
    beyond = []
    with _kernel_seconds() as spent:
        for _ in range(repeats):
            before, start = sum(spent), time.perf_counter()
            call()
            beyond.append(time.perf_counter() - start - (sum(spent) - before))
    return statistics.median(beyond)


@contextlib.contextmanager
def _kernel_seconds() -> Iterator[list[float]]:
    """Within this context, each launch of a C kernel appends its seconds to the list."""
    spent: list[float] = []
    names = [module.name for module in pkgutil.iter_modules(native.__path__) if module.name.startswith("launch_")]
    launchers = [importlib.import_module(f"{native.__name__}.{name}") for name in names]
    in_bands = launchers[0].in_bands

    def timed(*arguments: object) -> None:
        start = time.perf_counter()
        in_bands(*arguments)
        spent.append(time.perf_counter() - start)

    with contextlib.ExitStack() as stack:
        for launcher in launchers:
            stack.enter_context(unittest.mock.patch.object(launcher, "in_bands", timed))
        yield spent
