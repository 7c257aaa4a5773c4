"""Instructions of PTX as functions of a batch of threads; a form that is not here is an error, nothing is skipped."""

import re

import numpy as np

from tests.ptx import arithmetic
from tests.ptx.arithmetic import UNSIGNED, bf16_to_f32, extreme, f32_to_bf16, halves, pack_halves, shift
from tests.ptx.memory import Fault
from tests.ptx.parse import BITS, DTYPES, REGISTER, Instruction, Kernel

WARP = 32
_SPACES = {"global", "shared", "param"}
_HINTS = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "relaxed", "weak", "gpu", "L1::evict_last", "L1::evict_first",
          "L1::no_allocate"}  # fmt: skip

# Destination = function of the sources, all of the instruction's type but where _SOURCES says otherwise. In a name F
# stands for f32 and f64, I for integers, B for bits, P for pred. A form that is not here is unknown.
_PURE = {
    "add.F": np.add, "add.rn.F": np.add, "add.I": np.add,
    "sub.F": np.subtract, "sub.rn.F": np.subtract, "sub.I": np.subtract,
    "mul.F": np.multiply, "mul.rn.F": np.multiply, "mul.lo.I": np.multiply,
    "mad.lo.I": lambda a, b, c: a * b + c,
    "fma.rn.F": arithmetic.fma, "div.rn.F": np.divide, "div.full.F": arithmetic.ratio,
    "neg.F": np.negative, "neg.I": np.negative, "abs.F": np.abs, "abs.I": np.abs,
    "abs.ftz.F": lambda x: arithmetic.flush(np.abs(x)),
    "min.F": lambda a, b: extreme(a, b, False, False), "min.NaN.F": lambda a, b: extreme(a, b, False, True),
    "max.F": lambda a, b: extreme(a, b, True, False), "max.NaN.F": lambda a, b: extreme(a, b, True, True),
    "min.I": np.minimum, "max.I": np.maximum,
    "min.NaN.xorsign.abs.F": arithmetic.xorsign,
    "and.B": np.bitwise_and, "or.B": np.bitwise_or, "xor.B": np.bitwise_xor, "not.B": np.invert,
    "and.P": np.logical_and, "or.P": np.logical_or, "xor.P": np.logical_xor, "not.P": np.logical_not,
    "shl.B": lambda a, by: shift(a, by, True), "shr.B": lambda a, by: shift(a, by, False),
    "shr.I": lambda a, by: shift(a, by, False), "bfe.I": arithmetic.bit_field,
    "ex2.approx.ftz.F": arithmetic.exp2, "rcp.approx.ftz.F": arithmetic.reciprocal,
    "sqrt.approx.ftz.F": arithmetic.root, "sqrt.rn.F": np.sqrt,
}  # fmt: skip
for _kind in "FIBP":
    _PURE[f"selp.{_kind}"] = lambda a, b, p: np.where(p, a, b)
    _PURE[f"mov.{_kind}"] = lambda x: x
_SOURCES = {"shl": ("T", "u32"), "shr": ("T", "u32"), "bfe": ("T", "u32", "u32"), "selp": ("T", "T", "pred")}
# For f32 alone.
_SINGLE = {"abs.ftz", "min.NaN.xorsign.abs", "ex2.approx.ftz", "rcp.approx.ftz", "sqrt.approx.ftz", "div.full"}


