/* BatchNorm, ReLU and residual of channels_last features, a block of pixels at a time.
 *
 * Formulas: sci_kernels/batch_norm.py. Features are (pixels, CHANNELS) in memory. Given on the command line are
 * CHANNELS; BLOCK, the pixels of a block, a multiple of 16 LANES; and SOURCES, the most that `apply` can add up (4). As
 * the elements of a vector belong to several channels, values of channels are repeated over PERIOD vectors, after which
 * channel and lane are the same again.
 *
 * Each block is summed by itself, and its sums are kept in double precision. A function `finish_...`, called when all
 * blocks are done, adds these in a fixed order, so that the number of threads changes no bit.
 */
#include <math.h>

#include "vectors.h"

/* CHANNELS over its greatest common divisor with LANES, a power of two. */
#define LOW_BIT (CHANNELS & -CHANNELS)
#define PERIOD (CHANNELS / (LOW_BIT < LANES ? LOW_BIT : LANES))
#define LIMIT (CHANNELS * BLOCK)

typedef struct {
    const real *z[SOURCES];     /* (pixels, CHANNELS) */
    const real *table[SOURCES]; /* (4, CHANNELS): mean, scale, beta, invstd; `finish_statistics` writes the first */
    const real *residual;            /* like z, as are those that follow; or NULL */
    real *grad;
    const real *other; /* or NULL; else `sums` adds it to grad */
    real *out;         /* may be grad */
    double *partial;                 /* (blocks, 2, CHANNELS) */
    const real *gamma, *beta, *bias; /* (CHANNELS); bias may be NULL */
    real *running_mean, *running_variance; /* (CHANNELS), or NULL */
    int64_t *batches; /* NULL if those are */
    real *slopes, *parameter_grads; /* (2, CHANNELS), (2 or more, CHANNELS) */
    int64_t pixels, sources, plain; /* plain: the first source has no BatchNorm, and no table */
} problem;

enum { MEAN, SCALE, BETA, INVSTD };

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

/* Runs statements for each vector from `start` to `end`: `at` is its offset, `v` its index in the period. The loop over
 * a `whole` period is unrolled, so that sums stay in registers and no vector is checked for the end. */
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

/* Divides a block into stretches of few pixels, whose sums lose hardly any digits in single precision. */
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

/* One number for each channel, repeated as the vectors of a period need it. */
typedef struct {
    vec of[PERIOD];
} channels;

INLINE void spread(channels *to, const real *from) {
    for (int64_t i = 0; i < PERIOD * LANES; ++i) to->of[i / LANES][i % LANES] = from[i % CHANNELS];
}

/* What the argument of relu is computed from. */
typedef struct {
    channels mean, scale, beta;
} layer;

INLINE void read_layer(layer *to, const real *table) {
    spread(&to->mean, table + MEAN * CHANNELS);
    spread(&to->scale, table + SCALE * CHANNELS);
    spread(&to->beta, table + BETA * CHANNELS);
}

INLINE int64_t blocks_of(const problem *job) { return (job->pixels + BLOCK - 1) / BLOCK; }

INLINE int64_t end_of(const problem *job, int64_t block) {
    const int64_t end = (block + 1) * LIMIT, all = job->pixels * CHANNELS;
    return end < all ? end : all;
}

/* For each block: the sums of z, and of (z - m)^2, where m is the block's mean but for rounding. */
int statistics(const problem *job, int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
        const int64_t start = block * LIMIT, end = end_of(job, block), pixels = (end - start) / CHANNELS;
        double *sum = job->partial + 2 * CHANNELS * block, *square = sum + CHANNELS, rough[CHANNELS] = {0};
        vec sums[PERIOD], squares[PERIOD], middle[PERIOD];
        memset(sums, 0, sizeof sums);
        EACH_VECTOR(start, end, sums[v] += load_vector(whole, job->z[0] + at, job->z[0] + end, (vec){0}););
        add_up(sums, rough);
        for (int64_t v = 0; v < PERIOD; ++v)
            for (int64_t lane = 0; lane < LANES; ++lane) middle[v][lane] = rough[(v * LANES + lane) % CHANNELS] / pixels;
        /* The sum of z - m, added below, has the digits that the first sum lost. */
        for (int64_t c = 0; c < CHANNELS; ++c) {
            sum[c] = pixels * (double)middle[c / LANES][c % LANES];
            square[c] = 0.0;
        }
        EACH_STRETCH(start, end) {
            memset(sums, 0, sizeof sums);
            memset(squares, 0, sizeof squares);
            EACH_VECTOR(from, to,
                const vec difference = load_vector(whole, job->z[0] + at, job->z[0] + end, middle[v]) - middle[v];
                sums[v] += difference;
                squares[v] += difference * difference;
            );
            add_up(sums, sum);
            add_up(squares, square);
        }
    }
    return 0;
}

