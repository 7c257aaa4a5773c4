"""The enhance network's numbers as the fused operator takes them."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from .constants import ILLUMINATION_MAX, ILLUMINATION_MIN

LAYERS = 3
CHANNELS = 3
TAPS = CHANNELS * 9  # of a 3x3 convolution, for one output channel


class EnhanceWeights(NamedTuple):
    """Three 3x3 convolutions from 3 to 3 channels, in the order they are applied, BatchNorm already in them.

    `packed` is `(3, 3, 28)`, float64, on the CPU: layer, output channel, then the 27 weights (input channel, row,
    column) and the bias. The numbers become constants of the compiled GPU kernel, so they are not to be changed.
    """

    packed: Tensor

    @classmethod
    def pack(cls, *convolutions: tuple[Tensor, Tensor]) -> "EnhanceWeights":
        """From three pairs of weight `(3, 3, 3, 3)`, as of `torch.nn.Conv2d`, and bias `(3,)`.

        Raises:
            ValueError: another number of convolutions, or another shape.
        """
        if len(convolutions) != LAYERS:
            raise ValueError(f"convolutions: expected {LAYERS} pairs of weight and bias; got {len(convolutions)}")
        for index, (weight, bias) in enumerate(convolutions):
            if weight.shape != (CHANNELS, CHANNELS, 3, 3) or bias.shape != (CHANNELS,):
                raise ValueError(
                    f"convolutions[{index}]: expected a weight of shape (3, 3, 3, 3) and a bias of shape (3,); "
                    f"got {tuple(weight.shape)} and {tuple(bias.shape)}"
                )
        rows = [torch.cat((weight.reshape(CHANNELS, TAPS), bias[:, None]), dim=1) for weight, bias in convolutions]
        return cls(torch.stack(rows).detach().to("cpu", torch.float64))

    def illumination_of_black(self) -> float:
        """What the network makes of black, away from the borders: the mean over the channels, at least 1e-3."""
        return constants_of(self.packed)[1]


@functools.lru_cache(16)
def constants_of(packed: Tensor) -> tuple[tuple[float, ...], float]:
    """The packed numbers in order, and the network's illumination of black, at least 1e-3.

    The latter is the mean over the channels, away from the borders: each convolution then adds up its weights.
    """
    taps = packed[..., :TAPS].unflatten(-1, (CHANNELS, 9)).sum(-1)
    first = torch.relu(packed[0, :, TAPS])
    features = first + torch.relu(taps[1] @ first + packed[1, :, TAPS])
    light = torch.sigmoid(taps[2] @ features + packed[2, :, TAPS]).clamp(ILLUMINATION_MIN, ILLUMINATION_MAX)
    return tuple(packed.flatten().tolist()), max(1e-3, float(light.mean()))
