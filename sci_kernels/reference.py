"""The definition of every operation in ordinary PyTorch: the oracle of the tests, the baseline of the benchmarks.

Each of the 24 directions is computed by itself, as in the official implementation, so that autograd saves the same
tensors. Works on any device; half precision is computed in float32.

    w_o(p) = exp(-|Y(p) - Y(p+o)|^2 / (2 sigma^2))
    d_o(p) = sum_c |L_c(p) - L_c(p+o)|
    loss   = sum_o mean_p w_o(p) d_o(p)             over the p for which p and p+o are inside

Y is the color-transformed input, L the illumination.
"""

import functools

import torch
from torch import Tensor

from .constants import (
    COLOR_BIAS,
    COLOR_MATRIX,
    FADE,
    FIDELITY_WEIGHT,
    HIGHLIGHTS,
    ILLUMINATION_MAX,
    ILLUMINATION_MIN,
    LUMA,
    MAX_EXPOSURE,
    NOISE,
    NORM,
    OFFSETS,
    REACH,
    SAMPLES,
    SIGMA,
    SMOOTH_WEIGHT,
)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of the arithmetic: the widest of the arguments, and at least float32."""
    return torch.promote_types(torch.float32, promoted_dtype(*tensors))


def promoted_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype of the arguments."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors))


def transform_color(input: Tensor, color: str) -> Tensor:
    """Y of the module's docstring: `input` itself (rgb), of each pixel (ycbcr), or of triples in memory (reference)."""
    if color == "rgb":
        return input
    matrix = torch.tensor(COLOR_MATRIX, dtype=input.dtype, device=input.device)
    bias = torch.tensor(COLOR_BIAS, dtype=input.dtype, device=input.device)
    with torch.autocast(input.device.type, enabled=False):
        if color == "ycbcr":
            return torch.einsum("nkhw,kp->nphw", input, matrix) + bias.view(1, 3, 1, 1)
        # The official code views NCHW memory as rows of three: triples of consecutive elements, not of channels.
        return (input.reshape(-1, 3) @ matrix + bias).view(input.shape)


def smooth_loss(input: Tensor, illumination: Tensor, sigma: float = SIGMA, color: str = "reference") -> Tensor:
    """The smoothness loss; see `sci_kernels.smooth_loss` for arguments."""
    dtype = compute_dtype(input, illumination)
    y = transform_color(input.to(dtype), color)
    illumination = illumination.to(dtype)
    scale = -1.0 / (2.0 * sigma * sigma)
    loss = y.new_zeros(())
    for offset in OFFSETS:
        y_here, y_there = _overlap(y, offset)
        l_here, l_there = _overlap(illumination, offset)
        weight = torch.exp((y_here - y_there).pow(2).sum(dim=1, keepdim=True) * scale)
        distance = torch.norm(l_here - l_there, p=1, dim=1, keepdim=True)
        loss = loss + (weight * distance).mean()
    return loss


def illumination_loss(
    input: Tensor,
    illumination: Tensor,
    fidelity_weight: float = FIDELITY_WEIGHT,
    smooth_weight: float = SMOOTH_WEIGHT,
    sigma: float = SIGMA,
    color: str = "reference",
) -> Tensor:
    """Fidelity plus smoothness; see `sci_kernels.illumination_loss` for arguments."""
    dtype = compute_dtype(input, illumination)
    fidelity = torch.nn.functional.mse_loss(illumination.to(dtype), input.to(dtype))
    return fidelity_weight * fidelity + smooth_weight * smooth_loss(input, illumination, sigma, color)


class _Clamp(torch.autograd.Function):
    """`torch.clamp` with a gradient of its own, by the same operations and with the same memory as PyTorch's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Clamp.jvp(ctx, grad), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x >= ctx.low) & (x <= ctx.high), tangent, 0.0)


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """`x` within [low, high]: the gradient is 1 on the closed interval and 0 elsewhere; NaN stays NaN and gets 0.

    The gradient of `torch.clamp` at its bounds depends on the version of PyTorch: 1 until 2.13, as when the official
    code was published, 0 from 2.14 on. It matters, since illuminations at their bounds and black pixels are common.
    """
    if not torch.compiler.is_compiling():
        return _Clamp.apply(x, low, high)
    # `torch.compile` refuses a function with a jvp, and `torch.export` keeps only its forward. What follows takes
    # several passes unless it is compiled.
    if not torch.is_grad_enabled():
        return x.clamp(low, high)
    clamped = x.detach().clamp(low, high)
    return torch.where(x == clamped, x, clamped)


def retinex(residual: Tensor, stage_input: Tensor, image: Tensor, sigmoid: bool = False) -> tuple[Tensor, Tensor]:
    """Illumination and reflectance; see `sci_kernels.retinex` for arguments."""
    dtype = compute_dtype(residual, stage_input, image)
    out_dtype = promoted_dtype(residual, stage_input, image)
    residual = torch.sigmoid(residual.to(dtype)) if sigmoid else residual.to(dtype)
    illumination = clamp(residual + stage_input.to(dtype), ILLUMINATION_MIN, ILLUMINATION_MAX)
    reflectance = clamp(image.to(dtype) / illumination, 0.0, 1.0)
    return illumination.to(out_dtype), reflectance.to(out_dtype)


def enhance(
    image: Tensor, weights: Tensor, exposure: Tensor | None = None, black: float = 1.0
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Result, illumination and, with an exposure, the gain; see `sci_kernels.enhance`.

    `weights` are `EnhanceWeights.packed`, and `black` is their illumination of black. On a GPU, PyTorch's setting for
    TF32 convolutions applies.
    """
    x = as_floating(image)
    weights = weights.to(x.device, x.dtype)
    taps, biases = weights[..., :-1].unflatten(-1, (3, 3, 3)), weights[..., -1]
    with torch.autocast(x.device.type, enabled=False):
        features = torch.relu(torch.nn.functional.conv2d(x, taps[0], biases[0], padding=1))
        features = features + torch.relu(torch.nn.functional.conv2d(features, taps[1], biases[1], padding=1))
        residual = torch.sigmoid(torch.nn.functional.conv2d(features, taps[2], biases[2], padding=1))
    illumination, reflectance = retinex(residual, x, x)
    gain = None
    if exposure is not None:
        reflectance, gain = expose(x, illumination, exposure, black)
    if image.dtype == torch.uint8:
        illumination = illumination * 255  # truncated by the conversion
        reflectance = reflectance * 255 if exposure is None else (reflectance * 255).round()
    return reflectance.to(image.dtype), illumination.to(image.dtype), gain


