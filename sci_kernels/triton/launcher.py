"""Launches of a compiled kernel without Triton's way to it, which takes longer than the kernels of a small image do.

`kernel[grid](...)` binds and specializes its arguments, makes text of constants and options, and looks up by that text
what was compiled before. `Launcher` goes that way once for each specialization and keeps what it returns; from then on
it calls the compiled kernel itself, as `JITFunction.run` would: with the same arguments, on the current stream.

It does so where that is known to be the same: on CUDA, with the versions of Triton that the package supports, and while
nobody watches launches or changes how kernels are compiled. Elsewhere, as where kernels are interpreted, every launch
goes the ordinary way.
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
_ALIGNMENT = 16  # bytes: Triton compiles anew for an address that is no multiple
# Where launches are replaced, as by what records them, so that they are seen there.
_run = triton.JITFunction.run
_OWN_RUN = _run if _run.__module__ == triton.JITFunction.__module__ else None


class _Compiled(NamedTuple):
    """What each launch takes from a compiled kernel."""

    run: Callable
    function: int
    packed_metadata: object


class Launcher:
    """A kernel to be launched many times: `Launcher(kernel)(programs, arguments, constants, options)`.

    Args of the constructor:
        kernel: what `triton.jit` made. Constexprs are its last parameters, and no integer is specialized.

    Args of a call, all of which the kernel gets in this order:
        programs: how many, on a grid of one dimension.
        arguments: of the parameters that are no constexprs: tensors, all on the GPU of the first one, and integers.
        constants: of the constexprs; hashable. A parameter's values differ where they mean different code: it gets
            True and False, or 1 and 0, but not both.
        options: Triton's, such as `num_warps`.
    """

    def __init__(self, kernel: triton.JITFunction):
        self._kernel = kernel
        self._compiled: dict[tuple | None, _Compiled] = {}  # under None, which stands for no key, there is nothing
        self._fits = _can_be_direct(kernel)
        parameters = [parameter for parameter in kernel.params if not parameter.is_constexpr] if self._fits else []
        # Of each argument, whether its address counts where it is a tensor, and its range where it is an integer.
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
        """Whether somebody wants to learn of launches, or has kernels compiled otherwise than usual."""
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
        """All that Triton compiles for; None where an integer is too large for the type that it usually has."""
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
    """Whether this is a kernel of a known Triton for CUDA, which compiles nothing for the value of an integer."""
    if INTERPRETED or torch.version.hip or type(kernel) is not triton.JITFunction:
        return False
    oldest, newest = (versions.release(version) for version in versions.TRITON[1:])
    if not oldest <= versions.release(triton.__version__) <= newest:
        return False
    return all(p.is_constexpr or p.do_not_specialize or p.name.endswith("_ptr") for p in kernel.params)


def _calls(hook: object) -> object:
    """What a hook would call: itself if any, or those of a chain, which is always there from Triton 3.6 on."""
    return getattr(hook, "calls", hook)
