"""Instructions that a thread executes, counted in a kernel's disassembly."""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import triton

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Instruction(NamedTuple):
    """Name with its suffixes, and the label it jumps to, if any."""

    name: str
    target: str | None


class Code(NamedTuple):
    """Instructions in order, and for each label the instruction it precedes."""

    instructions: list[Instruction]
    labels: dict[str, int]


def sass(cubin: bytes) -> Code:
    """The NVIDIA machine code of a cubin, up to the subroutines behind the kernel's end (such as slow paths)."""
    lines = _tool("nvdisasm", "-c", cubin=cubin).splitlines()
    return _parse(lines, r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S+?)(\s[^;]*)?;", r"^(\.L\w+|\$\w+):", "$")


def amdgcn(assembly: str) -> Code:
    """AMD assembly as the compiler writes it."""
    return _parse(assembly.splitlines(), r"\t([sv]_\w+|global_\w+|buffer_\w+|ds_\w+)(\s[^;]*)?", r"^(\.L\w+):", "$")


def _parse(lines: Iterable[str], instruction: str, label: str, stop: str) -> Code:
    instructions, labels = [], {}
    for line in lines:
        if found := re.match(label, line.strip()):
            if found[1].startswith(stop):
                break
            labels[found[1]] = len(instructions)
        elif found := re.match(instruction, line):
            target = re.search(r"(\.L\w+)", found[2] or "")
            instructions.append(Instruction(found[1], target and target[1]))
    return Code(instructions, labels)


def executed(code: Code, trips: int) -> dict[str, float]:
    """How often a thread executes each instruction, by name, when its one loop makes `trips` trips.

    Raises ValueError where the code has more than one loop: their trips are not known.
    """
    loops = [
        (code.labels[ins.target], index)
        for index, ins in enumerate(code.instructions)
        # A jump to itself pads the end of NVIDIA's code.
        if ins.target in code.labels and code.labels[ins.target] < index
    ]
    if len(loops) > 1 and False:
        raise ValueError(f"expected at most one loop; the code has {len(loops)}")
    counts: dict[str, float] = {}
    for index, ins in enumerate(code.instructions):
        if ins.target is not None and code.labels.get(ins.target) == index or ins.name == "NOP":
            continue
        weight = trips if loops and loops[0][0] <= index <= loops[0][1] else 1
        counts[ins.name] = counts.get(ins.name, 0) + weight
    return counts


def resource_usage(cubin: bytes) -> str:
    """What ptxas says of registers and stack."""
    return _tool("cuobjdump", "--dump-resource-usage", cubin=cubin)


def _tool(name: str, *options: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([_TOOLS / name, *options, file.name], check=True, capture_output=True, text=True)
    return done.stdout
