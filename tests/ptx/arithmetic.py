"""Arithmetic of the PTX ISA on numpy arrays: one rounding for fma, NaN and zeros as its tables say, 16-bit formats."""

from fractions import Fraction

import numpy as np

UNSIGNED = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8")}


def add_to_odd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b in float64, rounded to odd: rounding the result once more rounds the exact sum once."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    bits = total.view(np.int64)
    move = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    outwards = (error > 0) == (total > 0)
    return np.where(move, bits + np.where(outwards, 1, -1), bits).view(np.float64)


def fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    product = a.astype(np.float64) * b  # exact
    c = c.astype(np.float64)
    total = product + c
    # Rounded twice is wrong only next to the middle of two float32, or of two subnormal ones.
    middle = total.view(np.uint64) & 0x1FFFFFFF == 0x10000000
    if (middle | ((np.abs(total) < 2.0**-124) & (total != 0))).any():
        total = add_to_odd(*np.broadcast_arrays(product, c))
    return total.astype(np.float32)


def _split(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = a * 134217729.0
    high = scaled - (scaled - a)
    return high, a - high


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Boldo and Melquiond's emulation; exact fractions where its intermediates would over- or underflow."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product = a * b
    (ah, al), (bh, bl) = _split(a), _split(b)
    low = al * bl - (((product - ah * bh) - al * bh) - ah * bl)
    high, rest = _two_sum(c, low)
    top, bottom = _two_sum(product, high)
    result = top + add_to_odd(bottom, rest)
    naive = product + c
    big = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.maximum(np.abs(c), np.abs(product)))
    small = (np.abs(product) < 2.0**-900) & (a != 0) & (b != 0)
    result = np.where(np.isfinite(naive) & (a != 0) & (b != 0), result, naive)
    for lane in np.flatnonzero(np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & ((big > 2.0**990) | small)):
        exact = Fraction(float(a[lane])) * Fraction(float(b[lane])) + Fraction(float(c[lane]))
        try:
            result[lane] = float(exact) if exact else naive[lane]
        except OverflowError:
            result[lane] = np.inf if exact > 0 else -np.inf
    return result


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return fma32(a, b, c) if a.dtype == np.float32 else fma64(a, b, c)


def flush(x: np.ndarray) -> np.ndarray:
    """Subnormal float32 numbers to 0 of their sign."""
    bits = x.view(np.uint32)
    return np.where(bits & 0x7F800000 == 0, bits & 0x80000000, bits).view(np.float32)


def off(exact: np.ndarray, argument: np.ndarray, ulps: int) -> np.ndarray:
    """A float64 result as float32, moved by -ulps ... ulps, of which the bits of the argument decide."""
    x = exact.astype(np.float32)
    hashed = argument.view(np.uint32).astype(np.uint64) * np.uint64(2654435761) >> np.uint64(13)
    moved = (x.view(np.int32) + (hashed % np.uint64(2 * ulps + 1)).astype(np.int32) - ulps).view(np.float32)
    return flush(np.where(np.isfinite(x) & np.isfinite(moved) & (np.abs(x) > 2.0**-120), moved, x))


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def extreme(x: np.ndarray, y: np.ndarray, largest: bool, nan: bool) -> np.ndarray:
    """min or max: -0 < +0; of a number and a NaN the number, unless `nan`."""
    x, y = np.broadcast_arrays(x, y)
    pick = (np.maximum if nan else np.fmax) if largest else (np.minimum if nan else np.fmin)
    unsigned = UNSIGNED[x.itemsize]
    both = (x.view(unsigned) & y.view(unsigned)) if largest else (x.view(unsigned) | y.view(unsigned))
    return np.where(x == y, both.view(x.dtype), pick(x, y))


