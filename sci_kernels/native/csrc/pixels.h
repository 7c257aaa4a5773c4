/* Converts rows of pixels, three channels with any strides, to planes of numbers and back.
 *
 * BYTES is given on the command line: 0 for images of `real`, 1 for images of bytes.
 */
#ifndef SCI_KERNELS_PIXELS_H
#define SCI_KERNELS_PIXELS_H

#include "vectors.h"

#define CHANNELS 3

#if BYTES
typedef uint8_t pixel;
#else
typedef real pixel;
#endif

INLINE void read_channel(real *restrict to, const pixel *restrict from, int64_t width, int64_t column, real unit) {
    for (int64_t x = 0; x < width; ++x) to[x] = BYTES ? from[x * column] / unit : from[x * column];
}

INLINE void write_channel(pixel *restrict to, const real *restrict from, int64_t width, int64_t column) {
    for (int64_t x = 0; x < width; ++x) to[x * column] = BYTES ? (pixel)(int)from[x] : from[x];
}

/* Reads a row into planes that are `pitch` apart. Bytes are divided by `unit`.
 *
 * Interleaved channels are read together, with a third of the memory accesses. The usual strides are passed as
 * constants, so that the compiler uses vectors. Not inlined: that would slow the rest of a march over rows down by a
 * tenth.
 */
static void read_pixels(real *restrict to, int64_t pitch, const pixel *restrict from, int64_t width, int64_t channel,
                        int64_t column, real unit) {
    if (channel == 1 && column == CHANNELS) {
        for (int64_t x = 0; x < width; ++x)
            for (int c = 0; c < CHANNELS; ++c)
                to[c * pitch + x] = BYTES ? from[CHANNELS * x + c] / unit : from[CHANNELS * x + c];
        return;
    }
    for (int c = 0; c < CHANNELS; ++c)
        if (column == 1)
            read_channel(to + c * pitch, from + c * channel, width, 1, unit);
        else
            read_channel(to + c * pitch, from + c * channel, width, column, unit);
}

/* Writes a row from planes, likewise. Bytes are truncated. */
static void write_pixels(pixel *restrict to, const real *restrict from, int64_t pitch, int64_t width, int64_t channel,
                         int64_t column) {
    if (channel == 1 && column == CHANNELS) {
        for (int64_t x = 0; x < width; ++x)
            for (int c = 0; c < CHANNELS; ++c)
                to[CHANNELS * x + c] = BYTES ? (pixel)(int)from[c * pitch + x] : from[c * pitch + x];
        return;
    }
    for (int c = 0; c < CHANNELS; ++c)
        if (column == 1)
            write_channel(to + c * channel, from + c * pitch, width, 1);
        else
            write_channel(to + c * channel, from + c * pitch, width, column);
}

#endif
