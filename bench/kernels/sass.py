"""Instructions that a thread executes, counted in a kernel's NVIDIA machine code."""

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
    """Name with its suffixes, the label it jumps to, if any, and whether what follows it may be executed next."""

    name: str
    target: str | None
    goes_on: bool


class Code(NamedTuple):
    """Instructions in order, and for each label the instruction it precedes."""

    instructions: list[Instruction]
    labels: dict[str, int]

    def destination(self, instruction: Instruction) -> int | None:
        """The index of the instruction that this one jumps to; None if it does not jump within this code."""
        return None if instruction.target is None else self.labels.get(instruction.target)


def sass(cubin: bytes) -> Code:
    """A kernel's code, without the subroutines behind its end (the slow paths of float64 division)."""
    return parse(_tool("nvdisasm", "-c", cubin=cubin))


def parse(text: str) -> Code:
    """Code from nvdisasm's listing of it."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if found := _LABEL.match(line):
            if found[1].startswith("$"):
                break
            labels[found[1]] = len(instructions)
        elif found := _INSTRUCTION.match(line):
            predicate, name, operands = found.groups()
            # Other instructions name labels, too, which they do not jump to.
            target = re.search(r"(\.L\w+)", operands or "") if name.startswith("BRA") else None
            goes_on = predicate is not None or not name.startswith(("BRA", "EXIT"))
            instructions.append(Instruction(name, target and target[1], goes_on))
    return Code(instructions, labels)


def executed(code: Code, trips: int) -> dict[str, float]:
    """How often a thread executes each instruction, by name, when its one loop makes `trips` trips; all branches taken.

    Raises ValueError where the code has more than one loop: their trips are not known.
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
    """Instructions on the shortest way through code without loops, by name: that of a block that needs no mask."""
    length = len(code.instructions)
    # From each instruction to the end: how many are executed, and which is next.
    steps, following = [0] * (length + 1), [length] * length
    for index in range(length - 1, -1, -1):
        ins = code.instructions[index]
        ways = [index + 1] if ins.goes_on else []
        if (jump := code.destination(ins)) is not None and jump > index:
            ways.append(jump)
        following[index] = min(ways, key=steps.__getitem__, default=length)
        steps[index] = steps[following[index]] + 1
    counts: dict[str, float] = {}
    index = 0
    while index < length:
        name = code.instructions[index].name
        counts[name] = counts.get(name, 0) + 1
        index = following[index]
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
