/* The exposure of sampled images. Formulas: sci_kernels.exposure.
 *
 * Each image is computed by one thread: it has few points, and waking threads for each of Newton's sums would take
 * longer than the sums. These are in double precision.
 */
#include <math.h>

#include "vectors.h"

#define CHANNELS 3
#define STEPS 8

typedef struct {
    const real *image, *light; /* (N, 3, count), contiguous */
    real *exposure; /* (N,) */
    int64_t count;
    real target, luma[CHANNELS], share, highlights, largest;
} problem;

/* For each point m, l, l s, l s (1 - m) and s, which the sums are computed from. */
typedef struct {
    double m, luma, weighted, rest, s;
} point;

static real limited(real x) { return x < 0 ? 0 : x > 1 ? 1 : x; } /* NaN stays NaN */

static point point_at(const problem *job, const real *image, const real *light, int64_t at) {
    real m = 0, luma = 0, added = 0;
    for (int c = 0; c < CHANNELS; ++c) {
        const real x = limited(image[c * job->count + at]);
        luma += job->luma[c] * x;
        added += light[c * job->count + at] - x;
        if (x > m) m = x;
    }
    const real half = (real)0.5, share = added * (job->share / CHANNELS), s = half + (share > half ? half : share);
    return (point){m, luma, (double)luma * s, (double)luma * s * (1 - (double)m), s};
}

static double found(const problem *job, const point *points) {
    const double count = job->count;
    double mean = 0, powers = 0, c = 0;
    for (int64_t i = 0; i < job->count; ++i) {
        const double square = points[i].m * points[i].m, fourth = square * square;
        mean += points[i].luma;
        powers += fourth * fourth;
    }
    mean /= count;
    const double h = sqrt(sqrt(sqrt(powers / count))), bound = job->highlights / (h > 1e-3 ? h : 1e-3);
    const double cap = bound < job->largest ? bound : job->largest;
    for (int step = 0; step < STEPS; ++step) {
        double f = 0, slope = 0;
        for (int64_t i = 0; i < job->count; ++i) {
            const double q = 1 / (c * points[i].m + points[i].s);
            f += (c * points[i].luma + points[i].weighted) * q;
            slope += points[i].rest * q * q;
        }
        f /= count, slope /= count;
        if (!(f < job->target && slope > 0)) break;
        const double next = c + (job->target - f) / slope;
        c = next < cap ? next : cap;
    }
    /* Comparisons with NaN are false, so images that are not finite get 0 and stay as they are. */
    return mean > 0 && mean < job->target ? c : 0;
}

/* Images from `first` to `end`, without `end`; returns 0, or 1 if there is no memory. */
int find_exposure(const problem *job, int64_t first, int64_t end) {
    point *points = malloc(job->count * sizeof *points);
    if (!points) return 1;
    for (int64_t image = first; image < end; ++image) {
        const int64_t start = image * CHANNELS * job->count;
        for (int64_t at = 0; at < job->count; ++at)
            points[at] = point_at(job, job->image + start, job->light + start, at);
        job->exposure[image] = found(job, points);
    }
    free(points);
    return 0;
}
