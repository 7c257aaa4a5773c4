"""Counts the instructions that a thread executes, from a kernel's NVIDIA machine code (SASS)."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?(\S+?)(\s[^;]*)?;")
_LABEL = re.compile(r"\s*(\.L\w+|\$[\w$]+):")


class Instruction(NamedTuple):
    """One instruction of a listing."""

    name: str  # with its suffixes
    target: str | None  # the label that it jumps to
    goes_on: bool  # whether the instruction after it may be executed next


class Code(NamedTuple):
    """Instructions in order, and for each label the index of the instruction that it precedes."""

    instructions: list[Instruction]
    labels: dict[str, int]

    def destination(self, instruction: Instruction) -> int | None:
        """The index of the instruction that this one jumps to; None if it does not jump within this code."""
        return None if instruction.target is None else self.labels.get(instruction.target)


def sass(cubin: bytes) -> Code:
    """A kernel's code, without the subroutines behind its end (the slow paths of float64 division)."""
    return parse(_tool("nvdisasm", "-c", cubin=cubin))


def parse(text: str) -> Code:
    """The code that a listing by nvdisasm shows."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if found := _LABEL.match(line):
            if found[1].startswith("$"):
                break
            labels[found[1]] = len(instructions)
        elif found := _INSTRUCTION.match(line):
            predicate, name, operands = found.groups()
            # Other instructions name labels as well, but do not jump to them.
            target = re.search(r"(\.L\w+)", operands or "") if name.startswith("BRA") else None
            goes_on = predicate is not None or not name.startswith(("BRA", "EXIT"))
            instructions.append(Instruction(name, target and target[1], goes_on))
    return Code(instructions, labels)


def executed(code: Code, trips: int) -> dict[str, float]:
    """How often a thread executes each instruction, by name, if the code's one loop is repeated `trips` times.

    No branch is skipped. Raises ValueError where the code has more than one loop, as their trips are not known.
    """
    loops = [
        (start, index)
        for index, ins in enumerate(code.instructions)
        # A jump to itself pads the end of the code.
        if (start := code.destination(ins)) is not None and start < index
    ]
    if len(loops) > 1:
        raise ValueError(f"expected at most one loop; the code has {len(loops)}")
    first, last = loops[0] if loops else (0, -1)
    counts: dict[str, float] = {}
    for index, ins in enumerate(code.instructions):
        if ins.name != "NOP" and code.destination(ins) != index:
            counts[ins.name] = counts.get(ins.name, 0) + (trips if first <= index <= last else 1)
    return counts


def shortest(code: Code) -> dict[str, float]:
    """Instructions, by name, on the shortest path through code without loops: that of a block that needs no mask."""
    length = len(code.instructions)
    # For each instruction: how many are executed from it to the end, and which of them comes next.
    steps, following = [0] * (length + 1), [length] * length
    for index in range(length - 1, -1, -1):
        ins = code.instructions[index]
        successors = [index + 1] if ins.goes_on else []
        if (jump := code.destination(ins)) is not None and jump > index:
            successors.append(jump)
        following[index] = min(successors, key=steps.__getitem__, default=length)
        steps[index] = steps[following[index]] + 1
    counts: dict[str, float] = {}
    index = 0
    while index < length:
        name = code.instructions[index].name
        counts[name] = counts.get(name, 0) + 1
        index = following[index]
    return counts


def resource_usage(cubin: bytes) -> str:
    """What ptxas reports about registers and stack."""
    return _tool("cuobjdump", "--dump-resource-usage", cubin=cubin)


def _tool(name: str, *options: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([_TOOLS / name, *options, file.name], check=True, capture_output=True, text=True)
    return done.stdout
