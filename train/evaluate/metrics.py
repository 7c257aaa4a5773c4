"""How good an enhanced picture is: PSNR and SSIM against a bright photograph, DE, EME and LOE without one.

Every function takes pictures as uint8 `(H, W, 3)`, R, G, B. Published tables rarely say which block size, logarithm or
reduction they used: numbers from here can be compared with each other, and with others only where those agree.
"""

import numpy as np

EME_BLOCK = 8
LOE_SIDE = 50
SSIM_SIDE = 11  # of the window


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio, dB: `10 log10(255^2 / MSE)`, the mean over all pixels and channels; higher is better.

    Infinite where the two are equal. Computed by scikit-image.
    """
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth, picture, data_range=255))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity, at most 1; higher is better.

    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    TIP 13(4), 2004: the mean over pixels and the three channels of
    `(2 mx my + C1) (2 sxy + C2) / ((mx^2 + my^2 + C1) (sx^2 + sy^2 + C2))`, `C1 = (0.01 * 255)^2`,
    `C2 = (0.03 * 255)^2`, means and population (co)variances under a Gaussian window of sigma 1.5, 11 pixels wide.
    Pixels nearer than 5 to the border are left out. The paper takes gray pictures; here it is the mean over channels.
    Computed by scikit-image.

    Raises ValueError where a side is below 11 pixels.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            truth,
            picture,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def gray(picture: np.ndarray) -> np.ndarray:
    """Luma of ITU-R BT.601, `0.299 R + 0.587 G + 0.114 B`, rounded to uint8 `(H, W)`."""
    return np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def discrete_entropy(picture: np.ndarray) -> float:
    """DE, bits, from 0 to 8: `-sum_k p_k log2 p_k`, p_k the share of gray level k of 256.

    Higher is more detail, or noise. Shannon, "A Mathematical Theory of Communication", Bell System Technical
    Journal 27, 1948; gray as in `gray`.
    """
    counts = np.bincount(gray(picture).ravel(), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no -0


def eme(picture: np.ndarray) -> float:
    """EME, the measure of enhancement: the mean over blocks of `20 ln(max / min)`.

    Higher is more local contrast, or noise. Agaian, Panetta, Grigoryan, "Transform-Based Image Enhancement Algorithms
    with Performance Measure", IEEE TIP 10(3), 2001. Blocks are 8x8 gray values, without overlap; pixels at the right
    and lower border that fill no block are left out. The base of the logarithm, which publications seldom name, is e
    here. A block that holds a 0, for which max / min is undefined, counts as 0.

    Raises ValueError where a side is below 8 pixels.
    """
    plane = gray(picture)
    rows, columns = (side // EME_BLOCK for side in plane.shape)
    if min(rows, columns) == 0:
        raise ValueError(f"picture: expected sides of {EME_BLOCK} pixels or more for EME; got {plane.shape}")
    blocks = plane[: rows * EME_BLOCK, : columns * EME_BLOCK].reshape(rows, EME_BLOCK, columns, EME_BLOCK)
    low, high = (reduce(blocks, axis=(1, 3)).astype(np.float64) for reduce in (np.min, np.max))
    return float((20 * np.log(np.where(low > 0, high / np.maximum(low, 1), 1))).mean())


def loe(picture: np.ndarray, dark: np.ndarray) -> float:
    """LOE, the lightness order error against the picture before enhancement; lower is more natural, 0 is best.

    Wang, Zheng, Hu, Li, "Naturalness Preserved Enhancement Algorithm for Non-Uniform Illumination Images", IEEE TIP
    22(9), 2013: `L = max(R, G, B)`, `U(a, b) = 1 if a >= b else 0`,
    `LOE = (1/m) sum_x sum_y (U(L(x), L(y)) xor U(Le(x), Le(y)))`, x and y over the m pixels of both pictures reduced by
    `r = 50 / min(H, W)`; a picture whose smaller side is 50 or less is not reduced.

    The paper does not say how to reduce. Here each of the m pixels is the one of the picture nearest to the center of
    its share: a tone curve that keeps the order of all pixels then has LOE 0, which it would not have with averages.
    Ports that resize with a cubic filter give other numbers.
    """
    before, after = (_reduced(lightness.max(axis=2)).ravel() for lightness in (dark, picture))
    total = 0
    for start in range(0, len(before), 256):  # bounds the memory
        rows = slice(start, start + 256)
        total += int(np.count_nonzero((before[rows, None] >= before) != (after[rows, None] >= after)))
    return total / len(before)


def _reduced(plane: np.ndarray) -> np.ndarray:
    """Evenly spread pixels of the plane, `LOE_SIDE` along its smaller side."""
    ratio = min(1.0, LOE_SIDE / min(plane.shape))
    picks = []
    for side in plane.shape:
        count = max(1, round(side * ratio))
        picks.append(((np.arange(count) + 0.5) * side / count).astype(int))
    return plane[np.ix_(*picks)]
