/* The loss and its gradients, row by row: each pixel compared with its neighbors, a vector of pixels at a time.
 *
 * Formulas: sci_kernels/blocked/smooth_loss.py. With gradients, every pixel gathers from all 24 neighbors, so that each
 * sum is computed in one place and in a fixed order, whatever the number of threads; without, 12 pairs suffice. The
 * five rows of Y and L that a row needs are kept in a ring. On either side they are padded with columns whose color is
 * so far from all others that their weight is 0.
 *
 * CHANNELS (of the input) and LIGHTS (of the illumination), 1 to 3, are given on the command line. If a sum is not
 * finite, the caller computes it otherwise: here NaN must reach the loss, but need not stay in its pixel's gradient.
 */
#include "vectors.h"

#if DOUBLE
#define FAR_AWAY 1e200
#else
#define FAR_AWAY 1e30f
#endif
#define ROWS 5
#define PLANES (CHANNELS + LIGHTS)

enum { REFERENCE, YCBCR, RGB };

typedef struct {
    const real *input, *light; /* (N, CHANNELS, H, W), (N, LIGHTS, H, W) */
    real *grad_input, *grad_light; /* of the same shapes, or NULL; grad_input is that of Y in REFERENCE colors */
    double *partial; /* (N * H,): each row's part of the loss */
    int64_t height, width, color;
    real matrix[9], bias[3]; /* y[p] = bias[p] + sum_k matrix[3 k + p] x[k] */
    real ratio[25]; /* log2 of H W / ((H - |dy|) (W - |dx|)), offsets row by row */
    real exponent; /* -log2(e) / (2 sigma^2) */
    real smooth, smooth_y, fidelity; /* factors of sum w d, of w d e, and of (l - x)^2 */
} problem;

typedef struct {
    real *outside, *slots, *raw;
    size_t pitch;
} ring;

INLINE void transform(const real *matrix, const real *bias, const real *x, real *y) {
    for (int p = 0; p < 3; ++p) y[p] = bias[p] + (matrix[p] * x[0] + matrix[3 + p] * x[1] + matrix[6 + p] * x[2]);
}

/* Writes `width` elements of Y from `start` on, for triples of consecutive elements, and up to 2 more on each side. */
static void transform_triples(const problem *restrict job, const real *restrict x, real *restrict y, int64_t start) {
    const int64_t first = start / 3, last = (start + job->width + 2) / 3;
    const real *from = x + 3 * first;
    real *to = y - start % 3;
    for (int64_t triple = 0; triple < last - first; ++triple)
        transform(job->matrix, job->bias, from + 3 * triple, to + 3 * triple);
}

static void transform_pixels(const problem *restrict job, const real *restrict x, real *restrict y, size_t pitch) {
    const int64_t plane = job->height * job->width;
    for (int64_t i = 0; i < job->width; ++i) {
        const real pixel[3] = {x[i], x[plane + i], x[2 * plane + i]};
        real mixed[3];
        transform(job->matrix, job->bias, pixel, mixed);
        for (int p = 0; p < 3; ++p) y[p * pitch + i] = mixed[p];
    }
}

INLINE real *slot(const ring *rows, int64_t row) {
    return rows->slots + (row % ROWS) * PLANES * rows->pitch;
}

static void surround(real *row, int64_t width, size_t pitch, real value) {
    for (int64_t i = 0; i < LANES; ++i) row[i - LANES] = value;
    for (int64_t i = width; i < (int64_t)pitch - LANES; ++i) row[i] = value;
}

/* Reads row `row` of image `image` into the ring: the planes of Y, then those of L. */
static void bring(const problem *job, const ring *rows, int64_t image, int64_t row) {
    const int64_t h = job->height, w = job->width;
    real *to = slot(rows, row) + LANES;
    const real *input = job->input + (image * CHANNELS * h + row) * w;
    if (CHANNELS == 3 && job->color == YCBCR) transform_pixels(job, input, to, rows->pitch);
    for (int c = 0; c < PLANES; ++c, to += rows->pitch) {
        if (c >= CHANNELS)
            memcpy(to, job->light + ((image * LIGHTS + c - CHANNELS) * h + row) * w, w * sizeof(real));
        else if (job->color == REFERENCE)
            transform_triples(job, job->input, to, ((image * CHANNELS + c) * h + row) * w);
        else if (job->color == RGB)
            memcpy(to, input + c * h * w, w * sizeof(real));
        surround(to, w, rows->pitch, c < CHANNELS ? FAR_AWAY : 0.0);
    }
}

