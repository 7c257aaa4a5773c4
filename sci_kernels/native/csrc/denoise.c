/* The denoising filter, row by row, a vector of pixels at a time. Formulas: sci_kernels.denoise.
 *
 * The five rows that a row needs are kept in a ring, as planes of numbers. Each lane computes one pixel by the same
 * operations in the same order, wherever it lies, so that a part of an image has the bits of the whole. Each pixel has
 * its own sigma, so the two weights of a pair differ. Its distance is computed for both: to keep it would take as long.
 *
 * Bytes are filtered as numbers from 0 to 255.
 */
#include "pixels.h"

#define RADIUS 2
#define ROWS (2 * RADIUS + 1)

typedef struct {
    const pixel *image;
    const real *gain;
    pixel *result;
    int64_t height, width;
    int64_t from_image, from_channel, from_row, from_column; /* strides of the image, in elements */
    int64_t gain_image, gain_channel, gain_row, gain_column;
    int64_t to_image, to_channel, to_row, to_column;
    real factor; /* -log2(e) / (2 sigma^2) where the gain is 1 */
    real spread; /* -log2(e) / (2 reach^2) */
} problem;

/* Rows with LANES numbers of padding before them; `inside` has all bits set for columns inside the image. */
typedef struct {
    real *ring, *scale, *result, *inside;
    int64_t pitch;
} rows;

/* Values that become bytes are rounded half to even. */
INLINE vec rounded(vec x) { return BYTES ? (x + (real)0x1p23) - (real)0x1p23 : x; }

static real *slot(const rows *r, int64_t row) { return r->ring + row % ROWS * CHANNELS * r->pitch + LANES; }

static void bring(const problem *job, const rows *r, int64_t image, int64_t row) {
    const pixel *from = job->image + image * job->from_image + row * job->from_row;
    read_pixels(slot(r, row), r->pitch, from, job->width, job->from_channel, job->from_column, 1);
}

static void write(const problem *job, const rows *r, int64_t image, int64_t row) {
    pixel *to = job->result + image * job->to_image + row * job->to_row;
    write_pixels(to, r->result + LANES, r->pitch, job->width, job->to_channel, job->to_column);
}

/* Writes -log2(e) / (2 sigma^2) of each pixel of a row to `scale`. */
static void read_gain(const problem *job, const rows *r, int64_t image, int64_t row) {
    const real *from = job->gain + image * job->gain_image + row * job->gain_row;
    real *to = r->scale + LANES;
    for (int64_t x = 0; x < job->width; ++x) {
        const real gain = from[x * job->gain_column];
        to[x] = job->factor / (gain * gain);
    }
}

/* 2^t for t <= 0. */
INLINE vec weight_of(vec t) {
#if BYTES
    /* Accurate to 1e-4, much less than a gray level. The sum's low bits are the integer nearest to t. */
    const vec sum = t + (real)0x1.8p23, r = t - (sum - (real)0x1.8p23);
    const vec p = ((r * 0.0551717f + 0.2426111f) * r + 0.6932610f) * r + 0.9999281f;
    return (vec)(((ivec)p + (ivec)((uvec)sum << MANTISSA)) & ~(t < LOWEST));
#else
    return exp2_of_negative(t);
#endif
}

/* Adds the pixels at `there` to the sums, weighted by their distance from `own`. */
INLINE void neighbor(vec sum[CHANNELS], vec *weights, const vec own[CHANNELS], vec scale, real nearness,
                      const real *there, int64_t pitch, vec inside) {
    vec square = {0};
    for (int c = 0; c < CHANNELS; ++c) {
        const vec difference = load(there + c * pitch) - own[c];
        square = c ? difference * difference + square : difference * difference;
    }
    const vec weight = (vec)((ivec)weight_of(square * scale + nearness) & (ivec)inside);
    *weights += weight;
    for (int c = 0; c < CHANNELS; ++c) sum[c] += weight * load(there + c * pitch);
}

/* Filters a vector of pixels. Rows outside the image are NULL; with `border`, columns may be outside, too. */
INLINE void filter(const problem *job, const rows *r, const real *const row[ROWS], int64_t at, int border) {
    const vec scale = load(r->scale + LANES + at), all = (vec)((ivec){0} - 1);
    vec own[CHANNELS], sum[CHANNELS], weights = (vec){0} + 1;
    for (int c = 0; c < CHANNELS; ++c) sum[c] = own[c] = load(row[RADIUS] + c * r->pitch + at);
#pragma GCC unroll 5
    for (int dy = -RADIUS; dy <= RADIUS; ++dy) {
        if (!row[dy + RADIUS]) continue;
#pragma GCC unroll 5
        for (int dx = -RADIUS; dx <= RADIUS; ++dx)
            if (dy || dx)
                neighbor(sum, &weights, own, scale, job->spread * (dy * dy + dx * dx), row[dy + RADIUS] + at + dx,
                          r->pitch, border ? load(r->inside + LANES + at + dx) : all);
    }
    for (int c = 0; c < CHANNELS; ++c) store_all(r->result + LANES + c * r->pitch + at, rounded(sum[c] / weights));
}

/* Rows from `first` to `end` of one image. */
static void march(const problem *job, const rows *r, int64_t image, int64_t first, int64_t end) {
    const int64_t h = job->height, w = job->width;
    for (int64_t y = first > RADIUS ? first - RADIUS : 0; y < first + RADIUS && y < h; ++y) bring(job, r, image, y);
    for (int64_t y = first; y < end; ++y) {
        const real *row[ROWS];
        if (y + RADIUS < h) bring(job, r, image, y + RADIUS);
        read_gain(job, r, image, y);
        for (int dy = -RADIUS; dy <= RADIUS; ++dy) row[dy + RADIUS] = y + dy < 0 || y + dy >= h ? NULL : slot(r, y + dy);
        int64_t at = 0;
        filter(job, r, row, at, 1);
        for (at += LANES; at + LANES + RADIUS <= w; at += LANES) filter(job, r, row, at, 0);
        for (; at < w; at += LANES) filter(job, r, row, at, 1);
        write(job, r, image, y);
    }
}

/* Rows from `first` to `end`, without `end`, of the N * H rows; returns 0, or 1 if there is no memory. */
int denoise(const problem *job, int64_t first, int64_t end) {
    const int64_t pitch = (job->width + LANES - 1) / LANES * LANES + 2 * LANES, planes = CHANNELS * pitch;
    real *memory = allocate((ROWS + 1) * planes + 2 * pitch);
    if (!memory) return 1;
    real *const result = memory + ROWS * planes, *const scale = result + planes, *const inside = scale + pitch;
    memset(inside + LANES, 0xff, job->width * sizeof(real));
    const rows r = {memory, scale, result, inside, pitch};
    while (first < end) {
        const int64_t image = first / job->height, below = (image + 1) * job->height;
        const int64_t stop = end < below ? end : below;
        march(job, &r, image, first - image * job->height, stop - image * job->height);
        first = stop;
    }
    free(memory);
    return 0;
}
