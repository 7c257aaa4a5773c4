"""What the marching kernels share: which pixels a thread owns, and how it reads and writes them.

A thread owns a strip of COLS neighboring columns and marches down a band of `march` rows of it. In each row it also
reads the two columns on either side. Images are contiguous: element (n, c, y, x) is at ((n C + c) H + y) W + x, and
`plane` is H W. A program has N = BANDS * STRIPS threads; N is 32, a warp, except where kernels are interpreted.

Each column of a row is a tensor [N] of its own, one number per thread. So the neighbor at a shift is another tensor of
the tuple, and nothing moves between threads. "Own" columns are COLS tensors; "sides" are 4: -2, -1, COLS and COLS + 1.

If W is a multiple of 4 (VECTOR, COLS = 4), a row is read in pieces of 2, 4 and 2 columns, vectors of up to 16 bytes in
float32, which are taken apart in registers; otherwise column by column. In both cases a mask for a piece that may lie
outside the image is a tensor [N] or [N, 1], and masked elements are 0. Rows outside the image are clamped to its first
or last row instead: what they would add is removed by the caller.
"""

import triton
import triton.language as tl


@triton.jit
def split4(strip, N: tl.constexpr):
    """The four columns [N] of a strip [N, 4]; a row of it lies in one thread, so nothing moves."""
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
    """This program's image, and the first row and column of each thread's strip [N].

    The grid runs over images, then over tiles of BANDS * march rows and STRIPS * COLS columns, row by row. More than
    one band per program serves only to make interpreted programs few.
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
    """The pieces of a row's columns -2 ... COLS + 1, as offsets, and masks of those inside the image.

    The masks are those of the sides, then those of the own columns, () if these need none: with VECTOR a thread beyond
    the right border reads the last strip again, and with SHIFT a strip that would cross that border is moved left until
    it ends there (W >= COLS). The caller must not store or count the columns that such a thread does not own.
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
    """Where a row begins in a plane, to be added to the columns; rows outside the image are clamped into it."""
    start = tl.minimum(tl.maximum(row, 0), H - 1).to(tl.int64) * W
    return start[:, None] if VECTOR else start


@triton.jit
def load_own(ptr, columns, inside, VECTOR: tl.constexpr, COLS: tl.constexpr, ACC: tl.constexpr):
    """The own columns in the pieces they are read in, 0 where masked; `ptr` points at the beginning of the row."""
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
    """Prefetches a strip and its sides in the row that `ptr` points at, into the cache of level PREFETCH, 1 or 2.

    Together, the threads of a warp prefetch everything but the right side of the last one.
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
    """The sides in the pieces they are read in, 0 where masked.

    AGAIN: this row's sides were read before, and are read from the cache again. Otherwise the compiler would keep them
    in registers.
    """
    # .ca is the default of a load, but the compiler does not merge a load that says so with one that does not.
    modifier: tl.constexpr = ".ca" if AGAIN else ""
    pieces: tl.tuple = ()
    for k in tl.static_range(2 if VECTOR else 4):
        column = columns[2 * k if VECTOR else (k if k < 2 else COLS + k)]
        pieces = pieces + (tl.load(ptr + column, mask=beside[k], other=0.0, cache_modifier=modifier).to(ACC),)
    return pieces


@triton.jit
def split_own(pieces, VECTOR: tl.constexpr, N: tl.constexpr):
    """The own columns as COLS tensors [N]."""
    return split4(pieces[0], N) if VECTOR else pieces


@triton.jit
def split_sides(pieces, VECTOR: tl.constexpr):
    """The sides as 4 tensors [N]."""
    if VECTOR:
        a, b = tl.split(pieces[0])
        c, d = tl.split(pieces[1])
        return (a, b, c, d)
    else:
        return pieces


@triton.jit
def store_own(ptr, columns, owned, wanted, own, VECTOR: tl.constexpr, COLS: tl.constexpr, N: tl.constexpr):
    """Writes the COLS own columns [N] in the pointer's dtype, for the threads that are `wanted` [N].

    `owned`: () or a further mask [N] for each column.
    """
    if VECTOR:
        tl.store(ptr + columns[1], join4(own, N), mask=wanted[:, None])
    else:
        for j in tl.static_range(COLS):
            if len(owned) > 0:
                tl.store(ptr + columns[2 + j], own[j], mask=wanted & owned[j])
            else:
                tl.store(ptr + columns[2 + j], own[j], mask=wanted)
