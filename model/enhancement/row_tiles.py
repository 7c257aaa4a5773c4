"""Row bands of an image that are enhanced one after another, with the rows around them that their pixels depend on.

A pixel depends on those at most a radius away, and no operation depends on a pixel's position in the image: whatever
the tiles, the result is that of the whole image, bit for bit.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..machine import free_memory

_MAX_PIXELS = 1 << 24  # larger tiles gain no speed
_MEMORY_PARTS = 4  # a tile may take one of so many parts of the memory that is free
_BYTES_FUSED = 96  # per pixel: the tile in its own dtype and in float32, result, illumination, gain, copies
_BYTES_PLAIN = 48  # per pixel and channel of the widest layer: intermediate features


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
    """The tiles, of `rows` rows each, that cover an image from top to bottom."""
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield Tile(top, bottom, max(top - radius, 0), min(bottom + radius, height))


def tile_rows(width: int, device: torch.device, channels: int | None = None) -> int:
    """How many rows of a tile the free memory of `device` has room for, at least 1.

    Args:
        width: pixels of a row, in all images of the batch together.
        channels: of the network, where it is run layer by layer and keeps its features; None: the fused operator.
    """
    pixel = _BYTES_FUSED if channels is None else _BYTES_FUSED + _BYTES_PLAIN * max(channels, 3)
    pixels = min(_MAX_PIXELS, free_memory(device) // (_MEMORY_PARTS * pixel))
    return max(1, pixels // width)
