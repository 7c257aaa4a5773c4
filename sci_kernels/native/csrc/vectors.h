/* Vectors as wide as the processor's, by the extension that GCC and Clang share. DOUBLE is given on the command line:
 * 0 for vectors of floats, 1 for doubles. */
#ifndef SCI_KERNELS_VECTORS_H
#define SCI_KERNELS_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if DOUBLE
typedef double real;
typedef int64_t bits;
typedef uint64_t unsigned_bits;
#define SIGN INT64_MIN
#define MANTISSA 52
#define LOWEST -1022.0
#define BIAS 1023
#define LN2_HIGH 0x1.62e42fefa0000p-1 /* few digits, so that its product with an integer is exact */
#define LN2_LOW 0x1.cf79abc9e3b3ap-40
#define TERMS 14
/* ln(2)^k / k!, the Taylor series of 2^r: on [-1/2, 1/2] the remainder is below 1e-17. */
static const real EXP2[TERMS] = {
    1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158, 0.009618129107628477,
    0.0013333558146428443, 0.0001540353039338161, 1.5252733804059841e-05, 1.321548679014431e-06,
    1.01780860092397e-07, 7.054911620801123e-09, 4.4455382718708116e-10, 2.5678435993488206e-11, 1.3691488853904128e-12,
};
#else
typedef float real;
typedef int32_t bits;
typedef uint32_t unsigned_bits;
#define SIGN INT32_MIN
#define MANTISSA 23
#define LOWEST -126.0f
#define BIAS 127
#define LN2_HIGH 0x1.62e400p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define TERMS 7
/* The best polynomial of degree 6 for 2^r on [-1/2, 1/2]: relative error 2e-9. */
static const real EXP2[TERMS] = {1.0f, 0.6931472f, 0.24022646f, 0.055503286f, 0.009618489f, 0.0013399934f, 0.0001534582f};
#endif

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
#define LOG2E 1.4426950408889634
#define LANES ((int64_t)(WIDTH / sizeof(real)))

typedef real vec __attribute__((vector_size(WIDTH)));
typedef bits ivec __attribute__((vector_size(WIDTH)));
typedef unsigned_bits uvec __attribute__((vector_size(WIDTH)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* Keeps x in a register: otherwise GCC reads it from memory again for each product. */
#if defined(__x86_64__)
#define IN_REGISTER(x) __asm__("" : "+v"(x))
#else
#define IN_REGISTER(x) (void)(x)
#endif

/* Memory for `count` zeros, aligned for vectors; `count` is a multiple of LANES. NULL if there is none. */
INLINE real *allocate(int64_t count) {
    real *memory = aligned_alloc(WIDTH, count * sizeof(real));
    if (memory) memset(memory, 0, count * sizeof(real));
    return memory;
}

/* Loads the part of a vector that lies before `end`; the rest is that of `beyond`. */
INLINE vec load_part(const real *from, const real *end, vec beyond) {
    vec x = beyond;
    memcpy(&x, from, end - from < LANES ? (end - from) * sizeof(real) : sizeof x);
    return x;
}

/* Stores the part of a vector that lies before `end`. */
INLINE void store_part(real *to, const real *end, vec x) {
    memcpy(to, &x, end - to < LANES ? (end - to) * sizeof(real) : sizeof x);
}

INLINE void store_all(real *to, vec x) { memcpy(to, &x, sizeof x); }

INLINE vec choose(ivec where, vec yes, vec no) { return (vec)(((ivec)yes & where) | ((ivec)no & ~where)); }

/* x within [low, high]; NaN stays NaN. */
INLINE vec clamp(vec x, real low, real high) {
    const vec none = {0};
    return choose(x < low, none + low, choose(x > high, none + high, x));
}

INLINE vec magnitude(vec x) { return (vec)((ivec)x & ~SIGN); }

/* Adding this rounds to an integer n, and leaves n + BIAS, the exponent field of 2^n, in the low bits of the sum. */
#define ROUNDING ((real)1.5 * (1ll << MANTISSA) + BIAS)

/* 2^(n + r), from n + ROUNDING and r in [-1/2, 1/2]. By a product, in which a NaN stays NaN. */
INLINE vec exp2_of_parts(vec rounded, vec r) {
    vec p = r * EXP2[TERMS - 1] + EXP2[TERMS - 2];
    for (int k = TERMS - 3; k >= 0; --k) p = p * r + EXP2[k];
    return p * (vec)((uvec)rounded << MANTISSA);
}

/* 2^t for t <= 0, within about a unit in the last place; 0 below the smallest normal number; NaN for NaN. */
INLINE vec exp2_of_negative(vec t) {
    const vec rounded = t + ROUNDING;
    return (vec)((ivec)exp2_of_parts(rounded, t - (rounded - ROUNDING)) & ~(t < LOWEST));
}

/* e^x for x <= 0, as accurately: rounding x log2(e) would lose as many digits as it has before the point. */
INLINE vec exp_of_negative(vec x) {
    const vec t = x * (real)LOG2E, rounded = t + ROUNDING, n = rounded - ROUNDING;
    const vec r = ((x - n * (real)LN2_HIGH) - n * (real)LN2_LOW) * (real)LOG2E;
    return (vec)((ivec)exp2_of_parts(rounded, r) & ~(t < LOWEST));
}

#endif
