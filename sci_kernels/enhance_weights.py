"""The weights of the enhance network in the form that the fused operator takes."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from .constants import ILLUMINATION_MAX, ILLUMINATION_MIN

LAYERS = 3
CHANNELS = 3
TAPS = CHANNELS * 9  # of a 3x3 convolution, for one output channel


class EnhanceWeights(NamedTuple):
    """Three 3x3 convolutions from 3 to 3 channels, in the order they are applied, with BatchNorm folded into them.

    `packed` is `(3, 3, 28)`, float64, on the CPU: layer, output channel, then the 27 weights (input channel, row,
    column) and the bias. The numbers become constants of the compiled GPU kernel: do not change them in place.
    """

    packed: Tensor

    @classmethod
    def pack(cls, *convolutions: tuple[Tensor, Tensor]) -> "EnhanceWeights":
        """From three pairs of a weight `(3, 3, 3, 3)`, laid out as that of `torch.nn.Conv2d`, and a bias `(3,)`.

        Raises:
            ValueError: the number of pairs, or a shape, is another.
        """
        if len(convolutions) != LAYERS:
            raise ValueError(f"convolutions: expected {LAYERS} pairs of weight and bias; got {len(convolutions)}")
        for index, pair in enumerate(convolutions):
            found = [tuple(part.shape) if isinstance(part, Tensor) else part for part in pair]
            if found != [(CHANNELS, CHANNELS, 3, 3), (CHANNELS,)]:
                raise ValueError(
                    f"convolutions[{index}]: expected a weight of shape (3, 3, 3, 3) and a bias of shape (3,), zeros "
                    f"if there is none; got {' and '.join(map(str, found))}"
                )
        rows = [torch.cat((weight.reshape(CHANNELS, TAPS), bias[:, None]), dim=1) for weight, bias in convolutions]
        return cls(torch.stack(rows).detach().to("cpu", torch.float64))

    def illumination_of_black(self) -> float:
        """The network's illumination of a black image away from its borders: mean over the channels, at least 1e-3."""
        return constants_of(self.packed)[1]


@functools.lru_cache(16)
def constants_of(packed: Tensor) -> tuple[tuple[float, ...], float]:
    """The packed numbers in order, and `EnhanceWeights.illumination_of_black`.

    Away from the borders of a constant image, a convolution multiplies by the sum of its taps.
    """
    taps = packed[..., :TAPS].unflatten(-1, (CHANNELS, 9)).sum(-1)
    first = torch.relu(packed[0, :, TAPS])
    features = first + torch.relu(taps[1] @ first + packed[1, :, TAPS])
    light = torch.sigmoid(taps[2] @ features + packed[2, :, TAPS]).clamp(ILLUMINATION_MIN, ILLUMINATION_MAX)
    return tuple(packed.flatten().tolist()), max(1e-3, float(light.mean()))
