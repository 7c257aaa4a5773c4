"""Row bands of an image that are enhanced one after another, with the rows around them that their pixels depend on.

A pixel depends on those at most a radius away, and no operation on a pixel depends on where in the image it lies: the
result is that of the whole image, bit for bit, whatever the tile.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..machine import free_memory

# Larger tiles gain no speed.
_TILE_PIXELS = 1 << 24
# Of the memory that is free, what a tile may take.
_SHARE = 4
_BYTES_FUSED = 96  # a pixel: the tile in its own dtype and in float32, result, illumination, gain, copies
_BYTES_PLAIN = 48  # a pixel and channel of the widest layer: intermediate features


class Tile(NamedTuple):
    """Rows `top` to `bottom` of an image are computed from rows `low` to `high`."""

    top: int
    bottom: int
    low: int
    high: int

    @property
    def own(self) -> slice:
        """The tile's own rows among those it is computed from."""
        return slice(self.top - self.low, self.bottom - self.low)


def tiles(height: int, rows: int, radius: int) -> Iterator[Tile]:
    """The tiles of `rows` rows that cover an image, from its top."""
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield Tile(top, bottom, max(top - radius, 0), min(bottom + radius, height))


def tile_rows(width: int, device: torch.device, channels: int | None = None) -> int:
    """Rows of a tile that the free memory of `device` has room for, at least 1.

    Args:
        width: of a row, times the images of a batch.
        channels: of the plain network, where it is used and keeps its features; None: the fused operator.
    """
    pixel = _BYTES_FUSED if channels is None else _BYTES_FUSED + _BYTES_PLAIN * max(channels, 3)
    pixels = min(_TILE_PIXELS, free_memory(device) // (_SHARE * pixel))
    return max(1, pixels // width)
