/* The enhance network and the brightening of the image, row by row. Formulas: sci_kernels.enhance.
 *
 * A thread marches down its rows. Each new row of the image completes a row of features of the first convolution one
 * row above, that one of the second another row above, and that a row of the result. Only the rows that the next step
 * needs are kept, so that all of them stay in cache. Each lane computes one pixel by the same operations in the same
 * order, wherever it lies, so that a part of an image has the bits of the whole.
 */
#include "pixels.h"

#define LAYERS 3
#define TAPS 27
#define BLOCK 4 /* vectors computed together: enough sums at once to keep the multipliers busy */
#define STEP (BLOCK * LANES)
#define IMAGE_ROWS 4
#define FEATURE_ROWS 3

typedef struct {
    const pixel *image;
    pixel *result, *illumination; /* illumination may be NULL */
    real *gain; /* (N, H, W) or NULL */
    const real *exposure; /* (N,), or NULL for the division */
    int64_t height, width;
    int64_t from_image, from_channel, from_row, from_column; /* strides of the image, in elements */
    int64_t to_image, to_channel, to_row, to_column; /* and of both results */
    real weights[LAYERS][CHANNELS][TAPS + 1]; /* (input channel, dy, dx), then the bias */
    real lowest, highest; /* illumination */
    real luma[CHANNELS];
    real share; /* 0.5 / illumination of black: factor of the light that the network adds, in the gain */
    real fade; /* how much of a color turns gray per unit of exposure */
} problem;

/* Rows of three planes; `nothing` stands for any row outside the image. */
typedef struct {
    real *image, *first, *second, *nothing, *result, *illumination, *gain;
    int64_t pitch, height;
} rows;

/* Where row `row` is kept in a ring of `count`; `nothing` outside the image. */
INLINE real *slot(const rows *r, real *ring, int64_t count, int64_t row) {
    if (row < 0 || row >= r->height) ring = r->nothing, row = 0;
    return ring + row % count * CHANNELS * r->pitch + LANES;
}

static void surround(const rows *r, real *row, int64_t width) {
    for (int c = 0; c < CHANNELS; ++c, row += r->pitch) {
        memset(row - LANES, 0, LANES * sizeof(real));
        memset(row + width, 0, (r->pitch - LANES - width) * sizeof(real));
    }
}

/* sums[v][o] = bias + the 3x3 convolution of three rows, for the pixels from `at` on. */
INLINE void convolve(vec sums[BLOCK][CHANNELS], const real weights[CHANNELS][TAPS + 1], const real *const row[3],
                     int64_t pitch, int64_t at) {
    for (int v = 0; v < BLOCK; ++v)
        for (int o = 0; o < CHANNELS; ++o) sums[v][o] = (vec){0} + weights[o][TAPS];
    for (int dy = 0; dy < 3; ++dy) {
        vec part[BLOCK][CHANNELS] = {0}; /* sums of 9 products: smaller rounding errors than one sum of 27 */
        for (int c = 0; c < CHANNELS; ++c)
            for (int dx = 0; dx < 3; ++dx)
                for (int v = 0; v < BLOCK; ++v) {
                    vec x = load(row[dy] + c * pitch + at + v * LANES + dx - 1);
                    IN_REGISTER(x);
                    for (int o = 0; o < CHANNELS; ++o) part[v][o] += weights[o][9 * c + 3 * dy + dx] * x;
                }
        for (int v = 0; v < BLOCK; ++v)
            for (int o = 0; o < CHANNELS; ++o) sums[v][o] += part[v][o];
    }
}

INLINE vec relu(vec x) { return (vec)((ivec)x & ~(x < 0)); }

/* A row of features: relu(convolution), to which `add` adds the middle row. */
INLINE void features(const problem *job, const rows *r, int layer, const real *const row[3], real *to, int add) {
    for (int64_t at = 0; at < job->width; at += STEP) {
        vec sums[BLOCK][CHANNELS];
        convolve(sums, job->weights[layer], row, r->pitch, at);
        for (int v = 0; v < BLOCK; ++v)
            for (int o = 0; o < CHANNELS; ++o) {
                const int64_t place = o * r->pitch + at + v * LANES;
                const vec x = relu(sums[v][o]);
                store_all(to + place, add ? x + load(row[1] + place) : x);
            }
    }
    surround(r, to, job->width);
}

INLINE vec sigmoid(vec x) {
    const vec e = exp_of_negative(-magnitude(x));
    return choose(x < 0, e, (vec){0} + 1) / (1 + e);
}

/* A value in the units in which results are kept until they are written: bytes are 255 times the value. */
INLINE vec in_pixels(vec x) { return BYTES ? x * 255 : x; }

/* The same, rounded half to even. */
INLINE vec in_whole_pixels(vec x) {
    const real big = (real)1.5 * (1ll << MANTISSA);
    return BYTES ? (x * 255 + big) - big : x;
}

/* Multiplies a vector of pixels by one gain for all channels, with exposure c; `light` is their illumination. */
INLINE void expose(const problem *job, const rows *r, int64_t place, const vec image[CHANNELS],
                   const vec light[CHANNELS], real c) {
    const vec zero = {0}, half = zero + (real)0.5;
    vec x[CHANNELS], luma = zero, added = zero;
    for (int o = 0; o < CHANNELS; ++o) {
        x[o] = clamp(image[o], 0, 1);
        luma += job->luma[o] * x[o];
        added += light[o] - x[o];
    }
    const vec larger = choose(x[0] > x[1], x[0], x[1]), largest = choose(larger > x[2], larger, x[2]);
    const vec share = added * (job->share / CHANNELS), s = half + choose(share > half, half, share);
    const vec gain = (c + s) / (c * largest + s);
    const real fade = c * job->fade;
    for (int o = 0; o < CHANNELS; ++o) {
        const vec y = clamp(gain * (x[o] + fade * (luma - x[o])), 0, 1);
        store_all(r->result + o * r->pitch + place, in_whole_pixels(y));
    }
    store_all(r->gain + place, gain);
}