typedef struct {
    vec y[CHANNELS], l[LIGHTS]; /* the pixel's own */
    vec grad_y[CHANNELS], grad_l[LIGHTS], loss;
} sums;

INLINE void neighbor(sums *s, const real *there, size_t pitch, real exponent, real ratio, int grad_y, int grad_l) {
    vec e[CHANNELS], f[LIGHTS], square, distance;
    for (int c = 0; c < CHANNELS; ++c) {
        e[c] = load(there + c * pitch) - s->y[c];
        square = c ? e[c] * e[c] + square : e[c] * e[c];
    }
    for (int c = 0; c < LIGHTS; ++c) {
        f[c] = load(there + (CHANNELS + c) * pitch) - s->l[c];
        distance = c ? distance + magnitude(f[c]) : magnitude(f[c]);
    }
    const vec weight = exp2_of_negative(square * exponent + ratio);
    const vec product = weight * distance;
    s->loss += product;
    if (grad_y)
        for (int c = 0; c < CHANNELS; ++c) s->grad_y[c] += product * e[c];
    if (grad_l)
        for (int c = 0; c < LIGHTS; ++c) {
            s->grad_l[c] -= (vec)(((ivec)weight | ((ivec)f[c] & SIGN)) & (f[c] != 0)); /* sign(0) = 0 */
        }
}

INLINE double total(vec x) {
    double sum = 0.0;
    for (int i = 0; i < LANES; ++i) sum += x[i];
    return sum;
}

/* Adds the fidelity term of one vector of pixels: returns its sum and adds to both gradients. */
INLINE vec fidelity(const problem *job, const ring *rows, int64_t at, const vec *light, vec *grad_x, vec *grad_l) {
    vec sum = {0};
    for (int c = 0; c < CHANNELS && c < LIGHTS; ++c) {
        const vec difference = light[c] - load(rows->raw + c * rows->pitch + LANES + at);
        sum += difference * difference;
        grad_l[c] += 2 * job->fidelity * difference;
        grad_x[c] -= 2 * job->fidelity * difference;
    }
    return sum;
}

/* Computes one row; row[0 ... 4] are the rows from two above to two below. */
INLINE void pass(const problem *job, const ring *rows, const real *const *row, int64_t image, int64_t y, int grad_x,
                 int grad_l) {
    const int64_t h = job->height, w = job->width;
    const int gather = grad_x || grad_l;
    double smooth_sum = 0.0, fidelity_sum = 0.0;
    for (int64_t at = 0; at < w; at += LANES) {
        sums s = {0};
        for (int c = 0; c < CHANNELS; ++c) s.y[c] = load(row[2] + c * rows->pitch + at);
        for (int c = 0; c < LIGHTS; ++c) s.l[c] = load(row[2] + (CHANNELS + c) * rows->pitch + at);
#define NEIGHBOR(dy, dx) \
    neighbor(&s, row[(dy) + 2] + at + (dx), rows->pitch, job->exponent, job->ratio[5 * ((dy) + 2) + (dx) + 2], grad_x, grad_l)
        if (gather) NEIGHBOR(0, -2), NEIGHBOR(0, -1);
        NEIGHBOR(0, 1), NEIGHBOR(0, 2);
        for (int dy = gather ? -2 : 1; dy <= 2; dy += gather && dy == -1 ? 2 : 1)
            NEIGHBOR(dy, -2), NEIGHBOR(dy, -1), NEIGHBOR(dy, 0), NEIGHBOR(dy, 1), NEIGHBOR(dy, 2);
#undef NEIGHBOR
        smooth_sum += total(s.loss);
        vec g_x[3] = {0}, g_l[3] = {0};
        for (int c = 0; c < LIGHTS; ++c) g_l[c] = 2 * job->smooth * s.grad_l[c];
        for (int c = 0; c < CHANNELS; ++c) {
            s.grad_y[c] *= job->smooth_y;
            g_x[c] = s.grad_y[c];
        }
        if (CHANNELS == 3 && job->color == YCBCR)
            for (int k = 0; k < 3; ++k)
                g_x[k] = job->matrix[3 * k] * s.grad_y[0] + job->matrix[3 * k + 1] * s.grad_y[1] +
                         job->matrix[3 * k + 2] * s.grad_y[2];
        if (job->fidelity != 0.0) {
            vec unused[3] = {0};
            fidelity_sum += total(fidelity(job, rows, at, s.l, job->color == REFERENCE ? unused : g_x, g_l));
        }
        for (int c = 0; grad_x && c < CHANNELS; ++c) {
            real *to = job->grad_input + ((image * CHANNELS + c) * h + y) * w;
            store_part(to + at, to + w, g_x[c]);
        }
        for (int c = 0; grad_l && c < LIGHTS; ++c) {
            real *to = job->grad_light + ((image * LIGHTS + c) * h + y) * w;
            store_part(to + at, to + w, g_l[c]);
        }
    }
    job->partial[image * h + y] = (gather ? 1.0 : 2.0) * job->smooth * smooth_sum + job->fidelity * fidelity_sum;
}

