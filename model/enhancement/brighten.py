"""What is done to images on a device: the network, the exposure or the published division, the filter against noise."""

import numbers

import torch
from torch import Tensor, nn

import sci_kernels
from sci_kernels.constants import ENHANCE_RADIUS, MAX_DENOISING, MAX_EXPOSURE, RADIUS

from ..network import EnhanceNetwork, enhance_image, fold, unfused_reason


def check_range(name: str, value: float, most: float, others: str = "") -> None:
    """Raises ValueError for what is no number from 0 to `most`; `others` is what else it may be."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= most:
        raise ValueError(f"{name}: expected a number from 0 to {most:g}{others}; got {value!r}")


def check_rule(exposure: float | str | None, denoise: float | None) -> float:
    """The strength of the filter, where it and the exposure go together; arguments and ValueError as of `Enhancer`."""
    if exposure is not None and not (isinstance(exposure, str) and exposure == "auto"):
        check_range("exposure", exposure, MAX_EXPOSURE, ", 'auto' or None")
    if denoise is None:
        return 0.0 if exposure is None else 1.0
    check_range("denoise", denoise, MAX_DENOISING)
    if exposure is None and denoise:
        raise ValueError(f"denoise: the published division has no filter; got {denoise}; leave it out")
    return float(denoise)


class Brightener:
    """One way of brightening images, decided once.

    Args:
        network: `Network`, `FinetuneNetwork` or `EnhanceNetwork`, as it is now.
        device: where images are.
        published: divide by the illumination as published, instead of exposing.
        denoise: strength of the filter after an exposure; 0: none.
        half: compute images in floating point from and to float16.
        impl: of the operators; None: the network's own.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        published: bool = False,
        denoise: float = 1.0,
        half: bool = False,
        impl: str | None = None,
    ):
        network = getattr(network, "enhance", network)
        if not isinstance(network, EnhanceNetwork):
            raise TypeError(
                f"weights: expected a path, or Network, FinetuneNetwork or EnhanceNetwork; got {type(network).__name__}"
            )
        reason = unfused_reason(network)
        if reason and not published:
            raise ValueError(f"exposure: cannot be used with these weights, {reason}; use exposure=None")
        self._denoise, self._half, self._impl = denoise, half, impl or network.impl
        self._weights = self._network = None
        self.channels: int | None = None  # of the plain network, which takes memory for them
        if reason:
            self.radius, self._network = len(network.blocks) + 2, network.to(device)
            self.channels = network.in_conv[0].out_channels
        else:
            self.radius, self._weights = ENHANCE_RADIUS + (RADIUS if denoise else 0), fold(network)

    def find_exposure(self, image: Tensor) -> Tensor:
        """c of each image `(N, 3, H, W)`, by the rule of `sci_kernels.exposure`."""
        return sci_kernels.exposure(image, self._weights, impl=self._impl)

    def __call__(
        self, image: Tensor, exposure: Tensor | None, illumination: bool = False, half: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The bright version of a tile, and its illumination if asked for; `exposure` is one number an image.

        Without `half` it is not computed from and to float16, whatever was decided.
        """
        if self._weights is None:
            x = image if image.dtype == torch.uint8 else image.to(next(self._network.parameters()).dtype)
            light, bright = enhance_image(self._network, x, impl="plain")
            return bright, light
        if self._half and half and image.is_floating_point():
            image = image.half()
        if exposure is not None:
            exposure = exposure.to(image.device)
        filtered = exposure is not None and self._denoise > 0
        outputs = sci_kernels.enhance(
            *(image, self._weights),
            exposure=exposure,
            return_illumination=illumination,
            return_gain=filtered,
            impl=self._impl,
        )
        bright, *more = outputs if isinstance(outputs, tuple) else (outputs,)
        light = more[0] if illumination else None
        if filtered:
            bright = self._without_noise(image, bright, more[-1], exposure)
        return bright, light

    def _without_noise(self, image: Tensor, bright: Tensor, gain: Tensor, exposure: Tensor) -> Tensor:
        """The filtered result; what was left as it was is."""
        bright = sci_kernels.denoise(bright, gain, self._denoise, impl=self._impl)
        if exposure.device.type == "cpu" and exposure.all():
            return bright
        return torch.where((exposure == 0).view(-1, 1, 1, 1), image, bright)
