"""A picture in memory, with all that a file says of it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Metadata:
    """What a picture file says beside its pixels, as far as it holds for the enhanced version too."""

    icc_profile: bytes | None = None  # of the color space that the pixels are in: RGB, or gray where the file is
    exif: bytes | None = None  # as Pillow takes it: "Exif", two zeros, a TIFF header; upright, without thumbnail
    xmp: bytes | None = None  # upright
    dpi: tuple[float, float] | None = None


NO_METADATA = Metadata()


@dataclass(frozen=True)
class Picture:
    """A picture as read: upright, RGB, with what is needed to write its enhanced version."""

    pixels: np.ndarray  # (H, W, 3), uint8, or uint16 where the file's 16 bits could be read
    alpha: np.ndarray | None = None  # (H, W), of the same dtype
    grey: bool = False  # the file held one channel, repeated in `pixels`
    metadata: Metadata = NO_METADATA
    notes: tuple[str, ...] = ()  # what could not be kept, for the user

    def tensor(self) -> Tensor:
        """The pixels as float32 `(3, H, W)` in [0, 1], without alpha."""
        planes = np.ascontiguousarray(self.pixels.transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(planes).div_(float(np.iinfo(self.pixels.dtype).max))
