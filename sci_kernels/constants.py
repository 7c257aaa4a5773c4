"""Every number of the method, once: sigma, weights, colour transform, neighbourhood, clamp bounds.

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

IMPLS = ("auto", "triton", "native", "blocked", "reference")
