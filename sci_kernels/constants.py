"""The numbers of the method: sigma, weights, color transform, neighborhood, bounds of the clamps.

Source: "Toward Fast, Flexible, and Robust Low-Light Image Enhancement" (CVPR 2022) and its official
implementation.
"""

SIGMA = 10.0
MIN_SIGMA = 1e-18  # below it 1 / sigma^2 overflows float32
FIDELITY_WEIGHT = 1.5
SMOOTH_WEIGHT = 1.0

# Row k multiplies source component k, column p gives output component p.
COLOR_MATRIX = (
    (0.257, -0.148, 0.439),
    (0.564, -0.291, -0.368),
    (0.098, 0.439, -0.071),
)
COLOR_BIAS = (16 / 255, 128 / 255, 128 / 255)
# Only differences of Y matter, so a constant may be subtracted from the bias. With this one, two of three components
# have none, which halves the rounding error of the gradient in float32.
CENTERED_COLOR_BIAS = tuple(value - COLOR_BIAS[1] for value in COLOR_BIAS)
COLORS = ("reference", "ycbcr", "rgb")

RADIUS = 2
OFFSETS = tuple(
    (dy, dx) for dy in range(-RADIUS, RADIUS + 1) for dx in range(-RADIUS, RADIUS + 1) if (dy, dx) != (0, 0)
)
# One offset of each pair {o, -o}: both contribute the same number, so it counts twice.
PAIRS = tuple((dy, dx) for dy, dx in OFFSETS if dy > 0 or (dy == 0 and dx > 0))
MIN_SIDE = RADIUS + 1

ILLUMINATION_MIN = 1e-4
ILLUMINATION_MAX = 1.0

ENHANCE_RADIUS = 3  # pixels that a pixel's influence reaches: three 3x3 convolutions, one after another

# Exposure, see `sci_kernels.enhance` and `sci_kernels.exposure`.
LUMA = (0.299, 0.587, 0.114)
TARGET = 0.40  # mean luma in [0, 1]: the least of normally exposed photographs
HIGHLIGHTS = 3.0  # a picture's highlights come out at (6 + h) / 7 of white at most
NORM = 8  # order of the norm that measures highlights: a smooth percentile
MAX_EXPOSURE = 20.0  # beyond it, noise becomes more visible and structure does not
FADE = 0.02  # how much of a color turns gray per unit of exposure
SAMPLES = 256  # points along the longer side, at least, from which the exposure is found

# Noise, see `sci_kernels.denoise`.
NOISE = 0.01  # assumed standard deviation of the noise of a picture before it is brightened
MAX_DENOISING = 4.0
REACH = 2.0  # standard deviation of the spatial weight, in pixels

MOST_SOURCES = 4  # layers that one pass of the BatchNorm kernels can add up

IMPLS = ("auto", "triton", "native", "blocked", "reference")
