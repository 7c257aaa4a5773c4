"""Launches of compiled kernels without the overhead of Triton's own, which exceeds the kernels' time on a small image.

`kernel[grid](...)` binds and specializes its arguments, formats constants and options as text, and looks up the
compiled kernel by that text. `Launcher` does so once for each specialization and keeps the compiled kernel; from then
on it calls that itself, as `JITFunction.run` would: with the same arguments, on the current stream.

It does so only where that is known to be equivalent: on CUDA, with the versions of Triton that the package supports,
and while no hook watches launches or changes how kernels are compiled. Otherwise, for example when kernels are
interpreted, every launch goes the ordinary way.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton.compiler import CompiledKernel

from .. import versions
from .config import INTERPRETED

_INT32 = range(-(2**31), 2**31)
_ALIGNMENT = 16  # bytes: Triton compiles another kernel for an address that is not a multiple of it
# Where somebody replaces JITFunction.run, for example to record launches, that replacement is to be called.
_run = triton.JITFunction.run
_OWN_RUN = _run if _run.__module__ == triton.JITFunction.__module__ else None


class _Compiled(NamedTuple):
    """What a launch needs of a compiled kernel."""

    run: Callable
    function: int
    packed_metadata: object


class Launcher:
    """A kernel that is launched many times: `Launcher(kernel)(programs, arguments, constants, options)`.

    Args of the constructor:
        kernel: the result of `triton.jit`. Its constexprs come last, and none of its integers is specialized.

    Args of a call:
        programs: the size of the one-dimensional grid.
        arguments: for the parameters that are not constexprs, in order: tensors, all on the device of the first one,
            and integers.
        constants: for the constexprs, in order; hashable. As they are compared with ==, one parameter must not get
            both True and 1, or both False and 0.
        options: Triton's, such as `num_warps`.
    """

    def __init__(self, kernel: triton.JITFunction):
        self._kernel = kernel
        self._compiled: dict[tuple | None, _Compiled] = {}  # never has the key None, which stands for no key
        self._fits = _can_be_direct(kernel)
        parameters = [parameter for parameter in kernel.params if not parameter.is_constexpr] if self._fits else []
        # For each argument: whether the alignment of its address matters, if it is a tensor, and whether its size does,
        # if it is an integer.
        self._facts = [(not parameter.do_not_specialize, not parameter.annotation_type) for parameter in parameters]

    def __call__(
        self, programs: int, arguments: tuple[Tensor | int, ...], constants: tuple, options: Mapping[str, object]
    ) -> None:
        key = self._key(arguments, constants, options) if self._fits and not self._watched() else None
        compiled = self._compiled.get(key)
        if compiled is not None:
            _launch(compiled, programs, arguments, constants)
            return
        with torch.cuda.device_of(arguments[0]):
            made = self._kernel[(programs,)](*arguments, *constants, **options)
        if key is not None and type(made) is CompiledKernel:
            self._compiled[key] = _Compiled(made.run, made.function, made.packed_metadata)

    def _watched(self) -> bool:
        """Whether a hook watches launches, or a setting changes how kernels are compiled."""
        runtime, compilation = triton.knobs.runtime, triton.knobs.compilation
        return bool(
            type(self._kernel).run is not _OWN_RUN
            or self._kernel.pre_run_hooks
            or _calls(runtime.launch_enter_hook)
            or _calls(runtime.launch_exit_hook)
            or runtime.debug
            or getattr(runtime, "add_stages_inspection_hook", None)  # from 3.6 on, like the next
            or getattr(compilation, "instrumentation_mode", "")
            or getattr(compilation, "fpsan_homomorphic_casts", False)  # from 3.9 on
        )

    def _key(self, arguments: tuple, constants: tuple, options: Mapping[str, object]) -> tuple | None:
        """Everything that Triton specializes on; None if an integer does not fit in 32 bits."""
        key = [arguments[0].get_device(), constants, *options.items()]
        for argument, (addressed, ranged) in zip(arguments, self._facts, strict=True):
            if isinstance(argument, Tensor):
                key.append(argument.dtype)
                key.append(addressed and argument.data_ptr() % _ALIGNMENT == 0)
            elif ranged and argument not in _INT32:
                return None
        return tuple(key)


def _launch(compiled: _Compiled, programs: int, arguments: tuple, constants: tuple) -> None:
    device, driver = arguments[0].get_device(), triton.runtime.driver.active
    if device != driver.get_current_device():
        with torch.cuda.device(device):
            _launch(compiled, programs, arguments, constants)
        return
    stream = driver.get_current_stream(device)
    metadata = enter_hook = exit_hook = None  # nobody watches
    compiled.run(
        programs, 1, 1, stream, compiled.function, compiled.packed_metadata, metadata, enter_hook, exit_hook,
        *arguments, *constants,
    )  # fmt: skip


def _can_be_direct(kernel: triton.JITFunction) -> bool:
    """Whether this is a kernel for CUDA by a supported Triton, and none of its integers is specialized."""
    if INTERPRETED or torch.version.hip or type(kernel) is not triton.JITFunction:
        return False
    oldest, newest = (versions.release(version) for version in versions.TRITON[1:])
    if not oldest <= versions.release(triton.__version__) <= newest:
        return False
    return all(p.is_constexpr or p.do_not_specialize or p.name.endswith("_ptr") for p in kernel.params)


def _calls(hook: object) -> object:
    """What a hook would call: itself, or the members of a chain, which from Triton 3.6 on always exists."""
    return getattr(hook, "calls", hook)