/* Reads the input itself, for the fidelity term. Its padding is 0, as that of the illumination: the difference is 0. */
static void bring_raw(const problem *job, const ring *rows, int64_t image, int64_t y) {
    for (int c = 0; c < CHANNELS; ++c) {
        real *to = rows->raw + c * rows->pitch + LANES;
        memcpy(to, job->input + ((image * CHANNELS + c) * job->height + y) * job->width, job->width * sizeof(real));
        surround(to, job->width, rows->pitch, 0.0);
    }
}

static void rows_of_image(const problem *job, const ring *rows, int64_t image, int64_t first, int64_t end) {
    for (int64_t y = first > 2 ? first - 2 : 0; y < first + 2 && y < job->height; ++y) bring(job, rows, image, y);
    for (int64_t y = first; y < end; ++y) {
        const real *row[ROWS];
        if (y + 2 < job->height) bring(job, rows, image, y + 2);
        if (job->fidelity != 0.0) bring_raw(job, rows, image, y);
        for (int64_t dy = -2; dy <= 2; ++dy)
            row[dy + 2] = (y + dy < 0 || y + dy >= job->height ? rows->outside : slot(rows, y + dy)) + LANES;
        if (job->grad_input && job->grad_light)
            pass(job, rows, row, image, y, 1, 1);
        else if (job->grad_light)
            pass(job, rows, row, image, y, 0, 1);
        else if (job->grad_input)
            pass(job, rows, row, image, y, 1, 0);
        else
            pass(job, rows, row, image, y, 0, 0);
    }
}

/* Rows from `first` to `end`, without `end`, of the N * H rows; returns 0, or 1 if there is no memory. */
int smooth_loss(const problem *job, int64_t first, int64_t end) {
    const size_t pitch = (job->width + LANES - 1) / LANES * LANES + 2 * LANES;
    real *memory = allocate(((ROWS + 1) * PLANES + CHANNELS) * pitch);
    if (!memory) return 1;
    const ring rows = {memory, memory + PLANES * pitch, memory + (ROWS + 1) * PLANES * pitch, pitch};
    for (size_t i = 0; i < PLANES * pitch; ++i) rows.outside[i] = i < CHANNELS * pitch ? FAR_AWAY : 0.0;
    while (first < end) {
        const int64_t image = first / job->height, below = (image + 1) * job->height;
        const int64_t stop = end < below ? end : below;
        rows_of_image(job, &rows, image, first - image * job->height, stop - image * job->height);
        first = stop;
    }
    free(memory);
    return 0;
}

/* In REFERENCE colors: turns triples of the gradient of Y, from `first` to `end`, into those of the input, in place. */
int gradient_of_triples(const problem *job, int64_t first, int64_t end) {
    real matrix[9];
    memcpy(matrix, job->matrix, sizeof matrix);
    real *restrict g = job->grad_input + 3 * first;
    for (int64_t i = 0; i < end - first; ++i) {
        const real a = g[3 * i], b = g[3 * i + 1], c = g[3 * i + 2];
        for (int k = 0; k < 3; ++k) g[3 * i + k] = matrix[3 * k] * a + matrix[3 * k + 1] * b + matrix[3 * k + 2] * c;
    }
    if (job->fidelity != 0) {
        const real factor = 2 * job->fidelity;
        const real *restrict l = job->light + 3 * first, *restrict x = job->input + 3 * first;
        for (int64_t i = 0; i < 3 * (end - first); ++i) g[i] -= factor * (l[i] - x[i]);
    }
    return 0;
}
