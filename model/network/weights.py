"""Weights to and from files: official `.pt` state dicts and safetensors; no code from a file is ever run.

A state dict holds a shared block under two names (see `architecture`). Both are written, as the official code does and
expects, and both must agree when read.
"""

import io
import json
import pickle
import pickletools
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ..files import write_atomically
from .architecture import EnhanceNetwork, FinetuneNetwork, Network

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "pretrained" / "default.safetensors"

# What a run of `python -m train` leaves: the weights once it ends, for this project and for the official code, and a
# checkpoint, which is not a weight file; its entries are these and others.
RUN_WEIGHTS = ("weights.safetensors", "weights.pt")
CHECKPOINT_ENTRIES = frozenset({"step", "model", "optimizer", "settings"})

# How files of `torch.save` began before PyTorch 1.6: with the pickle of a number that stands for the format.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class WeightsError(ValueError):
    """A file does not hold the weights asked for; the message is one line: which file, what is wrong, what to do."""


def load_weights(module: nn.Module, path: str | Path = DEFAULT_WEIGHTS) -> None:
    """Load the weights in a file into `module`, on any device and of any floating dtype; all of them or none.

    Args:
        module: `Network`, or `FinetuneNetwork` or `EnhanceNetwork`, which take only the enhance part of a full
            checkpoint. Otherwise names and shapes must match exactly.
        path: safetensors, or a state dict written by `torch.save` on any device; recognized by content.

    Raises:
        WeightsError: the file is missing, truncated, not a plain state dict (a pickle that could run code is refused),
            of another network, or holds NaN or infinite values. `module` then stays as it was.
    """
    path = Path(path)
    state = _select(module, _read(path))
    _check(module, state, path)
    module.load_state_dict(state)


