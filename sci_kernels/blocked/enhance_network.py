"""The enhance network without Triton: bands of rows small enough to stay in cache, folded convolutions.

PyTorch's convolutions are made for many channels; with three they compute far more than is used. Here FOLD
neighboring columns are treated as FOLD * 3 output channels of one convolution with a horizontal stride of FOLD:

    out[y, FOLD t + i, o] = sum_{c, dy, dx} w[o, c, dy, dx] x[y + dy, FOLD t + i + dx, c]
                          = sum_{c, dy, k}  v[(i, o), c, dy, k] x[y + dy, FOLD t + k, c],     v[.., k] = w[.., k - i]

With channels last, the output lies in memory as an image of full width again. Every convolution pads its own input, so
features outside the image are set to zero. All bands of an image have the same number of rows, including the last one,
and no convolution pads rows, so that the bits of a pixel do not depend on where in the image its row lies.
"""

import torch
from torch import Tensor

from .. import reference
from ..constants import ENHANCE_RADIUS, ILLUMINATION_MAX, ILLUMINATION_MIN
from ..enhance_weights import constants_of
from ..reference import compute_dtype

FOLD = 4
# Found by timing 1920x1080: few rows, as some of the last band's are wasted, and few pixels, which stay in cache.
_BAND_ROWS = 64
_BAND_PIXELS = 1 << 17

_Kernels = list[tuple[Tensor, Tensor]]


def enhance(
    image: Tensor, weights: Tensor, illumination: bool, exposure: Tensor | None = None, gain: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The result, and illumination and gain if asked for; the first two in the image's dtype and memory format."""
    dtype = compute_dtype(image)
    n, _, height, width = image.shape
    rows = max(1, min(_BAND_ROWS, _BAND_PIXELS // width))
    result = torch.empty_like(image)
    light = torch.empty_like(image) if illumination else None
    gains = torch.empty((n, 1, height, width), dtype=dtype, device=image.device) if gain else None
    black = 1.0 if exposure is None else constants_of(weights)[1]
    folded = _kernels(weights, FOLD, dtype, image.device)
    shape = (rows + 2 * ENHANCE_RADIUS, -(-width // FOLD) * FOLD, 3)
    with torch.autocast(image.device.type, enabled=False):
        for index in range(n):
            for top in range(0, height, rows):
                x = _read_band(image[index], top, shape, dtype)
                band = _illuminate_band(x, folded, top, height, width)
                # Zeros of v meet pixels that w does not reach, and 0 * inf is NaN: then again without folding.
                if band.sum().isnan():
                    band = _illuminate_band(x, _kernels(weights, 1, dtype, image.device), top, height, width)
                x = x[ENHANCE_RADIUS : ENHANCE_RADIUS + band.shape[0], :width]
                target = result[index, :, top : top + rows].permute(1, 2, 0)
                if exposure is None:
                    _divide_band(x, band, target)
                else:
                    own = image[index, :, top : top + rows].permute(1, 2, 0)
                    factor = _expose_band(x, band, exposure[index], black, own, target)
                    if gains is not None:
                        gains[index, 0, top : top + rows] = factor
                if light is not None:
                    _write_band(band, light[index, :, top : top + rows].permute(1, 2, 0))
    return result, light, gains


def _kernels(weights: Tensor, fold: int, dtype: torch.dtype, device: torch.device) -> _Kernels:
    """Weights v of the module's docstring and biases, a pair for each layer."""
    taps, biases = weights[..., :-1].unflatten(-1, (3, 3, 3)), weights[..., -1]
    folded = weights.new_zeros(3, fold, 3, 3, 3, fold + 2)
    for i in range(fold):
        folded[:, i, ..., i : i + 3] = taps
    folded = folded.flatten(1, 2).to(device, dtype)
    biases = biases.repeat(1, fold).to(device, dtype)
    return [(v.contiguous(memory_format=torch.channels_last), b) for v, b in zip(folded, biases, strict=True)]


def _read_band(image: Tensor, top: int, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """The rows of an image, (3, H, W), from top - 3 on, with channels last; zero outside the image."""
    _, height, width = image.shape
    first = top - ENHANCE_RADIUS
    low, high = max(first, 0), min(first + shape[0], height)
    x = torch.empty(shape, dtype=dtype, device=image.device)
    x[: low - first].zero_()
    x[high - first :].zero_()
    x[:, width:].zero_()
    inside = x[low - first : high - first, :width]
    inside.copy_(image[:, low:high].permute(1, 2, 0))
    if image.dtype == torch.uint8:
        inside.div_(255)
    return x


def _illuminate_band(x: Tensor, kernels: _Kernels, top: int, height: int, width: int) -> Tensor:
    """The illumination of the band's own rows, channels last, from the rows that `_read_band` read."""
    features = _inside(_convolve(x, kernels[0]).relu_(), top - 2, height, width)
    block = _convolve(features, kernels[1]).relu_().add_(features[1:-1])
    light = _convolve(_inside(block, top - 1, height, width), kernels[2]).sigmoid_()
    light.add_(x[ENHANCE_RADIUS:-ENHANCE_RADIUS]).clamp_(ILLUMINATION_MIN, ILLUMINATION_MAX)
    return light[: height - top, :width]


def _convolve(x: Tensor, kernel: tuple[Tensor, Tensor]) -> Tensor:
    """(R, W, 3) to (R - 2, W, 3)."""
    fold = kernel[1].numel() // 3
    out = torch.nn.functional.conv2d(x.permute(2, 0, 1)[None], *kernel, stride=(1, fold), padding=(0, 1))
    return out[0].permute(1, 2, 0).contiguous().view(x.shape[0] - 2, x.shape[1], 3)


def _inside(features: Tensor, first: int, height: int, width: int) -> Tensor:
    """Sets features, whose first row is row `first` of the image, to zero outside the image."""
    features[: max(-first, 0)].zero_()
    features[max(height - first, 0) :].zero_()
    features[:, width:].zero_()
    return features


def _divide_band(x: Tensor, light: Tensor, target: Tensor) -> None:
    """Writes the reflectance, (R, W, 3)."""
    if target.dtype == x.dtype and target.is_contiguous():
        torch.div(x, light, out=target).clamp_(0.0, 1.0)
    else:
        _write_band(torch.div(x, light).clamp_(0.0, 1.0), target)


def _expose_band(x: Tensor, light: Tensor, c: Tensor, black: float, own: Tensor, target: Tensor) -> Tensor:
    """Writes the exposed band and returns its gain; `own` is the band of the image itself."""
    exposed, gain = reference.expose(x.permute(2, 0, 1)[None], light.permute(2, 0, 1)[None], c[None], black)
    exposed = exposed[0].permute(1, 2, 0)
    if target.dtype == torch.uint8:
        exposed = exposed.mul(255).round_()
    target.copy_(torch.where(c == 0, own, exposed.to(target.dtype)))
    return gain[0, 0]


def _write_band(band: Tensor, target: Tensor) -> None:
    """Writes values in [0, 1], (R, W, 3); as uint8 255 times the value, truncated."""
    target.copy_(band.mul_(255) if target.dtype == torch.uint8 else band)