/* Writes the table, from the sums of all blocks, and updates the running averages. */
void finish_statistics(const problem *job, double eps, double momentum) {
    const int64_t blocks = blocks_of(job);
    real *table = (real *)job->table[0];
    for (int64_t c = 0; c < CHANNELS; ++c) {
        double sum = 0.0, squares = 0.0;
        for (int64_t b = 0; b < blocks; ++b) sum += job->partial[2 * CHANNELS * b + c];
        const double mean = sum / job->pixels;
        for (int64_t b = 0; b < blocks; ++b) {
            const double *partial = job->partial + 2 * CHANNELS * b + c;
            const double count = b < blocks - 1 ? BLOCK : job->pixels - BLOCK * b, apart = partial[0] / count - mean;
            squares += partial[CHANNELS] + count * (apart * apart);
        }
        const double invstd = 1.0 / sqrt(squares / job->pixels + eps);
        table[MEAN * CHANNELS + c] = mean;
        table[SCALE * CHANNELS + c] = job->gamma[c] * invstd;
        table[BETA * CHANNELS + c] = job->beta[c];
        table[INVSTD * CHANNELS + c] = invstd;
        if (job->running_mean) {
            const double whole = job->bias ? mean + job->bias[c] : mean, unbiased = squares / (job->pixels - 1);
            job->running_mean[c] = (1.0 - momentum) * job->running_mean[c] + momentum * whole;
            job->running_variance[c] = (1.0 - momentum) * job->running_variance[c] + momentum * unbiased;
        }
    }
    if (job->running_mean) *job->batches += 1;
}

/* z - mean, with which everything is computed: for a z far from 0 that loses fewer digits than scale z + offset. */
INLINE vec centered(const layer *known, const real *z, int whole, int64_t at, int64_t end, int64_t v) {
    return load_vector(whole, z + at, z + end, (vec){0}) - known->mean.of[v];
}

/* The argument of relu, from a centered z. */
INLINE vec normalized(const layer *known, int64_t v, vec z) { return z * known->scale.of[v] + known->beta.of[v]; }

INLINE vec relu(vec x) { return (vec)((ivec)x & ~(x < 0)); /* NaN stays */ }

INLINE vec load_grad(const problem *job, int whole, int64_t at, int64_t end) {
    return load_vector(whole, job->grad + at, job->grad + end, (vec){0});
}

/* g: the gradient where the argument of relu is positive or NaN, else 0. */
INLINE vec let_through(const layer *known, int64_t v, vec z, vec grad) {
    return (vec)((ivec)grad & ~(normalized(known, v, z) <= 0));
}

/* The loop of `apply`, for a number of sources that is a constant. */
INLINE void add_up_sources(const problem *job, const layer *known, int64_t start, int64_t end, int sources) {
    const int plain = job->plain, residual = job->residual != NULL;
    EACH_VECTOR(start, end,
        vec x = plain ? load_vector(whole, job->z[0] + at, job->z[0] + end, (vec){0})
                      : normalized(known, v, centered(known, job->z[0], whole, at, end, v));
        x = relu(x);
        if (residual) x += load_vector(whole, job->residual + at, job->residual + end, (vec){0});
        for (int s = 1; s < sources; ++s)
            x += relu(normalized(known + s, v, centered(known + s, job->z[s], whole, at, end, v)));
        store_vector(whole, job->out + at, job->out + end, x);
    );
}

/* out = relu(scale (z - mean) + beta) [+ residual] + relu(...) of the other sources */
int apply(const problem *job, int64_t first, int64_t last) {
    const int64_t start = first * LIMIT, end = end_of(job, last - 1);
    layer known[SOURCES];
    memset(known, 0, sizeof *known);
    for (int s = job->plain ? 1 : 0; s < job->sources; ++s) read_layer(known + s, job->table[s]);
    switch (job->sources) {
    case 1: add_up_sources(job, known, start, end, 1); break;
    case 2: add_up_sources(job, known, start, end, 2); break;
    case 3: add_up_sources(job, known, start, end, 3); break;
    default: add_up_sources(job, known, start, end, 4);
    }
    return 0;
}