def official_state(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file under the names of the official code, in its order; tensors are as in the file.

    Args:
        path: as for `load_weights`. A full checkpoint gives its 83 entries, one of the enhance part only that part.

    Raises:
        WeightsError: as for `load_weights`.
    """
    path = Path(path)
    state = _read(path)
    full = any(name.startswith("calibrate.") for name in state)
    module, prefix = (Network(), "") if full else (EnhanceNetwork(), "enhance.")
    state = _select(module, state)
    _check(module, state, path)
    return {prefix + name: state[name] for name in module.state_dict()}


def save_weights(module: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights of `module`, whole or not at all.

    Args:
        path: `.safetensors`, or `.pt` or `.pth` for a state dict that the official code loads (`to_pt`).
        metadata: strings kept with the weights, in safetensors only.

    Raises:
        ValueError: the extension is unknown, or the format cannot keep metadata.
        TypeError: the metadata are not strings.
        OSError: the file cannot be written.
    """
    path = Path(path)
    state = module.state_dict()
    if path.suffix == ".safetensors":
        for key, value in (metadata or {}).items():
            if not (isinstance(key, str) and isinstance(value, str)):
                raise TypeError(f"metadata: expected strings; got {key!r}: {value!r}")
        # The format refuses tensors that share memory, as those under the two names of a block do.
        copies = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        data = safetensors.torch.save(copies, metadata=dict(metadata) if metadata else None)
        if metadata:
            data = _sort_metadata(data)
    elif path.suffix in (".pt", ".pth"):
        if metadata:
            raise ValueError(
                f"metadata: {path.suffix} keeps none, the official code could not load it; use .safetensors"
            )
        data = to_pt(state)
    else:
        raise ValueError(f"path: expected .safetensors, .pt or .pth; got {path}")
    write_atomically(path, data)


def to_pt(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as `torch.save` wrote it before PyTorch 1.6, which every version can read, as can the official code.

    The tensors are on the CPU, so that no `map_location` is needed, and there are only tensors (`weights_only=True`).
    """
    buffer = io.BytesIO()
    plain = {name: tensor.detach().cpu() for name, tensor in state.items()}
    torch.save(plain, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _sort_metadata(data: bytes) -> bytes:
    """The safetensors file with its metadata sorted: the library writes them in a different order every time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format asks for aligned tensors
    return len(text).to_bytes(8, "little") + text + data[end:]


def _read(path: Path) -> dict[str, Tensor]:
    """The named tensors in a file, on the CPU."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        what = "the default weights are missing; restore this file or" if path == DEFAULT_WEIGHTS else "no such file;"
        raise WeightsError(f"{path}: {what} name a weight file (.pt or .safetensors)") from None
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); name a weight file (.pt or .safetensors)"
        ) from None
    try:
        # A safetensors file begins with eight bytes of header length and then JSON; no torch file does.
        if data[8:9] == b"{":
            return safetensors.torch.load(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on loading without weights_only
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # for damaged files RuntimeError, EOFError, KeyError, SafetensorError and others
        if isinstance(error, pickle.UnpicklingError) and _is_whole(data):
            raise WeightsError(
                f"{path}: refused, it holds more than plain tensors and could run code when loaded; "
                "use a file of weights alone (torch.save of a state_dict, or .safetensors)"
            ) from None
        raise WeightsError(
            f"{path}: truncated, or no weight file at all ({len(data)} bytes); copy or download it again"
        ) from None
    plain = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if isinstance(state, dict) and state.keys() >= CHECKPOINT_ENTRIES:
        raise WeightsError(_refuse_checkpoint(path, state["step"]))
    if not plain:
        kind = f"entries {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else type(state).__name__
        raise WeightsError(f"{path}: no plain state dict (holds {kind}); use a file of weights alone, name to tensor")
    return state


def _is_whole(data: bytes) -> bool:
    """Whether the data are an archive or a complete pickle: a truncated class name is refused like an unknown class."""
    if data.startswith(b"PK\x03\x04"):
        return True
    stream = io.BytesIO(data)
    try:
        for _ in range(4 if data.startswith(_LEGACY) else 1):  # two numbers, facts on the system, then the state dict
            for _ in pickletools.genops(stream):  # parses the pickle, and runs nothing
                pass
    except Exception:  # for damaged ones ValueError, IndexError, UnicodeDecodeError and others
        return False
    return data.startswith(b"\x80")


def _refuse_checkpoint(path: Path, step: int) -> str:
    """The message that a checkpoint of the trainer is not a weight file, and where the weights are."""
    there = [name for name in RUN_WEIGHTS if (path.parent / name).is_file()]
    if there:
        where = f"use {' or '.join(there)} next to it"
    else:
        where = (
            "weights.safetensors and weights.pt appear next to it when the run ends: python -m train --out "
            f"{shlex.quote(str(path.parent))} --resume (with --steps {step}: at once)"
        )
    return f"{path}: the checkpoint of a run, for --resume alone, not a weight file; {where}"


def _select(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that is meant for `module`: all of it, or the enhance part."""
    if isinstance(module, EnhanceNetwork | FinetuneNetwork):
        state = {name: tensor for name, tensor in state.items() if not name.startswith("calibrate.")}
    if isinstance(module, EnhanceNetwork):
        state = {name.removeprefix("enhance."): tensor for name, tensor in state.items()}
    return state


def _check(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError unless the state dict is exactly one of this module; nothing has been copied then."""
    wanted = module.state_dict()
    network = type(module).__name__
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    other = [name for name in wanted if name in state and not _fits(state[name], wanted[name])]
    faults = [(missing, "missing"), (unknown, "unknown"), (other, "of another shape or kind")]
    found = ", ".join(f"{len(names)} entries {what} (first: {names[0]})" for names, what in faults if names)
    if missing and not unknown and not other and all(name.startswith("calibrate.") for name in missing):
        raise WeightsError(f"{path}: holds the enhance part alone; {network} needs a full checkpoint of 83 entries")
    if found:
        raise WeightsError(f"{path}: weights of another network, {found}; use a checkpoint of {network}")
    first_names: dict[int, str] = {}
    for name, tensor in state.items():
        if not torch.isfinite(tensor.double()).all():
            raise WeightsError(f"{path}: {name} holds NaN or infinite values; use a checkpoint from before they arose")
        twin = first_names.setdefault(wanted[name].data_ptr(), name)
        if not torch.equal(state[twin], tensor):
            raise WeightsError(
                f"{path}: {twin} and {name} differ, but are one block in {network}; use a checkpoint of {network}"
            )


def _fits(tensor: Tensor, wanted: Tensor) -> bool:
    same_kind = tensor.is_floating_point() == wanted.is_floating_point() and tensor.layout == wanted.layout
    holds_numbers = tensor.device.type == "cpu" and tensor.element_size() >= 2  # neither meta nor float8
    return same_kind and holds_numbers and tensor.shape == wanted.shape
