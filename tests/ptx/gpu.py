"""A GPU that is not there: launches of Triton kernels on CPU tensors, compiled for it and executed from their PTX.

    with Gpu("sm_90"):
        launch_loss_forward(x, y, ...)      # x, y on the CPU, taken for CUDA tensors

Real are the launchers and Triton's JIT: how it binds arguments, what it specialises by value and alignment, options,
all passes down to PTX. Stand-ins are the capability, `is_cuda` and the driver; ptxas is left out. For a launch, tensors
are copied to addresses of their own, which are aligned as the caching allocator's are; what the kernel wrote is copied
back. What torch.empty makes counts as never written.
"""

import contextlib
import ctypes
import struct
import types
import unittest.mock

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend

from tests.ptx.execute import run
from tests.ptx.memory import Fault, GlobalMemory
from tests.ptx.parse import Kernel, parse

_PACKED = {"i1": "?", "u1": "?", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "u8": "B", "u16": "H", "u32": "I",
           "u64": "Q", "fp32": "f", "fp64": "d"}  # fmt: skip
_jit = triton.JITFunction.run
_parsed: dict[str, Kernel] = {}


class Gpu(contextlib.ExitStack):
    """While entered, CPU tensors pass for those of a GPU.

    Args:
        target: its architecture.
        images: tensors of images are the last of so many. Their addresses lie behind those of all the others, and of
            the programs for all of them, those for the last image are executed. `count` is the only scalar argument
            that grows with them.
    """

    def __init__(self, target: str, images: int = 1):
        super().__init__()
        self.capability = int(target.removeprefix("sm_"))
        self.images = images
        self.fresh: dict[int, tuple[torch.Tensor, np.ndarray]] = {}  # by address: what torch.empty made, bytes written

    def __enter__(self) -> "Gpu":
        before = triton.runtime.driver._active
        driver = types.SimpleNamespace(
            # The JIT keeps code for each device: no target finds another's.
            get_current_device=lambda: self.capability,
            get_current_stream=lambda device: 0,
            get_current_target=lambda: GPUTarget("cuda", self.capability, 32),
        )
        triton.runtime.driver.set_active(driver)
        self.callback(triton.runtime.driver.set_active, before)
        for owner, name, value in (
            (torch, "empty", self._noted(torch.empty)),
            (torch, "empty_like", self._noted(torch.empty_like)),
            (torch.Tensor, "new_empty", self._noted(torch.Tensor.new_empty)),
            (torch.Tensor, "is_cuda", property(lambda tensor: True)),
            (torch.cuda, "get_device_capability", lambda device=None: divmod(self.capability, 10)),
            (torch.cuda, "device_of", lambda tensor: contextlib.nullcontext()),
            (CUDABackend, "make_cubin", lambda *args: b"none"),
            (triton.JITFunction, "run", lambda kernel, *args, **options: self._launch(kernel, args, options)),
        ):
            self.enter_context(unittest.mock.patch.object(owner, name, value, create=name not in vars(owner)))
        return self

    def _noted(self, make):
        def empty(*args, **options):
            tensor = make(*args, **options)
            if tensor.device.type == "cpu" and tensor.numel():
                memory = _memory(tensor)
                memory[:] = 0xFF
                self.fresh[tensor.untyped_storage().data_ptr()] = tensor, np.zeros(len(memory), bool)
            return tensor

        return empty

    def _launch(self, kernel: triton.JITFunction, args: tuple, options: dict):
        grid, warmup = options.pop("grid"), options.pop("warmup")
        names = [parameter.name for parameter in kernel.params]
        if "count" in names:
            place = names.index("count")
            args = (*args[:place], args[place] * self.images, *args[place + 1 :])
        compiled = _jit(kernel, *args, grid=grid, warmup=True, **options)
        if warmup:
            return compiled
        meta = compiled.metadata
        text = compiled.asm["ptx"]
        code = _parsed.get(text) or _parsed.setdefault(text, parse(text))
        assert code.threads == 32 * meta.num_warps and meta.num_ctas == 1
        assert not meta.global_scratch_size and not meta.profile_scratch_size
        values = dict(zip(names, args, strict=False)) | {key: value for key, value in options.items() if key in names}
        taken = [(name, values[name], type) for name, type in compiled.src.signature.items() if type != "constexpr"]
        (programs,) = grid
        self._execute(code, programs, taken, meta.shared)
        return compiled

    def _execute(self, code: Kernel, programs: int, taken: list, shared: int) -> None:
        tensors = {name: value for name, value, _ in taken if isinstance(value, torch.Tensor) and value.numel()}
        assert all(tensor.is_contiguous() for tensor in tensors.values())
        storages = {_start(tensor): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
        memory = GlobalMemory(list(storages.values()))
        first = {start: memory.starts[index] for index, start in enumerate(storages)}

        def place(tensor: torch.Tensor) -> slice:
            """Where the executor's memory has it."""
            at = first[_start(tensor)] + tensor.data_ptr() - _start(tensor)
            return slice(at, at + tensor.numel() * tensor.element_size())

        params = []
        for name, value, type in taken:
            if name in tensors:
                memory.allow(place(value), _bytes(value), self._written(value))
                of_an_image = (value.dim() == 4 and name != "weight_ptr") or name == "partial_ptr"
                skipped = (self.images - 1) * value.numel() * value.element_size() if of_an_image else 0
                params.append(struct.pack("<Q", memory.BASE + place(value).start - skipped))
            else:
                params.append(bytes(8) if isinstance(value, torch.Tensor) else struct.pack("<" + _PACKED[type], value))
        params += [bytes(8)] * 2  # scratch memory, of which there is none
        every = self.images * programs
        run(code, every, params, memory, shared, range(every - programs, every))
        for name, tensor in tensors.items():
            _bytes(tensor)[:] = memory.data[place(tensor)]
            written = self._written(tensor)
            written |= memory.written[place(tensor)]
            if memory.writer[place(tensor)].any() and not written.all():
                raise Fault(f"{code.name} leaves {(~written).sum()} of {len(written)} bytes of {name} unwritten")

    def _written(self, tensor: torch.Tensor) -> np.ndarray:
        """Of each byte, whether it has contents; a view, of a tensor that torch.empty made."""
        start, count = tensor.data_ptr() - _start(tensor), tensor.numel() * tensor.element_size()
        known = self.fresh.get(_start(tensor))
        return np.ones(count, bool) if known is None else known[1][start : start + count]

    def check_written(self, result) -> None:
        """Raises where a result, tensors in tuples, has elements that no kernel wrote."""
        if isinstance(result, tuple):
            for one in result:
                self.check_written(one)
        elif isinstance(result, torch.Tensor) and not self._written(result).all():
            raise Fault("a result has elements that no kernel wrote")


def _start(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _memory(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a tensor's storage."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * tensor.untyped_storage().nbytes()).from_address(_start(tensor)))


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a contiguous tensor."""
    start = tensor.data_ptr() - _start(tensor)
    return _memory(tensor)[start : start + tensor.numel() * tensor.element_size()]