def as_floating(image: Tensor) -> Tensor:
    """The image in the dtype of arithmetic; 8 bits as [0, 1]."""
    x = image.to(compute_dtype(image))
    return x / 255 if image.dtype == torch.uint8 else x


def expose(
    image: Tensor, illumination: Tensor, exposure: Tensor, black: float, fade: float = FADE
) -> tuple[Tensor, Tensor]:
    """The image times one gain for all channels, and that gain `(N, 1, H, W)`; see `sci_kernels.enhance`."""
    c = exposure.to(image.device, image.dtype).view(-1, 1, 1, 1)
    x = image.clamp(0.0, 1.0)
    m, luma, s = _brightness(x, illumination, black)
    gain = (c + s) / (c * m + s)
    result = (gain * (x + fade * c * (luma - x))).clamp(0.0, 1.0)
    # With c = 0, values that are not finite or not in [0, 1] stay as they are, too.
    return torch.where(c == 0, image, result), torch.where(c == 0, 1.0, gain)


def sample(image: Tensor) -> Tensor:
    """Evenly spaced points of the image: from 256 to 511 along the longer side, or all of them."""
    step = sample_step(*image.shape[-2:])
    return image[..., ::step, ::step]


def sample_step(height: int, width: int) -> int:
    """Distance of the rows, and of the columns, that `sample` takes."""
    return max(1, max(height, width) // SAMPLES)


def find_exposure(image: Tensor, illumination: Tensor, target: float, black: float) -> Tensor:
    """c `(N,)`, in the dtype of arithmetic, of sampled images with these illuminations; see `sci_kernels.exposure`.

    The mean f of the result is increasing and concave in c, so that Newton's method from 0 never overshoots the root.
    """
    x = as_floating(image).clamp(0.0, 1.0)
    m, luma, s = (plane.flatten(1) for plane in _brightness(x, illumination.to(x.dtype), black))
    mean = _mean(luma)
    highlights = _mean(m**NORM) ** (1 / NORM)
    cap = (HIGHLIGHTS / highlights.clamp(min=1e-3)).clamp(max=MAX_EXPOSURE)
    weighted = luma * s
    rest = weighted * (1 - m)
    c = torch.zeros_like(mean)
    for _ in range(8):
        now = c[:, None].to(x.dtype)
        q = (m * now + s).reciprocal()
        f, slope = _mean((luma * now + weighted) * q), _mean(rest * q * q)
        c = torch.where((f < target) & (slope > 0), torch.minimum(cap, c + (target - f) / slope), c)
    # Comparisons with NaN are false, so images that are not finite get 0 and stay as they are.
    return torch.where((mean > 0) & (mean < target) & (c < torch.inf), c, 0.0).to(x.dtype)


def _mean(values: Tensor) -> Tensor:
    """The mean of each row, in float64."""
    return values.sum(1, dtype=torch.float64) / values.shape[1]


def _brightness(x: Tensor, illumination: Tensor, black: float) -> tuple[Tensor, Tensor, Tensor]:
    """m, l and s of `sci_kernels.enhance`, `(N, 1, H, W)`, of an image in [0, 1]."""
    red, green, blue = x.split(1, dim=1)
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    added = illumination.mean(1, keepdim=True) - x.mean(1, keepdim=True)
    return x.amax(1, keepdim=True), luma, 0.5 + 0.5 * (added / black).clamp(max=1.0)


def denoise(image: Tensor, gain: Tensor, strength: float) -> Tensor:
    """The 5x5 filter of `sci_kernels.denoise`, one direction after another."""
    y = as_floating(image)
    scale = falloff(strength) / gain.to(y.dtype).square()
    total, weights = y.clone(), torch.ones_like(scale)
    for dy, dx in OFFSETS:
        here, there = _overlap(y, (dy, dx))
        own = _overlap(scale, (dy, dx))[0]
        distance = (here - there).square().sum(1, keepdim=True)
        weight = torch.exp(distance * own - (dy * dy + dx * dx) / (2 * REACH * REACH))
        _overlap(total, (dy, dx))[0].add_(weight * there)
        _overlap(weights, (dy, dx))[0].add_(weight)
    result = total / weights
    return (result * 255).round().to(torch.uint8) if image.dtype == torch.uint8 else result.to(image.dtype)


def falloff(strength: float) -> float:
    """-1 / (2 sigma^2) of `sci_kernels.denoise` for a gain of 1, bounded so that it fits in a float32."""
    return -0.5 / max(NOISE * strength, 1e-15) ** 2


def _overlap(x: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The pixels p and p + offset, for every p for which both are inside, as two views."""
    (dy, dx), (h, w) = offset, x.shape[-2:]
    here = x[..., max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)]
    there = x[..., max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)]
    return here, there
