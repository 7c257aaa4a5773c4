/* Bands of rows on the threads of the OpenMP runtime that PyTorch runs on.
 *
 * Its functions come as addresses: compiled with -fopenmp, this library would load a second runtime beside PyTorch's.
 */
#include <fenv.h>
#include <stdint.h>
#include <string.h>

typedef int kernel(const void *problem, int64_t first, int64_t end);

typedef struct {
    void (*parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags); /* GOMP_parallel */
    int (*in_parallel)(void), (*thread_number)(void);
} runtime;

typedef struct {
    const runtime *openmp;
    kernel *function;
    const void *problem;
    int64_t rows, bands;
    char *taken; /* of each band: 1 once a thread has begun it */
    int failed;
    fenv_t environment; /* of the caller: rounding, and whether numbers below the normal ones count as 0 */
} call;

/* What each thread does. It begins with the band that PyTorch's loops would give it, whose memory may lie in its cache,
 * and then takes what no other has begun: each band is run once, however many threads the runtime gives. */
static void work(void *data) {
    call *shared = data;
    const int64_t rows = shared->rows, bands = shared->bands, own = shared->openmp->thread_number();
    fenv_t before;
    fegetenv(&before);
    fesetenv(&shared->environment);
    for (int64_t step = 0; step < bands; ++step) {
        const int64_t band = (own + step) % bands;
        if (__atomic_exchange_n(shared->taken + band, 1, __ATOMIC_RELAXED)) continue;
        if (shared->function(shared->problem, rows * band / bands, rows * (band + 1) / bands))
            __atomic_store_n(&shared->failed, 1, __ATOMIC_RELAXED);
    }
    fesetenv(&before);
}

/* Runs function(problem, first, end) for so many bands that make up all rows; returns 1 if one returned not 0. */
int run_in_bands(const runtime *openmp, kernel *function, const void *problem, int64_t rows, int64_t bands,
                 unsigned threads) {
    char taken[bands];
    memset(taken, 0, bands);
    call shared = {.openmp = openmp, .function = function, .problem = problem, .rows = rows, .bands = bands};
    shared.taken = taken;
    fegetenv(&shared.environment);
    if (openmp->in_parallel()) work(&shared); /* as PyTorch, which does not nest */
    else openmp->parallel(work, &shared, threads, 0);
    return shared.failed;
}
