"""The pixels of a thread: a strip of COLS neighbors in a row, and the two columns on either side that they reach.

Each column is a tensor [N], so that a shift is another index and nothing moves between threads. Where rows begin at
multiples of 4 (VECTOR, COLS = 4) a row is read as vectors of 2, 4 and 2 columns (16 bytes in float32), and taken
apart in registers; elsewhere column by column. The own columns are COLS tensors, the sides 4: -2, -1, COLS, COLS + 1.
"""

import triton
import triton.language as tl


@triton.jit
def split4(strip, N: tl.constexpr):
    """The four columns [N] of a strip [N, 4]; all of a row lie in one thread, so nothing moves."""
    even, odd = tl.split(tl.reshape(strip, [N, 2, 2]))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return (a, b, c, d)


@triton.jit
def join4(columns, N: tl.constexpr):
    """The strip [N, 4] of four columns [N]."""
    a, b, c, d = columns
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [N, 4])


@triton.jit
def strip_position(H, W, march, BANDS: tl.constexpr, STRIPS: tl.constexpr, COLS: tl.constexpr):
    """This program's image, and the first row and column of each thread's strips [N], N = BANDS * STRIPS.

    Programs lie on a one-dimensional grid over images and tiles of BANDS * march rows; a thread marches down its
    band of `march` rows, so that several bands a program exist only to make interpreted programs few.
    """
    tiles_w = tl.cdiv(W, STRIPS * COLS)
    tiles_h = tl.cdiv(H, march * BANDS)
    pid = tl.program_id(0)
    image = (pid // (tiles_h * tiles_w)).to(tl.int64)
    rest = pid % (tiles_h * tiles_w)
    thread = tl.arange(0, BANDS * STRIPS)
    top = (rest // tiles_w * BANDS + thread // STRIPS) * march
    left = rest % tiles_w * (STRIPS * COLS) + thread % STRIPS * COLS
    return image, top, left


@triton.jit
def strip_columns(left, W, COLS: tl.constexpr, VECTOR: tl.constexpr, SHIFT: tl.constexpr):
    """Columns of a row from -2 to COLS + 1 in the pieces they are read in, and which of them are inside the image.

    The masks are those of the pieces beside the strip, then those of the strip itself, () where it needs none:
    vectors of a thread beyond the right border are those of the last strip, and with SHIFT a strip that would cross
    that border is moved left until it ends there (W >= COLS). What another strip owns must not be stored or counted.
    """
    if VECTOR:
        own = tl.minimum(left, W - 4).to(tl.int64)[:, None]
        two = tl.arange(0, 2)[None, :]
        pieces = (own - 2 + two, own + tl.arange(0, 4)[None, :], own + 4 + two)
        return pieces, (own >= 4, own + 4 < W), ()
    else:
        first = tl.minimum(left, W - COLS) if SHIFT else left
        columns: tl.tuple = ()
        inside: tl.tuple = ()
        for j in tl.static_range(-2, COLS + 2):
            columns = columns + (first.to(tl.int64) + j,)
            inside = inside + ((first + j >= 0) & (first + j < W),)
        if SHIFT:
            return columns, inside[:2] + inside[COLS + 2 :], ()
        else:
            return columns, inside[:2] + inside[COLS + 2 :], inside[2 : COLS + 2]


@triton.jit
def row_offsets(row, H, W, VECTOR: tl.constexpr):
    """Where a row begins in a plane, for columns to be added to; rows outside the image are its first and last."""
    start = tl.minimum(tl.maximum(row, 0), H - 1).to(tl.int64) * W
    return start[:, None] if VECTOR else start


@triton.jit
def load_own(ptr, columns, inside, VECTOR: tl.constexpr, COLS: tl.constexpr, ACC: tl.constexpr):
    """The strip itself in the pieces it is read in, 0 outside the image; `ptr` points at the row's beginning."""
    if VECTOR:
        return (tl.load(ptr + columns[1]).to(ACC),)
    else:
        pieces: tl.tuple = ()
        for j in tl.static_range(COLS):
            if len(inside) > 0:
                piece = tl.load(ptr + columns[2 + j], mask=inside[j], other=0.0)
            else:
                piece = tl.load(ptr + columns[2 + j])
            pieces = pieces + (piece.to(ACC),)
        return pieces


@triton.jit
def prefetch(ptr, plane, left, W, CHANNELS: tl.constexpr, PREFETCH: tl.constexpr):
    """Asks for a strip and the columns beside it in the row that `ptr` points at, to be near when they are read.

    PREFETCH is the cache, 1 or 2. What neighboring threads ask for together is all but the last thread's right side.
    """
    L1: tl.constexpr = "prefetch.global.L1 [$1]; mov.b32 $0, 0;"
    L2: tl.constexpr = "prefetch.global.L2 [$1]; mov.b32 $0, 0;"
    asm: tl.constexpr = L1 if PREFETCH == 1 else L2
    before = tl.maximum(tl.minimum(left, W) - 2, 0)
    after = tl.minimum(left + 4, W - 1)
    for channel in tl.static_range(CHANNELS):
        row = ptr + channel * plane
        tl.inline_asm_elementwise(asm, "=r,l", [row + before], dtype=tl.int32, is_pure=False, pack=1)
        tl.inline_asm_elementwise(asm, "=r,l", [row + after], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def load_sides(ptr, columns, beside, AGAIN: tl.constexpr, VECTOR: tl.constexpr, COLS: tl.constexpr, ACC: tl.constexpr):
    """The columns beside the strip in the pieces they are read in, 0 outside the image.

    AGAIN reads what was read before from the cache, where the compiler would keep it in registers.
    """
    # .ca is what a load does anyway, but makes it another operation than one without.
    modifier: tl.constexpr = ".ca" if AGAIN else ""
    pieces: tl.tuple = ()
    for k in tl.static_range(2 if VECTOR else 4):
        column = columns[2 * k if VECTOR else (k if k < 2 else COLS + k)]
        pieces = pieces + (tl.load(ptr + column, mask=beside[k], other=0.0, cache_modifier=modifier).to(ACC),)
    return pieces


@triton.jit
def split_own(pieces, VECTOR: tl.constexpr, N: tl.constexpr):
    """The strip as COLS columns [N]."""
    return split4(pieces[0], N) if VECTOR else pieces


@triton.jit
def split_sides(pieces, VECTOR: tl.constexpr):
    """The columns beside the strip as 4 columns [N]."""
    if VECTOR:
        a, b = tl.split(pieces[0])
        c, d = tl.split(pieces[1])
        return (a, b, c, d)
    else:
        return pieces


@triton.jit
def store_own(ptr, columns, owned, wanted, own, VECTOR: tl.constexpr, COLS: tl.constexpr, N: tl.constexpr):
    """Writes COLS columns [N] in the pointer's dtype for the threads that are `wanted` [N].

    Columns of which `owned` has masks [N] are written where those say so, too.
    """
    if VECTOR:
        tl.store(ptr + columns[1], join4(own, N), mask=wanted[:, None])
    else:
        for j in tl.static_range(COLS):
            if len(owned) > 0:
                tl.store(ptr + columns[2 + j], own[j], mask=wanted & owned[j])
            else:
                tl.store(ptr + columns[2 + j], own[j], mask=wanted)