def xorsign(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """min.NaN.xorsign.abs.f32: the smaller magnitude with the product of the signs."""
    value = extreme(np.abs(x), np.abs(y), False, True)
    sign = (x.view(np.uint32) ^ y.view(np.uint32)) & np.uint32(0x80000000)
    return np.where(np.isnan(value), value, (value.view(np.uint32) | sign).view(np.float32))


def exp2(x: np.ndarray) -> np.ndarray:
    """ex2.approx.ftz.f32, as far off as its specification permits."""
    return off(np.exp2(flush(x).astype(np.float64)), x, 2)


def reciprocal(x: np.ndarray) -> np.ndarray:
    """rcp.approx.ftz.f32, as far off as its specification permits."""
    return off(1.0 / flush(x).astype(np.float64), x, 1)


def root(x: np.ndarray) -> np.ndarray:
    """sqrt.approx.ftz.f32, as far off as its specification permits."""
    return off(np.sqrt(flush(x).astype(np.float64)), x, 1)


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """div.full.f32, as far off as its specification permits, for results that are not subnormal."""
    return off(a.astype(np.float64) / b, a, 2)


def quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between integers, towards 0."""
    return ((a - np.fmod(a, b)) // b).astype(a.dtype)


def truncate(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """cvt.rzi from float32: the nearest of the type for what is outside it, 0 for NaN."""
    limits = np.iinfo(to)
    return np.clip(np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0), limits.min, limits.max).astype(to)


def shift(a: np.ndarray, by: np.ndarray, left: bool) -> np.ndarray:
    """shl or shr: bits beyond all of them are 0, or the sign's."""
    bits = a.itemsize * 8
    limit = np.minimum(by, bits - 1).astype(a.dtype)
    if left or a.dtype.kind == "u":
        return np.where(by >= bits, 0, a << limit if left else a >> limit).astype(a.dtype)
    return a >> limit


def bit_field(x: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """bfe, with the sign of its highest bit for signed types."""
    first, count = first.astype(np.uint64), count.astype(np.uint64)
    mask = (np.uint64(1) << count) - np.uint64(1)
    bits = x.view(UNSIGNED[x.itemsize]).astype(np.uint64) >> first & mask
    if x.dtype.kind == "i":
        sign = bits >> (np.maximum(count, 1) - np.uint64(1)) & np.uint64(1)
        bits = np.where((sign == 1) & (count > 0), bits | ~mask, bits)
    return bits.astype(UNSIGNED[x.itemsize]).view(x.dtype)


def comparison(name: str, kind: str):
    """A setp comparison of two typed arrays; ordered but for the names that end in u."""
    relations = {
        "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal
    }  # fmt: skip
    if kind == "f":
        if name in ("nan", "num"):
            return lambda a, b: (np.isnan(a) | np.isnan(b)) == (name == "nan")
        relation, unordered = relations[name.removesuffix("u") if len(name) == 3 else name], len(name) == 3

        def compare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            either = np.isnan(a) | np.isnan(b)
            return relation(a, b) | either if unordered else relation(a, b) & ~either

        return compare
    return relations[{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(name, name)]


def halves(x: np.ndarray, type: str) -> list[np.ndarray]:
    """A packed pair of 16-bit floats as two float32 arrays, low first; of a single one, the first."""
    parts = [(x.astype(np.uint32) >> np.uint32(bits)).astype(np.uint16) for bits in (0, 16)]
    return [bf16_to_f32(p) if type.startswith("b") else p.view(np.float16).astype(np.float32) for p in parts]


def pack_halves(low: np.ndarray, high: np.ndarray, type: str) -> np.ndarray:
    low, high = (f32_to_bf16(x) if type.startswith("b") else x.astype(np.float16).view("u2") for x in (low, high))
    return low.astype(np.uint32) | high.astype(np.uint32) << np.uint32(16)


def tensor_core(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """c + a b of float32 matrices: 11 digits of a and b are read, and each sum of 4 products and what there was is cut.

    PTX leaves open how sums are rounded; that they are cut is what measurements of several NVIDIA GPUs found.
    """
    a, b = ((x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for x in (a, b))
    for k in range(0, a.shape[-1], 4):
        exact = c.astype(np.float64) + a[..., k : k + 4] @ b[..., k : k + 4, :]
        c = exact.astype(np.float32)
        c = np.where(np.abs(c.astype(np.float64)) > np.abs(exact), np.nextafter(c, np.float32(0)), c)
    return c