/* For each block: the sums of g and of g (z - mean). If `two`, first adds `other` to `grad`. */
INLINE void sums_of_blocks(const problem *job, int64_t first, int64_t last, int two) {
    layer known;
    read_layer(&known, job->table[0]);
    for (int64_t block = first; block < last; ++block) {
        const int64_t start = block * LIMIT, end = end_of(job, block);
        double *sum = job->partial + 2 * CHANNELS * block;
        vec direct[PERIOD], product[PERIOD];
        memset(sum, 0, 2 * CHANNELS * sizeof *sum);
        EACH_STRETCH(start, end) {
            memset(direct, 0, sizeof direct);
            memset(product, 0, sizeof product);
            EACH_VECTOR(from, to,
                const vec z = centered(&known, job->z[0], whole, at, end, v);
                vec grad = load_grad(job, whole, at, end);
                if (two) {
                    grad += load_vector(whole, job->other + at, job->other + end, (vec){0});
                    store_vector(whole, job->grad + at, job->grad + end, grad);
                }
                const vec g = let_through(&known, v, z, grad);
                direct[v] += g;
                product[v] += g * z;
            );
            add_up(direct, sum);
            add_up(product, sum + CHANNELS);
        }
    }
}

int sums(const problem *job, int64_t first, int64_t last) {
    if (job->other) sums_of_blocks(job, first, last, 1);
    else sums_of_blocks(job, first, last, 0);
    return 0;
}

/* Adds the gradients of gamma and beta, and writes slope and offset for that of z, from the sums of all blocks. */
void finish_sums(const problem *job) {
    const int64_t blocks = blocks_of(job);
    for (int64_t c = 0; c < CHANNELS; ++c) {
        const double scale = job->table[0][SCALE * CHANNELS + c], invstd = job->table[0][INVSTD * CHANNELS + c];
        double direct = 0.0, product = 0.0;
        for (int64_t b = 0; b < blocks; ++b) {
            direct += job->partial[2 * CHANNELS * b + c];
            product += job->partial[2 * CHANNELS * b + CHANNELS + c];
        }
        job->slopes[c] = -scale * invstd * invstd * product / job->pixels;
        job->slopes[CHANNELS + c] = -scale * direct / job->pixels;
        job->parameter_grads[c] += (real)(product * invstd);
        job->parameter_grads[CHANNELS + c] += (real)direct;
    }
}

/* out = scale g + slope (z - mean) + offset */
int gradient(const problem *job, int64_t first, int64_t last) {
    const int64_t start = first * LIMIT, end = end_of(job, last - 1);
    layer known;
    channels slope, offset;
    read_layer(&known, job->table[0]);
    spread(&slope, job->slopes);
    spread(&offset, job->slopes + CHANNELS);
    EACH_VECTOR(start, end,
        const vec z = centered(&known, job->z[0], whole, at, end, v);
        const vec g = let_through(&known, v, z, load_grad(job, whole, at, end));
        const vec rest = slope.of[v] * z + offset.of[v];
        store_vector(whole, job->out + at, job->out + end, known.scale.of[v] * g + rest);
    );
    return 0;
}

/* For each block: the sums of z. */
int totals(const problem *job, int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
        const int64_t start = block * LIMIT, end = end_of(job, block);
        double *sum = job->partial + 2 * CHANNELS * block;
        vec some[PERIOD];
        memset(sum, 0, CHANNELS * sizeof *sum);
        EACH_STRETCH(start, end) {
            memset(some, 0, sizeof some);
            EACH_VECTOR(from, to, some[v] += load_vector(whole, job->z[0] + at, job->z[0] + end, (vec){0}););
            add_up(some, sum);
        }
    }
    return 0;
}

/* The sums of all blocks, into `out`. */
void finish_totals(const problem *job) {
    for (int64_t c = 0; c < CHANNELS; ++c) {
        double sum = 0.0;
        for (int64_t b = 0; b < blocks_of(job); ++b) sum += job->partial[2 * CHANNELS * b + c];
        job->out[c] = sum;
    }
}
