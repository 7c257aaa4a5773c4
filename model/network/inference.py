"""One enhance pass for inference: by the fused operator where that stands for the network, otherwise layer by layer."""

import torch
from torch import Tensor, nn

from sci_kernels import enhance as fused_enhance

from .architecture import EnhanceNetwork, enhance_part
from .conv3x3 import conv_of
from .fold_batch_norm import fold, unfused_reason


@torch.no_grad()
def enhance_image(network: nn.Module, image: Tensor, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """One enhance pass in eval mode, without gradients: `(illumination, reflectance)`.

    Args:
        network: `Network`, `FinetuneNetwork` or `EnhanceNetwork`; left in the mode it was in.
        image: `(N, 3, H, W)`, any size, on the network's device: of the network's dtype in [0, 1], or uint8.
        impl: "auto": the fused operator, by the network's own `impl`, where it has the published shape, and otherwise
            the network; "plain": the network, layer by layer; or an implementation of `sci_kernels.enhance`. On a
            GPU the fused operator is compiled for each set of weights: use "plain" while a network is trained.

    Raises:
        TypeError: `network` is another module, or `image` is not a tensor of these dtypes.
        ValueError: `image` has another shape, or the fused operator, asked for by `impl`, does not fit the network.
    """
    enhance = enhance_part(network)
    reason = unfused_reason(enhance)
    if impl == "plain" or (impl == "auto" and reason):
        return _enhance_plain(enhance, image)
    if reason:
        raise ValueError(f"impl: {impl!r} cannot be used, {reason}; use impl='plain'")
    impl = enhance.impl if impl == "auto" else impl
    reflectance, illumination = fused_enhance(image, fold(enhance), return_illumination=True, impl=impl)
    return illumination, reflectance


def _enhance_plain(enhance: EnhanceNetwork, image: Tensor) -> tuple[Tensor, Tensor]:
    """The network itself, in eval mode; uint8 images are converted to its dtype and back."""
    modes = [(module, module.training) for module in enhance.modules()]
    enhance.eval()
    try:
        if image.dtype != torch.uint8:
            return enhance(image)
        dtype = conv_of(enhance.in_conv).weight.dtype
        illumination, reflectance = ((255 * x).to(torch.uint8) for x in enhance(image.to(dtype) / 255))
        return illumination, reflectance
    finally:
        for module, training in modes:
            module.training = training