enum way { DIVIDED, EXPOSED, UNCHANGED };

/* A row of the results, from the rows of features around it and the image. */
INLINE void brighten(const problem *job, const rows *r, const real *const row[3], const real *image, enum way way,
                     real c) {
    for (int64_t at = 0; at < job->width; at += STEP) {
        vec sums[BLOCK][CHANNELS];
        convolve(sums, job->weights[2], row, r->pitch, at);
        for (int v = 0; v < BLOCK; ++v) {
            const int64_t first = at + v * LANES;
            vec x[CHANNELS], light[CHANNELS];
            for (int o = 0; o < CHANNELS; ++o) {
                const int64_t place = o * r->pitch + first;
                x[o] = load(image + place);
                light[o] = clamp(sigmoid(sums[v][o]) + x[o], job->lowest, job->highest);
                store_all(r->illumination + place, in_pixels(light[o]));
                if (way == DIVIDED) store_all(r->result + place, in_pixels(clamp(x[o] / light[o], 0, 1)));
                if (way == UNCHANGED) store_all(r->result + place, in_whole_pixels(x[o]));
            }
            if (way == EXPOSED) expose(job, r, first, x, light, c);
            if (way == UNCHANGED) store_all(r->gain + first, (vec){0} + 1);
        }
    }
}

static void bring(const problem *job, const rows *r, int64_t image, int64_t row) {
    real *to = slot(r, r->image, IMAGE_ROWS, row);
    const pixel *from = job->image + image * job->from_image + row * job->from_row;
    read_pixels(to, r->pitch, from, job->width, job->from_channel, job->from_column, 255);
    surround(r, to, job->width);
}

static void write(const problem *job, const rows *r, int64_t image, int64_t row) {
    if (job->gain) memcpy(job->gain + (image * job->height + row) * job->width, r->gain, job->width * sizeof(real));
    const int64_t start = image * job->to_image + row * job->to_row;
    const int64_t channel = job->to_channel, column = job->to_column;
    write_pixels(job->result + start, r->result, r->pitch, job->width, channel, column);
    if (job->illumination)
        write_pixels(job->illumination + start, r->illumination, r->pitch, job->width, channel, column);
}

/* Fills row[0 ... 2] with the rows of a ring around `y`. */
INLINE void around(const rows *r, real *ring, int64_t count, int64_t y, const real *row[3]) {
    for (int64_t dy = -1; dy <= 1; ++dy) row[dy + 1] = slot(r, ring, count, y + dy);
}

/* Rows from `first` to `end` of one image. Each step reads row y and computes the rows that it completes. */
static void march(const problem *job, const rows *r, int64_t image, int64_t first, int64_t end) {
    const int64_t h = job->height;
    const real *row[3];
    for (int64_t y = first < 3 ? 0 : first - 3; y < end + 3; ++y) {
        if (y < h) bring(job, r, image, y);
        if (y >= first - 1 && y - 1 >= 0 && y - 1 < h) {
            around(r, r->image, IMAGE_ROWS, y - 1, row);
            features(job, r, 0, row, slot(r, r->first, FEATURE_ROWS, y - 1), 0);
        }
        if (y >= first + 1 && y - 2 >= 0 && y - 2 < h) {
            around(r, r->first, FEATURE_ROWS, y - 2, row);
            features(job, r, 1, row, slot(r, r->second, FEATURE_ROWS, y - 2), 1);
        }
        if (y >= first + 3) {
            around(r, r->second, FEATURE_ROWS, y - 3, row);
            const real *x = slot(r, r->image, IMAGE_ROWS, y - 3);
            if (!job->exposure)
                brighten(job, r, row, x, DIVIDED, 0);
            else if (job->exposure[image] == 0)
                brighten(job, r, row, x, UNCHANGED, 0);
            else
                brighten(job, r, row, x, EXPOSED, job->exposure[image]);
            write(job, r, image, y - 3);
        }
    }
}

/* Rows from `first` to `end`, without `end`, of the N * H rows; returns 0, or 1 if there is no memory. */
int enhance(const problem *job, int64_t first, int64_t end) {
    const int64_t pitch = (job->width + STEP - 1) / STEP * STEP + 2 * LANES, planes = CHANNELS * pitch;
    real *memory = allocate((IMAGE_ROWS + 2 * FEATURE_ROWS + 3) * planes + pitch);
    if (!memory) return 1;
    real *const first_features = memory + IMAGE_ROWS * planes, *const second = first_features + FEATURE_ROWS * planes;
    real *const nothing = second + FEATURE_ROWS * planes;
    real *const result = nothing + planes, *const illumination = result + planes, *const gain = illumination + planes;
    const rows r = {memory, first_features, second, nothing, result, illumination, gain, pitch, job->height};
    while (first < end) {
        const int64_t image = first / job->height, below = (image + 1) * job->height;
        const int64_t stop = end < below ? end : below;
        march(job, &r, image, first - image * job->height, stop - image * job->height);
        first = stop;
    }
    free(memory);
    return 0;
}
