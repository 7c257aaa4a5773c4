"""The enhance network's weights as the fused operator takes them: BatchNorm folded into its convolution.

In eval mode BatchNorm is s (x - mean) + shift with s = scale / sqrt(variance + eps), so

    bn(w * x + b) = (s w) * x + s (b - mean) + shift
"""

import torch
from torch import Tensor, nn

from sci_kernels import EnhanceWeights

from .architecture import EnhanceNetwork, enhance_part
from .conv3x3 import conv_of


def unfused_reason(network: EnhanceNetwork) -> str | None:
    """Why the fused operator cannot stand for this network; None where it can."""
    layers, channels = len(network.blocks), network.channels
    if (layers, channels) == (1, 3):
        return None
    return f"the fused operator has the published layers=1, channels=3; this network has {layers} and {channels}"


@torch.no_grad()
def fold(network: nn.Module) -> EnhanceWeights:
    """The weights of a `Network`, `FinetuneNetwork` or `EnhanceNetwork` as they are now, for inference.

    Raises:
        TypeError: `network` is another module.
        ValueError: the network does not have the published shape, layers=1 and channels=3.
    """
    enhance = enhance_part(network)
    reason = unfused_reason(enhance)
    if reason:
        raise ValueError(f"network: {reason}; use the network itself")
    first, conv, last = (conv_of(part) for part in (enhance.in_conv, enhance.conv, enhance.out_conv))
    mean, scale, shift = _normalization(enhance.conv[1])
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    bias = (conv.bias.double() - mean) * scale + shift
    return EnhanceWeights.pack(
        (first.weight.double(), first.bias.double()), (weight, bias), (last.weight.double(), last.bias.double())
    )


def _normalization(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """mean, s and shift of the formula above, in float64."""
    if not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) or norm.running_mean is None or norm.running_var is None:
        raise TypeError(f"network: expected BatchNorm with running averages to fold; got {norm}")
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return norm.running_mean.double(), scale, norm.bias.double()
