/* Runs bands of rows on the threads of PyTorch's OpenMP runtime.
 *
 * The runtime's functions are passed as addresses: compiled with -fopenmp, this library would load a second runtime.
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
    char *taken; /* for each band 1, once a thread has begun it */
    int failed;
    fenv_t environment; /* of the caller: rounding mode, and whether subnormal numbers count as 0 */
} call;

/* Runs on each thread. It begins with the band that PyTorch's loops would give the thread, whose memory may be in its
 * cache, and goes on with bands that no other has begun: each band is run once, however many threads there are. */
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

/* Runs function(problem, first, end) for `bands` bands that together are all rows; returns 1 if a call did not return
 * 0. */
int run_in_bands(const runtime *openmp, kernel *function, const void *problem, int64_t rows, int64_t bands,
                 unsigned threads) {
    char taken[bands];
    memset(taken, 0, bands);
    call shared = {.openmp = openmp, .function = function, .problem = problem, .rows = rows, .bands = bands};
    shared.taken = taken;
    fegetenv(&shared.environment);
    if (openmp->in_parallel()) work(&shared); /* like PyTorch, which does not nest parallel loops */
    else openmp->parallel(work, &shared, threads, 0);
    return shared.failed;
}
