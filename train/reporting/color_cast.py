"""Brightness and color cast of pictures: two numbers that show early when a training goes wrong."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tone(NamedTuple):
    """The mean color of some pictures, `red`, `green` and `blue` in [0, 1]."""

    red: float
    green: float
    blue: float

    @property
    def brightness(self) -> float:
        """The mean of all values: `m = (red + green + blue) / 3`."""
        return (self.red + self.green + self.blue) / 3

    @property
    def cast(self) -> float:
        """The deviation of the mean color from gray: `sqrt(((red - m)^2 + (green - m)^2 + (blue - m)^2) / 3)`.

        0 for pictures that are gray on the whole, at most sqrt(2)/3 = 0.471 (pure red). Photographs have a cast of
        their own: what counts is how much it grows compared with the input.
        """
        m = self.brightness
        return (((self.red - m) ** 2 + (self.green - m) ** 2 + (self.blue - m) ** 2) / 3) ** 0.5

    def __str__(self) -> str:
        m = self.brightness
        channels = ", ".join(f"{name} {getattr(self, name) - m:+.3f}" for name in self._fields)
        return f"brightness {m:.3f}, cast {self.cast:.3f} ({channels})"


def tone(pictures: list[Tensor]) -> Tone:
    """The mean color of pictures `(3, H, W)` in [0, 1], each with the same weight whatever its size."""
    return Tone(*torch.stack([picture.double().mean(dim=(1, 2)) for picture in pictures]).mean(dim=0).tolist())
