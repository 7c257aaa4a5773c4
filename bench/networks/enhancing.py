"""One picture enhanced by each provider, with the default weights.

`reference` is the plain eager network with the reference Retinex step, `compiled` is torch.compile of it, and `ours` is
the fused operator: `enhance_image`, and for the reflectance alone `sci_kernels.enhance`, which the command line calls.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from model import EnhanceNetwork, enhance_image, fold, load_weights
from sci_kernels import enhance

Both = Callable[[Tensor], tuple[Tensor, Tensor]]  # an image to its illumination and reflectance
Alone = Callable[[Tensor], Tensor | tuple[Tensor, ...]]  # as `sci_kernels.enhance` is declared; the reflectance


class Enhance:
    """Illumination and reflectance of an image `(N, 3, H, W)`, in [0, 1] or uint8, without gradients.

    A network is made for each device and dtype and kept, so that its compiled code serves the next image.
    """

    def __init__(self, provider: str):
        self._provider = provider
        self._calls: dict[tuple, tuple[Both, Alone]] = {}

    @torch.no_grad()
    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self._for(image)[0](image)

    @torch.no_grad()
    def reflectance(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The bright picture alone."""
        return self._for(image)[1](image)

    def _for(self, image: Tensor) -> tuple[Both, Alone]:
        key = (image.device, image.dtype)
        if key not in self._calls:
            self._calls[key] = _functions(self._provider, image)
        return self._calls[key]


def _functions(provider: str, image: Tensor) -> tuple[Both, Alone]:
    """A function for illumination and reflectance, and one for the reflectance alone."""
    network = EnhanceNetwork(impl="auto" if provider == "ours" else "reference")
    load_weights(network)
    network = network.to(image.device, image.dtype if image.is_floating_point() else torch.float32).eval()
    both: Both = functools.partial(enhance_image, network)
    if provider == "compiled":
        both = torch.compile(network, fullgraph=True, dynamic=False)
    if provider == "ours":
        weights = fold(network)
        return both, lambda image: enhance(image, weights)
    return both, lambda image: both(image)[1]
