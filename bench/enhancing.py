"""One picture enhanced by each provider, with the default weights.

`reference` is the plain eager network with the reference Retinex step; `compiled` is torch.compile of it; `ours` is
`enhance_image` as the command line calls it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model import EnhanceNetwork, enhance_image, load_weights


class Enhance:
    """Illumination and reflectance of an image `(N, 3, H, W)` in [0, 1], without gradients.

    The network is made at the first image for its device and dtype, so that compiled code serves the next.
    """

    def __init__(self, provider: str):
        self._provider = provider
        self._calls: dict[tuple, Callable[[Tensor], tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        key = (image.device, image.dtype)
        if key not in self._calls:
            self._calls[key] = _call(self._provider, image)
        return self._calls[key](image)


def _call(provider: str, image: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    network = EnhanceNetwork(impl="auto" if provider == "ours" else "reference")
    load_weights(network)
    network = network.to(image).eval()
    if provider == "compiled":
        return torch.compile(network, fullgraph=True, dynamic=False)
    return lambda image: enhance_image(network, image)
