/* The Retinex step and its gradient, element by element.
 *
 * Formulas: sci_kernels.retinex and sci_kernels/blocked/retinex_step.py. Comparisons with NaN are false, and the code
 * is written so that NaN then stays NaN.
 */
#include "vectors.h"

typedef struct {
    const real *residual, *stage_input, *image, *grad_illumination, *grad_reflectance;
    real *illumination, *reflectance, *grad_sum, *grad_image;
    real lowest, highest; /* illumination */
} problem;

int retinex(const problem *job, int64_t first, int64_t end) {
    for (int64_t i = first; i < end; i += LANES) {
#define LOAD(name) load_part(job->name + i, job->name + end, (vec){0})
#define STORE(name, x) store_part(job->name + i, job->name + end, x)
        const vec light = clamp(LOAD(residual) + LOAD(stage_input), job->lowest, job->highest);
        const vec result = clamp(LOAD(image) / light, 0, 1);
        STORE(illumination, light);
        STORE(reflectance, result);
    }
    return 0;
}

int retinex_gradient(const problem *job, int64_t first, int64_t end) {
    const vec none = {0};
    for (int64_t i = first; i < end; i += LANES) {
        const vec sum = LOAD(residual) + LOAD(stage_input), light = clamp(sum, job->lowest, job->highest);
        const vec quotient = LOAD(image) / light;
        const vec g = choose((quotient >= 0) & (quotient <= 1), LOAD(grad_reflectance), none);
        /* A product even where g is 0: 0 times a number that is not finite is NaN, as with autograd. */
        const vec direct = LOAD(grad_illumination) - g * (quotient / light);
        STORE(grad_image, g / light);
        STORE(grad_sum, choose((sum >= job->lowest) & (sum <= job->highest), direct, none));
    }
    return 0;
}