class Builder:
    """Turns instructions into functions of a batch."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel

    def build(self, one: Instruction):
        """The function of an instruction that does not jump; its guard included."""
        try:
            function = getattr(self, "op_" + one.base, self.pure)(one)
        except (Fault, KeyError, IndexError, ValueError) as error:
            raise Fault(f"{self.kernel.name}: {one.text}: cannot be executed: {error!r}") from error
        if one.guard is None:
            return function
        guard, negated = one.guard, one.negated

        def guarded(b) -> None:
            outer = b.mask
            mask = b.registers[guard] != negated
            mask = mask if outer is None else mask & outer
            if mask.any():
                b.mask = None if mask.all() else mask
                function(b)
                b.mask = outer

        return guarded

    # Operands

    def width(self, register: str) -> int:
        found = REGISTER.match(register)
        if not found or found[1] not in self.kernel.widths:
            raise Fault(f"not a register: {register!r}")
        return self.kernel.widths[found[1]]

    def source(self, operand: str, type: str):
        """A function of the batch: the operand as an array of the type."""
        dtype, bits = DTYPES[type], BITS[type]
        if REGISTER.match(operand):
            if self.width(operand) == bits:
                return lambda b: b.registers[operand].view(dtype)
            if 1 in (bits, self.width(operand)) or dtype.kind == "f":
                raise Fault(f"{operand} is not of type {type}")
            unsigned = UNSIGNED[bits // 8]
            return lambda b: b.registers[operand].astype(unsigned).view(dtype)
        if operand.startswith("%"):
            return lambda b: b.special[operand].astype(UNSIGNED[bits // 8]).view(dtype)
        if operand in self.kernel.symbols:
            value = 0
        elif found := re.fullmatch(r"0([fdFD])([0-9a-fA-F]{8}|[0-9a-fA-F]{16})", operand):
            value = int(found[2], 16)
            if bits != len(found[2]) * 4:
                raise Fault(f"{operand} is not of type {type}")
        elif re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", operand):
            value = int(operand.removesuffix("U"), 0)
        else:
            raise Fault(f"an operand that is not understood: {operand!r}")
        if type == "pred":
            constant = np.array([value != 0])
        else:
            constant = np.array([value & (1 << bits) - 1], np.uint64).astype(UNSIGNED[bits // 8]).view(dtype)
        return lambda b: constant

    def sink(self, operand: str):
        """A function of the batch and an array: writes a register, extended as the array's type is."""
        if operand == "_":
            return lambda b, value: None
        width = self.width(operand)
        if width == 1:
            return lambda b, value: b.put(operand, value)
        unsigned, signed = UNSIGNED[width // 8], np.dtype(f"i{width // 8}")

        def put(b, value: np.ndarray) -> None:
            if value.itemsize * 8 != width:
                if value.itemsize * 8 > width or value.dtype.kind == "f":
                    raise Fault(f"{operand} cannot hold {value.dtype}")
                value = value.astype(signed if value.dtype.kind == "i" else unsigned)
            b.put(operand, value.view(unsigned))

        return put

    def address(self, operand: str) -> tuple[str, int]:
        """What is in brackets: a register or name, and an offset."""
        found = re.fullmatch(r"\[\s*([%$\w]+)\s*(?:\+\s*(-?\d+))?\s*\]", operand)
        if not found:
            raise Fault(f"an address that is not understood: {operand!r}")
        return found[1], int(found[2] or 0)

    def assign(self, one: Instruction, types: list[str], function):
        """Destination = function(sources of these types)."""
        if len(one.operands) != len(types) + 1:
            raise Fault(f"expected {len(types)} sources")
        sources = [self.source(operand, type) for operand, type in zip(one.operands[1:], types, strict=True)]
        sink = self.sink(one.operands[0])
        return lambda b: sink(b, function(*[source(b) for source in sources]))

    # Opcodes

    def pure(self, one: Instruction):
        """What _PURE has."""
        (type,) = one.types
        name = ".".join([one.base, *one.modifiers])
        kind = {"p": "P", "b": "B", "u": "I", "s": "I", "f": "F"}[type[0]]
        if f"{name}.{kind}" not in _PURE or "16" in type and kind == "F" or (name in _SINGLE and type != "f32"):
            raise Fault(f"unknown opcode {one.opcode}")
        function = _PURE[f"{name}.{kind}"]
        types = _SOURCES.get(one.base, ("T",) * (len(one.operands) - 1))
        return self.assign(one, [type if t == "T" else t for t in types], function)

    def op_mul(self, one: Instruction):
        """Products twice as wide as their factors, and sums with them."""
        if one.modifiers != ["wide"]:
            return self.pure(one)
        (type,) = one.types
        wide = f"{type[0]}{2 * BITS[type]}"
        dtype = DTYPES[wide]
        if one.base == "mul":
            return self.assign(one, [type] * 2, lambda a, b: a.astype(dtype) * b.astype(dtype))
        return self.assign(one, [type, type, wide], lambda a, b, c: a.astype(dtype) * b.astype(dtype) + c)

    op_mad = op_mul

    def op_min(self, one: Instruction):
        """Of 16 bits, one or a packed pair: as float32 numbers, which is exact."""
        largest = one.base == "max"
        return self.of_halves(one, ["NaN"], lambda a, b: extreme(a, b, largest, True))

    op_max = op_min

    def op_add(self, one: Instruction):
        """Likewise: a sum rounded to float32 and then to 16 bits is that rounded once."""
        return self.of_halves(one, [], np.add)

    def of_halves(self, one: Instruction, modifiers: list[str], function):
        (type,) = one.types
        if "f" not in type or "16" not in type:
            return self.pure(one)
        if one.modifiers != modifiers:
            raise Fault(f"unknown opcode {one.opcode}")
        bits = f"b{BITS[type]}"

        def of_each(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            low, high = map(function, halves(x, type), halves(y, type))
            return pack_halves(low, high, type).astype(x.dtype)

        return self.assign(one, [bits, bits], of_each)

    def op_prefetch(self, one: Instruction):
        """Changes nothing that a program sees; its address may lie anywhere."""
        return lambda b: None

    def op_div(self, one: Instruction):
        """Between integers; no active thread may divide by 0."""
        if "f" in one.types[0]:
            return self.pure(one)
        if one.modifiers:
            raise Fault(f"unknown opcode {one.opcode}")
        a, b_ = (self.source(operand, one.types[0]) for operand in one.operands[1:])
        sink, function = self.sink(one.operands[0]), {"div": arithmetic.quotient, "rem": np.fmod}[one.base]

        def divide(b) -> None:
            divisor = b_(b)
            zero = divisor == 0
            if (zero if b.mask is None else zero & b.mask).any():
                raise Fault("divides an integer by 0")
            sink(b, function(a(b), np.where(zero, 1, divisor).astype(divisor.dtype)))

        return divide

    op_rem = op_div

    def op_setp(self, one: Instruction):
        (name,), (type,) = one.modifiers, one.types
        sinks = [self.sink(target) for target in one.operands[0].split("|")]
        short = "f" in type and "16" in type
        sources = [self.source(operand, f"b{BITS[type]}" if short else type) for operand in one.operands[1:]]
        compare = arithmetic.comparison(name, "f" if short else DTYPES[type].kind)

        def set_each(b) -> None:
            x, y = (source(b) for source in sources)
            pairs = zip(halves(x, type), halves(y, type), strict=True) if short else [(x, y)]
            for sink, pair in zip(sinks, pairs, strict=type.endswith("x2") or not short):
                sink(b, compare(*pair))

        return set_each

    def op_mov(self, one: Instruction):
        """A copy, or registers of a part each to one and back."""
        to, what = one.operands
        if "{" not in one.text:
            return self.pure(one)
        bits = BITS[one.types[0]]
        parts = [part.strip() for part in (to if "{" in to else what).strip("{}").split(",")]
        size = bits // len(parts)
        piece, whole = UNSIGNED[size // 8], UNSIGNED[bits // 8]
        if "{" in to:
            source, sinks = self.source(what, f"b{bits}"), [self.sink(part) for part in parts]

            def unpack(b) -> None:
                value = source(b)
                for index, sink in enumerate(sinks):
                    sink(b, (value >> whole.type(size * index)).astype(piece))

            return unpack
        # LLVM packs what it will not use beside what it will: a part that was never written is all ones, a NaN.
        poison = np.array([2**size - 1], piece)
        if not all(self.width(part) == size for part in parts):
            raise Fault(f"not all of {size} bits")
        sink = self.sink(to)

        def pack(b) -> None:
            value = np.zeros(1, whole)
            for index, part in enumerate(parts):
                value = value | b.registers.get(part, poison).astype(whole) << whole.type(size * index)
            sink(b, value)

        return pack

    def op_cvt(self, one: Instruction):
        to, source = one.types
        modifiers, target = set(one.modifiers), DTYPES[to]
        if len(one.operands) == 3:  # two float32 to a packed pair, the second to its lower half
            if modifiers != {"rn"} or source != "f32" or not to.endswith("x2"):
                raise Fault("unknown conversion")
            return self.assign(one, ["f32", "f32"], lambda a, b: pack_halves(b, a, to))
        floats = "f" in source, "f" in to
        rounded = {(True, True): "rn" * (BITS[to] < BITS[source]), (False, True): "rn", (True, False): "rzi"}
        if modifiers != {rounded.get(floats, "")} - {""} or (to, source) == (source, to):
            raise Fault("unknown conversion")
        if floats == (True, False):
            if source != "f32" or BITS[to] != 32:
                raise Fault("unknown conversion")
            return self.assign(one, [source], lambda x: arithmetic.truncate(x, target))
        if "bf16" in (to, source):
            if "f32" not in (to, source):
                raise Fault("unknown conversion")
            return self.assign(one, [source], f32_to_bf16 if to == "bf16" else bf16_to_f32)
        # Between integers: cut, or extended by the sign of the source.
        return self.assign(one, [source], lambda x: x.astype(target))

    def access(self, one: Instruction, registers: str, place: str):
        """Space, register names, dtype, and base and offset of the address."""
        modifiers = set(one.modifiers)
        (space,), vector = modifiers & _SPACES, modifiers & {"v2", "v4"}
        if unknown := modifiers - _SPACES - _HINTS - vector:
            raise Fault(f"unknown modifiers {sorted(unknown)}")
        names = [name.strip() for name in registers.strip("{}").split(",")]
        if len(names) != (int(vector.pop()[1:]) if vector else 1):
            raise Fault("vector and registers do not agree")
        name, offset = self.address(place)
        base = None if space == "param" else self.source(name, "u64" if space == "global" else "u32")
        return space, names, DTYPES[one.types[0]], base or name, offset

    def op_ld(self, one: Instruction):
        space, names, dtype, base, offset = self.access(one, *one.operands)
        sinks = [self.sink(name) for name in names]
        if space == "param":
            return lambda b: sinks[0](b, b.param(base, offset, dtype))

        def load(b) -> None:
            values = b.load(space, base(b), offset, dtype, len(sinks))
            for index, sink in enumerate(sinks):
                sink(b, values[:, index])

        return load

    def op_st(self, one: Instruction):
        space, names, dtype, base, offset = self.access(one, *reversed(one.operands))
        sources = [self.source(name, one.types[0]) for name in names]
        return lambda b: b.store(space, base(b), offset, [source(b) for source in sources], dtype)

    def op_shfl(self, one: Instruction):
        to, what, lane_mask, clamp, members = one.operands
        if one.modifiers != ["sync", "bfly"] or clamp not in ("31", "0x1f") or members != "-1":
            raise Fault("unknown shuffle")
        source, sink, order = self.source(what, "b32"), self.sink(to), np.arange(WARP) ^ int(lane_mask, 0)

        def shuffle(b) -> None:
            b.require_whole(WARP, "a shuffle")
            sink(b, np.broadcast_to(source(b), b.lanes).reshape(-1, WARP)[:, order].reshape(-1))

        return shuffle

    def op_bar(self, one: Instruction):
        if one.modifiers != ["sync"] or one.operands != ["0"]:
            raise Fault("unknown barrier")
        return lambda b: b.barrier()

    def op_mma(self, one: Instruction):
        """A product of a warp's matrices in TF32; `sci_kernels.triton` has which thread has which numbers."""
        k = {"m16n8k8": 8, "m16n8k4": 4}[one.modifiers[2]]
        if one.opcode != f"mma.sync.aligned.m16n8k{k}.row.col.f32.tf32.tf32.f32":
            raise Fault(f"unknown opcode {one.opcode}")
        d, *sources = ([name.strip() for name in operand.strip("{}").split(",")] for operand in one.operands)
        a, b_, c = ([self.source(name, "f32") for name in names] for names in sources)
        sinks = [self.sink(name) for name in d]

        def numbers(b, of: list) -> list[np.ndarray]:
            return [np.broadcast_to(source(b), b.lanes).reshape(-1, 8, 4) for source in of]

        def multiply(b) -> None:
            b.require_whole(WARP, "a product of matrices")
            parts = numbers(b, a)
            left = np.concatenate([np.concatenate(parts[i : i + 2], 1) for i in range(0, len(parts), 2)], 2)
            right = np.concatenate([part.swapaxes(1, 2) for part in numbers(b, b_)], 1)
            c0, c1, c2, c3 = numbers(b, c)
            before = np.concatenate([np.stack(pair, 3).reshape(-1, 8, 8) for pair in ((c0, c1), (c2, c3))], 1)
            result = arithmetic.tensor_core(left, right, before)
            for index, sink in enumerate(sinks):
                half = slice(8 * (index // 2), 8 * (index // 2) + 8)
                sink(b, np.ascontiguousarray(result[:, half, index % 2 :: 2]).reshape(-1))

        return multiply
