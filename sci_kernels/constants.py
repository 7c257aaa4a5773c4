"""Every number of the method, once: sigma, weights, color transform, neighborhood, clamp bounds.

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
# Only differences of Y matter, so a constant may be taken off the bias. This one leaves two components of three
# without any, which halves the rounding error of the gradient in float32.
CENTERED_COLOR_BIAS = tuple(value - COLOR_BIAS[1] for value in COLOR_BIAS)
COLORS = ("reference", "ycbcr", "rgb")

RADIUS = 2
OFFSETS = tuple(
    (dy, dx) for dy in range(-RADIUS, RADIUS + 1) for dx in range(-RADIUS, RADIUS + 1) if (dy, dx) != (0, 0)
)
# One of each {o, -o}: both give the same number, so a pair counts twice.
PAIRS = tuple((dy, dx) for dy, dx in OFFSETS if dy > 0 or (dy == 0 and dx > 0))
MIN_SIDE = RADIUS + 1

ILLUMINATION_MIN = 1e-4
ILLUMINATION_MAX = 1.0

ENHANCE_RADIUS = 3  # of a pixel's influence: three 3x3 convolutions, one after another

# Exposure, see `sci_kernels.enhance` and `sci_kernels.exposure`.
LUMA = (0.299, 0.587, 0.114)
TARGET = 0.40  # mean luma, of 1: that of normally exposed photographs begins there
HIGHLIGHTS = 3.0  # a picture's highlights come out at (6 + h) / 7 of white at most
NORM = 8  # of the norm that says where highlights lie: a smooth percentile
MAX_EXPOSURE = 20.0  # beyond it noise grows, and structure does not
FADE = 0.02  # of the color, per unit of exposure, toward gray
SAMPLES = 256  # points at least along the longer side, of which exposure is found

# Noise, see `sci_kernels.denoise`.
NOISE = 0.01  # standard deviation that a picture as it was taken is thought to have
MAX_DENOISING = 4.0
REACH = 2.0  # standard deviation of the spatial weight, pixels

MOST_SOURCES = 4  # layers that one pass of the BatchNorm kernels adds up

IMPLS = ("auto", "triton", "native", "blocked", "reference")
