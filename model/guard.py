"""How much of the enhancement a picture should get, by its brightness: the method knows no "bright enough".

Measured is the mean luma of the stored values, 0.299 R + 0.587 G + 0.114 B, in [0, 1], over a grid of 512 to 1023
points a side, or all. A surface of 18 % reflectance, what light meters take the world to be, is stored as 0.46 in
sRGB, and normally exposed photographs lie around that. The thresholds in stops of exposure, with 2.2 for the exponent:

    up to DARK = 0.30      1.4 stops under it, or more: the whole enhancement. Low-light photographs have 0.05 to 0.27.
    from BRIGHT = 0.40     0.4 stops under it, or less, or over it: none, the picture is left as it is.
    between                a blend of both, linear in the brightness, so that like pictures are treated alike.

The mean, not the share of bright pixels: lamps and windows of a night scene are bright, and such a scene is what the
method is for.
"""

from torch import Tensor

DARK = 0.30
BRIGHT = 0.40
_LUMA = (0.299, 0.587, 0.114)
_GRID = 512


def grid(height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns that are looked at."""
    return slice(None, None, max(1, height // _GRID)), slice(None, None, max(1, width // _GRID))


def brightness(image: Tensor) -> float:
    """Mean luma of an image `(3, H, W)`, uint8, or floating point in [0, 1]; NaN where it holds NaN."""
    rows, columns = grid(*image.shape[1:])
    means = image[:, rows, columns].double().mean(dim=(1, 2)).tolist()
    mean = sum(factor * value for factor, value in zip(_LUMA, means, strict=True))
    return mean if image.is_floating_point() else mean / 255


def guard_amount(value: float) -> float:
    """The share of the enhancement, 0 to 1, for a brightness."""
    # Written so that NaN, which is no reason to hold back, gives 1.
    return 1.0 - min(max(0.0, (value - DARK) / (BRIGHT - DARK)), 1.0)
