"""PTX into blocks of instructions."""

import re
from dataclasses import dataclass, field

import numpy as np

from tests.ptx.memory import Fault

BITS = {"pred": 1}
DTYPES = {"pred": np.dtype(bool)}
for _kind, _numpy in (("b", "u"), ("u", "u"), ("s", "i"), ("f", "f")):
    for _size in (16, 32, 64) if _kind == "f" else (8, 16, 32, 64):
        BITS[f"{_kind}{_size}"] = _size
        DTYPES[f"{_kind}{_size}"] = np.dtype(f"{_numpy}{_size // 8}")
BITS |= {"bf16": 16, "f16x2": 32, "bf16x2": 32}
DTYPES |= {"bf16": np.dtype("u2"), "f16x2": np.dtype("u4"), "bf16x2": np.dtype("u4")}  # bits, converted where used


@dataclass
class Instruction:
    """One statement: `@guard opcode operands`."""

    text: str
    guard: str | None
    negated: bool
    opcode: str
    operands: list[str]
    line: str  # of the Python source

    def __post_init__(self) -> None:
        self.base, *rest = self.opcode.split(".")
        self.types = [part for part in rest if part in BITS]
        self.modifiers = [part for part in rest if part not in BITS]


@dataclass
class Kernel:
    """Blocks of instructions in order, and what they name."""

    name: str
    params: list[tuple[str, int]]  # name and bytes
    threads: int
    widths: dict[str, int]  # bits of the registers of a prefix
    blocks: list[list[Instruction]]
    labels: dict[str, int]
    symbols: set[str]  # of dynamic shared memory, which begins at 0
    built: list = field(default_factory=list)  # what `execute` makes of the blocks


_STATEMENT = re.compile(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
REGISTER = re.compile(r"(%[a-z]+|%scoped\d+_)\d+$")


def parse(text: str) -> Kernel:
    """The only kernel of a PTX module."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", "", text)
    files = {int(n): name for n, name in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)}
    head = re.search(r"\.visible\s+\.entry\s+(\w+)\s*\((.*?)\)([^{]*)\{", text, re.DOTALL)
    body = text[head.end() : text.index("\n}", head.end())]
    words = [piece.split() for piece in head[2].split(",") if piece.strip()]  # .param .u64 ... name
    params = [(one[-1], BITS[one[1][1:]] // 8) for one in words]
    threads = int(re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", head[3])[1])
    symbols = set(re.findall(r"\.extern\s+\.shared\s+[^;]*?(\w+)\[\]", text))
    kernel = Kernel(head[1], params, threads, {}, [[]], {}, symbols)
    targets = set(re.findall(r"\bbra\S*\s+(\$\w+)", body))
    source = ""
    for line in body.splitlines():
        line = line.strip()
        if found := re.match(r"\.loc\s+(\d+)\s+(\d+)", line):
            source = f"{files.get(int(found[1]), '?')}:{found[2]}"
            continue
        if found := re.match(r"(\$\w+):\s*", line):
            if found[1] in targets:
                if kernel.blocks[-1]:
                    kernel.blocks.append([])
                kernel.labels[found[1]] = len(kernel.blocks) - 1
            line = line[found.end() :]
        if found := re.fullmatch(r"\{\s*\.reg\s+\.(\w+)\s+(\w+);([^;]*;)\s*\}", line):  # a register of its own scope
            prefix, bits = f"%scoped{BITS[found[1]]}_", BITS[found[1]]
            kernel.widths[prefix] = bits
            line = re.sub(rf"(?<![\w%]){found[2]}\b", f"{prefix}{len(kernel.blocks[-1])}", found[3])
        *statements, rest = line.split(";")
        if rest.strip():
            raise Fault(f"a line that is not understood: {line!r}")
        for statement in map(str.strip, statements):
            if found := re.fullmatch(r"\.reg\s+\.(\w+)\s+(%[a-z]+)<\d+>", statement):
                kernel.widths[found[2]] = BITS[found[1]]
            elif found := _STATEMENT.fullmatch(statement):
                operands = [part.strip() for part in re.split(r",(?![^{]*\})", found[4]) if part.strip()]
                one = Instruction(statement, found[2], found[1] == "!", found[3], operands, source)
                kernel.blocks[-1].append(one)
                if one.base in ("bra", "ret", "exit"):
                    kernel.blocks.append([])
            elif statement and not statement.startswith(".pragma"):
                raise Fault(f"a statement that is not understood: {statement!r}")
    return kernel
