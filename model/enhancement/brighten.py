"""How images are brightened on a device: network, then exposure and noise filter, or the published division."""

import torch
from torch import Tensor, nn

import sci_kernels
from sci_kernels import EnhanceWeights
from sci_kernels.constants import ENHANCE_RADIUS, RADIUS

from ..network import EnhanceNetwork, enhance_image, enhance_part, fold, unfused_reason


class Brightener:
    """Brightens images in one way, which is decided once.

    Args:
        network: `Network`, `FinetuneNetwork` or `EnhanceNetwork`, as it is now.
        device: where images are.
        published: divide by the illumination, as published, instead of exposing.
        denoise: strength of the filter after an exposure; 0: none.
        half: read and write floating point images as float16.
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
        enhance = enhance_part(network, "weights: expected a path, or")
        reason = unfused_reason(enhance)
        if reason and not published:
            raise ValueError(f"exposure: cannot be used with these weights, {reason}; use exposure=None")
        self._denoise, self._half, self._impl = denoise, half, impl or enhance.impl
        # Weights for the fused operator; where it cannot stand for the network, the network itself.
        self._by: EnhanceWeights | EnhanceNetwork
        self.channels: int | None = None  # of the network itself, which takes memory for them
        if reason:
            self.radius, self._by = len(enhance.blocks) + 2, enhance.to(device)
            self.channels = enhance.channels
        else:
            self.radius, self._by = ENHANCE_RADIUS + (RADIUS if denoise else 0), fold(enhance)

    def find_exposure(self, image: Tensor) -> Tensor:
        """c of each image `(N, 3, H, W)`, by the rule of `sci_kernels.exposure`."""
        if isinstance(self._by, EnhanceNetwork):
            raise ValueError("exposure: expected weights of the published shape; use exposure=None")
        return sci_kernels.exposure(image, self._by, impl=self._impl)

    def __call__(
        self, image: Tensor, exposure: Tensor | None, illumination: bool = False, half: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The bright version of a tile, and its illumination if asked for.

        Args:
            exposure: one number per image, `(N,)`; None: the published division.
            half: False: never as float16, even where the Brightener was made for that.
        """
        if isinstance(self._by, EnhanceNetwork):
            x = image if image.dtype == torch.uint8 else image.to(next(self._by.parameters()).dtype)
            light, bright = enhance_image(self._by, x, impl="plain")
            return bright, light
        if self._half and half and image.is_floating_point():
            image = image.half()
        if exposure is not None:
            exposure = exposure.to(image.device)
        filtered = exposure is not None and self._denoise > 0
        outputs = sci_kernels.enhance(
            image,
            self._by,
            exposure=exposure,
            return_illumination=illumination,
            return_gain=filtered,
            impl=self._impl,
        )
        bright, *more = outputs if isinstance(outputs, tuple) else (outputs,)
        if exposure is not None and filtered:
            bright = self._without_noise(image, bright, more[-1], exposure)
        return bright, more[0] if illumination else None

    def _without_noise(self, image: Tensor, bright: Tensor, gain: Tensor, exposure: Tensor) -> Tensor:
        """The filtered result; an image that was left alone stays as it is."""
        bright = sci_kernels.denoise(bright, gain, self._denoise, impl=self._impl)
        if exposure.device.type == "cpu" and exposure.all():
            return bright
        return torch.where((exposure == 0).view(-1, 1, 1, 1), image, bright)
