"""A stand-in for CUDA graphs on a CPU, and what steps are recorded of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from model.network.architecture import FinetuneNetwork, Network
from sci_kernels import LossFunction
from sci_kernels.ops import loss_op
from train.step.update import make_optimizer


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: the operators of a call, on the memory that it used, without the call's effect.

    As in a graph, every operator writes where it wrote when it was recorded, and none may ask for a number.
    """

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[Callable, tuple, dict, list[Tensor]]] = []
        self.made: set[int] = set()  # storages that the call makes; `calls` keeps them alive
        self.found: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}  # others, with a copy
        self.bytes: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a number was asked for while recording")
        for tensor in tensors_in((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.made and storage._cdata not in self.found:
                self.found[storage._cdata] = storage, storage.clone()
        out = func(*args, **kwargs)
        if func.namespace != "profiler":
            given = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs))}
            args, kwargs = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
            new = [t.detach() for t in tensors_in(out) if t.untyped_storage()._cdata not in given]
            for tensor in new:
                storage = tensor.untyped_storage()
                self.made.add(storage._cdata)
                self.bytes[storage._cdata] = storage.nbytes()
            self.calls.append((func, args, kwargs, new))
        return out

    def undo(self) -> None:
        """Put back what the recording has changed."""
        for storage, before in self.found.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, recorded in self.calls:
            given = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs))}
            out = func(*args, **kwargs)
            made = [t for t in tensors_in(out) if t.untyped_storage()._cdata not in given]
            for tensor, result in zip(recorded, made, strict=True):
                storage = tensor.untyped_storage()
                if storage.nbytes() < self.bytes[storage._cdata]:  # backward has given it back
                    storage.resize_(self.bytes[storage._cdata])
                tensor.copy_(result)


def tensors_in(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class TapeRecorder:
    """`CudaRecorder` with tapes; counts what is recorded and replayed."""

    def __init__(self, device=None):
        self.recorded = self.replayed = 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        yield

    def record(self, call):
        tape = Tape()
        # On a CPU backward looks at the gradient of the loss, which a graph could not; on a GPU it does not look.
        unasked = patch.object(loss_op, "_may_be_given_away", lambda grad: False)
        try:
            with tape, unasked:
                values = call()
        finally:
            tape.undo()
        self.recorded += 1

        def replay():
            self.replayed += 1
            tape.replay()

        return replay, values


def start(kind="network", impl="auto", device="cpu", **options):
    torch.manual_seed(3)
    model = FinetuneNetwork(impl, **options) if kind == "finetune" else Network(2, impl, **({"exact": False} | options))
    model.to(device)
    return model, LossFunction(impl=impl), make_optimizer(model, 3e-4)


def picture(seed, n=1, h=12, w=10, device="cpu"):
    return (torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 0.3).to(device)


def everything(model, optimizer):
    """Weights, BatchNorm statistics, the state of Adam."""
    return [*model.state_dict().values(), *(value for state in optimizer.state.values() for value in state.values())]


def assert_same(ours, theirs):
    for a, b in zip(everything(ours[0], ours[2]), everything(theirs[0], theirs[2]), strict=True):
        assert torch.equal(a, b)
