"""A picture in memory: its pixels, and the metadata of its file."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Metadata:
    """What a picture file holds besides the pixels, as far as it is true for the enhanced version too."""

    icc_profile: bytes | None = None  # of the pixels' color space: RGB, or gray if the file is gray
    exif: bytes | None = None  # as Pillow takes it: "Exif", two zeros, a TIFF header; upright, without thumbnail
    xmp: bytes | None = None  # upright
    dpi: tuple[float, float] | None = None


NO_METADATA = Metadata()


@dataclass(frozen=True)
class Picture:
    """A picture as it was read: upright, RGB, with everything needed to write its enhanced version."""

    pixels: np.ndarray  # (H, W, 3), uint8, or uint16 if the file has more than 8 bits and they could be read
    alpha: np.ndarray | None = None  # (H, W), the same dtype
    gray: bool = False  # the file held one channel, repeated in `pixels`
    metadata: Metadata = NO_METADATA
    notes: tuple[str, ...] = ()  # what could not be kept, for the user

    def tensor(self) -> Tensor:
        """The pixels as float32 `(3, H, W)` in [0, 1], without alpha."""
        planes = np.ascontiguousarray(self.pixels.transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(planes).div_(float(np.iinfo(self.pixels.dtype).max))
