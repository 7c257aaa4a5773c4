"""The enhance network's weights as the fused operator takes them: BatchNorm folded into its convolution.

In eval mode BatchNorm is s (x - mean) + shift with s = scale / sqrt(variance + eps), so

    bn(w * x + b) = (s w) * x + s (b - mean) + shift
"""

import torch
from torch import nn

from sci_kernels import EnhanceWeights


def unfused_reason(network: nn.Module) -> str | None:
    """Why the fused operator cannot stand for this `EnhanceNetwork`; None where it can."""
    layers, channels = len(network.blocks), network.in_conv[0].out_channels
    if (layers, channels) == (1, 3):
        return None
    return f"the fused operator has the published layers=1, channels=3; this network has {layers} and {channels}"


@torch.no_grad()
def fold(network: nn.Module) -> EnhanceWeights:
    """The weights of a `Network`, `FinetuneNetwork` or `EnhanceNetwork` as they are now, for inference.

    Raises:
        ValueError: the network has not the published shape, layers=1 and channels=3.
    """
    enhance = getattr(network, "enhance", network)
    reason = unfused_reason(enhance)
    if reason:
        raise ValueError(f"network: {reason}; use the network itself")
    conv, norm = enhance.conv[0], enhance.conv[1]
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    bias = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    first, last = enhance.in_conv[0], enhance.out_conv[0]
    return EnhanceWeights.pack(
        (first.weight.double(), first.bias.double()), (weight, bias), (last.weight.double(), last.bias.double())
    )
