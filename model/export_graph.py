"""What an exported file computes: the published division, or an exposure, which it may find itself.

An exporter traces it for all sizes at once, which fails for slices whose step or bounds depend on the size. The points
for the exposure are therefore picked by index here, and the filter shifts a padded image. `expected` is the definition
that an exported file is compared with.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

import sci_kernels
from sci_kernels import reference
from sci_kernels.constants import OFFSETS, RADIUS, REACH, SAMPLES, TARGET

from .enhancement import check_rule
from .network import DEFAULT_WEIGHTS, EnhanceNetwork, fold, load_weights

_FAR = 1e3  # far from every color: exp(-d^2 / (2 sigma^2)) is 0 for every possible sigma, which is at most 1.64


def graph(
    weights: Path = DEFAULT_WEIGHTS, exposure: float | str | None = "auto", denoise: float | None = None
) -> "Published | Exposed":
    """The module to export; arguments as for `export`."""
    denoise = check_rule(exposure, denoise)
    if exposure is None:
        return Published(weights)
    return Exposed(weights, None if exposure == "auto" else float(exposure), denoise)


class Published(nn.Module):
    """The plain network in eval mode, by PyTorch's own operators alone: image to (reflectance, illumination).

    Args:
        weights: as for `load_weights`.
    """

    outputs = ("reflectance", "illumination")
    metadata = {"exposure": "published"}

    def __init__(self, weights: Path = DEFAULT_WEIGHTS):
        super().__init__()
        self.enhance = EnhanceNetwork(impl="reference")
        load_weights(self.enhance, weights)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        illumination, reflectance = self.enhance(image)
        return reflectance, illumination

    def expected(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self(image)


class Exposed(nn.Module):
    """Image to (result, illumination), by the gain of `sci_kernels.enhance` and the filter of `sci_kernels.denoise`.

    Args:
        weights: as for `load_weights`.
        exposure: a number from 0 to 20 for every image; None: found for each image of a batch.
        denoise: strength of the filter, 0 to 4; 0 leaves it out.
    """

    outputs = ("result", "illumination")

    def __init__(self, weights: Path = DEFAULT_WEIGHTS, exposure: float | None = None, denoise: float = 1.0):
        super().__init__()
        self.enhance = EnhanceNetwork(impl="reference")
        load_weights(self.enhance, weights)
        self.eval().requires_grad_(False)
        self.exposure, self.denoise = exposure, denoise
        self.weights = fold(self.enhance)
        self.black = self.weights.illumination_of_black()

    @property
    def metadata(self) -> dict[str, str]:
        found = self.exposure is None
        rule = {"exposure": "auto", "target": f"{TARGET:.2f}"} if found else {"exposure": f"{self.exposure:g}"}
        return {**rule, "denoise": f"{self.denoise:g}"}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        illumination, _ = self.enhance(image)
        if self.exposure is None:
            points = _sample(image)
            c = reference.find_exposure(points, self.enhance(points)[0], TARGET, self.black)
        else:
            c = image.new_full((image.shape[0],), self.exposure)
        result, gain = reference.expose(image, illumination, c, self.black)
        if self.denoise:
            result = _denoise(result, gain, self.denoise)
        return _unless(c == 0, image, result), illumination

    def expected(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The same by the library's definitions."""
        if self.exposure is None:
            c = sci_kernels.exposure(image, self.weights, impl="reference")
        else:
            c = image.new_full((image.shape[0],), self.exposure)
        result, illumination, gain = sci_kernels.enhance(
            image, self.weights, exposure=c, return_illumination=True, return_gain=True, impl="reference"
        )
        result = sci_kernels.denoise(result, gain, self.denoise, impl="reference")
        return _unless(c == 0, image, result), illumination


def _unless(unchanged: Tensor, image: Tensor, result: Tensor) -> Tensor:
    """The result; but images with exposure 0 themselves, as no noise was brightened in them."""
    return torch.where(unchanged.view(-1, 1, 1, 1), image, result)


def _sample(image: Tensor) -> Tensor:
    """`reference.sample`, written so that the exporter does not assume there to be 2 points or more."""
    height, width = image.shape[-2:]
    step = torch.sym_max(1, torch.sym_max(height, width) // SAMPLES)
    step = torch.full((), step, dtype=torch.int64, device=image.device)  # ONNX has no remainder of a size
    rows, columns = (
        (torch.arange(size, device=image.device) % step == 0).nonzero().squeeze(1) for size in (height, width)
    )
    return image.index_select(-2, rows).index_select(-1, columns)


def _denoise(y: Tensor, gain: Tensor, strength: float) -> Tensor:
    """`reference.denoise` of values in [0, 1]."""
    height, width = y.shape[-2:]
    padded = nn.functional.pad(y, [RADIUS] * 4, value=_FAR)
    scale = reference.falloff(strength) / gain.square()
    total, weights = y, torch.ones_like(scale)
    rows = {dy: padded.narrow(-2, RADIUS + dy, height) for dy in range(-RADIUS, RADIUS + 1)}
    for dy, dx in OFFSETS:
        there = rows[dy].narrow(-1, RADIUS + dx, width)
        distance = (y - there).square().sum(1, keepdim=True)
        weight = torch.exp(distance * scale - (dy * dy + dx * dx) / (2 * REACH * REACH))
        total, weights = total + weight * there, weights + weight
    return total / weights
