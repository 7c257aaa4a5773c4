/* Rows of pixels, three channels with any strides, as planes of numbers and back.
 *
 * BYTES, given on the command line, says what an image is made of: 0 of `real`, 1 of bytes.
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

/* A row into planes that lie `pitch` apart. Bytes are divided by `unit`.
 *
 * Channels that lie side by side are read together, a third of the memory accesses. The usual strides are constants, for
 * the compiler to make vectors of. Inlined into a march over rows, this costs the rest of it a tenth.
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

/* A row from planes, likewise. Bytes are truncated. */
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
