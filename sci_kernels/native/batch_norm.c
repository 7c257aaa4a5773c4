/* BatchNorm, ReLU and residual of channels_last features, a block of pixels at a time.
 *
 * Formulas: sci_kernels/batch_norm.py. Memory is (pixels, CHANNELS); CHANNELS is given on the
 * command line, and BLOCK, a multiple of 16 LANES. What is
 * of a channel is repeated over PERIOD vectors, after which the channels begin anew. Sums are made over a block, whose
 * pixels are few, and left in double precision to the caller, who adds them in their order: the number of threads
 * changes no bit.
 */
#include "vectors.h"

/* CHANNELS over its greatest common divisor with LANES, a power of two. */
#define LOW_BIT (CHANNELS & -CHANNELS)
#define PERIOD (CHANNELS / (LOW_BIT < LANES ? LOW_BIT : LANES))
#define LIMIT (CHANNELS * BLOCK)

typedef struct {
    const real *z, *grad, *residual; /* (pixels, CHANNELS); residual may be NULL */
    real *out;                       /* the same; may be grad */
    double *partial;                 /* (blocks, 2, CHANNELS) */
    const real *mean, *scale, *beta, *slope, *offset; /* (CHANNELS * LANES): each channel's, over and over */
    int64_t pixels;
} problem;

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

/* Runs statements for every vector of the pixels of a block: `at` is its place, `v` its place in the period. Where a
 * period is `whole`, its vectors are written out: what they sum stays in registers, and no end is looked for. */
#define EACH_VECTOR(start, end, ...) \
    do { \
        int64_t base = (start); \
        for (; base + PERIOD * LANES <= (end); base += PERIOD * LANES) \
            UNROLL for (int64_t v = 0; v < PERIOD; ++v) { \
                const int64_t at = base + v * LANES; \
                const int whole = 1; \
                __VA_ARGS__ \
            } \
        for (int64_t v = 0, at = base; at < (end); ++v, at += LANES) { \
            const int whole = 0; \
            __VA_ARGS__ \
        } \
    } while (0)

/* A block in stretches of a few pixels, whose sums lose no digit worth the name in single precision. */
#define EACH_STRETCH(start, end) \
    for (int64_t from = (start), to; to = from + LIMIT / 16 < (end) ? from + LIMIT / 16 : (end), from < (end); from = to)

INLINE vec load_vector(int whole, const real *from, const real *end, vec beyond) {
    return whole ? load(from) : load_part(from, end, beyond);
}

INLINE void store_vector(int whole, real *to, const real *end, vec x) {
    if (whole) memcpy(to, &x, sizeof x);
    else store_part(to, end, x);
}

/* Adds the lanes of PERIOD vectors to their channels. */
INLINE void add_up(const vec *sums, double *channels) {
    for (int64_t v = 0; v < PERIOD; ++v)
        for (int64_t lane = 0; lane < LANES; ++lane) channels[(v * LANES + lane) % CHANNELS] += sums[v][lane];
}

INLINE int64_t end_of(const problem *job, int64_t block) {
    const int64_t end = (block + 1) * LIMIT, all = job->pixels * CHANNELS;
    return end < all ? end : all;
}

/* Of each block: the sums of z, and of (z - m)^2 for an m that rounding alone keeps from being the block's mean. */
int statistics(const problem *job, int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
        const int64_t start = block * LIMIT, end = end_of(job, block), pixels = (end - start) / CHANNELS;
        double *sum = job->partial + 2 * CHANNELS * block, *square = sum + CHANNELS, rough[CHANNELS] = {0};
        vec sums[PERIOD], squares[PERIOD], middle[PERIOD];
        memset(sums, 0, sizeof sums);
        EACH_VECTOR(start, end, sums[v] += load_vector(whole, job->z + at, job->z + end, (vec){0}););
        add_up(sums, rough);
        for (int64_t v = 0; v < PERIOD; ++v)
            for (int64_t lane = 0; lane < LANES; ++lane) middle[v][lane] = rough[(v * LANES + lane) % CHANNELS] / pixels;
        /* What is summed without m has the digits that the first sum lost. */
        for (int64_t c = 0; c < CHANNELS; ++c) {
            sum[c] = pixels * (double)middle[c / LANES][c % LANES];
            square[c] = 0.0;
        }
        EACH_STRETCH(start, end) {
            memset(sums, 0, sizeof sums);
            memset(squares, 0, sizeof squares);
            EACH_VECTOR(from, to,
                const vec difference = load_vector(whole, job->z + at, job->z + end, middle[v]) - middle[v];
                sums[v] += difference;
                squares[v] += difference * difference;
            );
            add_up(sums, sum);
            add_up(squares, square);
        }
    }
    return 0;
}

/* z - mean, from which everything is made: far from 0, z itself would cost digits. */
INLINE vec centered(const problem *job, int whole, int64_t at, int64_t end, int64_t v) {
    return load_vector(whole, job->z + at, job->z + end, (vec){0}) - load(job->mean + v * LANES);
}

/* What relu sees of a centered z. */
INLINE vec normalized(const problem *job, int64_t v, vec z) {
    return z * load(job->scale + v * LANES) + load(job->beta + v * LANES);
}

/* g: the gradient where relu's argument is positive, or NaN. */
INLINE vec let_through(const problem *job, int whole, int64_t at, int64_t end, int64_t v, vec z) {
    const vec grad = load_vector(whole, job->grad + at, job->grad + end, (vec){0});
    return (vec)((ivec)grad & ~(normalized(job, v, z) <= 0));
}

/* out = relu(scale (z - mean) + beta) [+ residual] */
int apply(const problem *job, int64_t first, int64_t last) {
    const int64_t start = first * LIMIT, end = end_of(job, last - 1);
    EACH_VECTOR(start, end,
        vec x = normalized(job, v, centered(job, whole, at, end, v));
        x = (vec)((ivec)x & ~(x < 0)); /* NaN stays */
        if (job->residual) x += load_vector(whole, job->residual + at, job->residual + end, (vec){0});
        store_vector(whole, job->out + at, job->out + end, x);
    );
    return 0;
}

/* Of each block: the sums of g and of g (z - mean), g being the gradient that relu lets through. */
int sums(const problem *job, int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
        const int64_t start = block * LIMIT, end = end_of(job, block);
        double *sum = job->partial + 2 * CHANNELS * block;
        vec direct[PERIOD], product[PERIOD];
        memset(sum, 0, 2 * CHANNELS * sizeof *sum);
        EACH_STRETCH(start, end) {
            memset(direct, 0, sizeof direct);
            memset(product, 0, sizeof product);
            EACH_VECTOR(from, to,
                const vec z = centered(job, whole, at, end, v), g = let_through(job, whole, at, end, v, z);
                direct[v] += g;
                product[v] += g * z;
            );
            add_up(direct, sum);
            add_up(product, sum + CHANNELS);
        }
    }
    return 0;
}

/* out = scale g + slope (z - mean) + offset */
int gradient(const problem *job, int64_t first, int64_t last) {
    const int64_t start = first * LIMIT, end = end_of(job, last - 1);
    EACH_VECTOR(start, end,
        const vec z = centered(job, whole, at, end, v), g = let_through(job, whole, at, end, v, z);
        const vec rest = load(job->slope + v * LANES) * z + load(job->offset + v * LANES);
        store_vector(whole, job->out + at, job->out + end, load(job->scale + v * LANES) * g + rest);
    );
    return 0;
}
