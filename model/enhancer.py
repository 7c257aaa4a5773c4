"""Bright pictures in three lines: `from model import Enhancer; e = Enhancer(); bright = e("night.jpg")`."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sci_kernels import enhance as fused_enhance

from .fold import fold, unfused_reason
from .guard import BRIGHT, brightness, grid, guard_amount
from .images import Picture, from_pil, grey_of, quantize, read_image, to_pil
from .networks import EnhanceNetwork, enhance_image
from .tiles import tile_rows, tiles
from .weights import DEFAULT_WEIGHTS, load_weights


class Enhanced(NamedTuple):
    """A picture that has been enhanced, and what was done to it."""

    pixels: np.ndarray  # (H, W, 3), uint8
    illumination: np.ndarray | None  # the same, where it was asked for
    brightness: float  # of the original, as in `guard`
    amount: float  # of the enhancement that was applied, 0 to 1
    note: str | None  # a line for the user, where the guard held back


class Enhancer:
    """Enhances pictures of any kind and size, and gives back the kind that it was given.

        e = Enhancer()
        bright = e("night.jpg")         a path gives a PIL image, turned upright
        bright = e(image)               a PIL image gives one: grey stays grey, transparency is kept, 8 bits
        bright = e(array)               (H, W, 3) or (N, H, W, 3), uint8 or floating point in [0, 1]
        bright = e(plane)               (H, W), likewise: grey, and grey again
        bright = e(tensor)              (3, H, W) or (N, 3, H, W), likewise, on any device
        bright = e([a, b, "c.png"])     a list or tuple gives a list

    Args:
        weights: a weight file, or a `Network`, `FinetuneNetwork` or `EnhanceNetwork`, used as it is now.
        device: to compute on; "auto": a GPU where there is one.
        half: floating point arrays and tensors are computed from and to float16, half the bytes to move; arithmetic
            stays in float32 and the result has the dtype of the original.
        strength: 0 gives the original, 1 the result of the network, what is between a blend of both.
        guard: leave alone what is bright already, by the rule in `guard`; each image of a batch by itself.
        tile: rows to compute at once; None: as many as the free memory has room for. The result is the same.

    Raises:
        WeightsError, TypeError, ValueError: an argument does not fit.
    """

    def __init__(
        self,
        weights: str | Path | nn.Module = DEFAULT_WEIGHTS,
        device: str | torch.device = "auto",
        half: bool = False,
        strength: float = 1.0,
        guard: bool = True,
        tile: int | None = None,
    ):
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"strength: expected a number from 0 to 1; got {strength}")
        if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int) or tile < 1):
            raise ValueError(f"tile: expected a number of rows, at least 1, or None; got {tile!r}")
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.half, self.strength, self.guard, self.tile = half, float(strength), guard, tile
        network = weights
        if not isinstance(weights, nn.Module):
            network = EnhanceNetwork()
            load_weights(network, weights)
        network = getattr(network, "enhance", network)
        if not isinstance(network, EnhanceNetwork):
            raise TypeError(
                f"weights: expected a path, or Network, FinetuneNetwork or EnhanceNetwork; got {type(network).__name__}"
            )
        self._impl = network.impl
        self._channels = self._weights = self._network = None
        if unfused_reason(network) is None:
            self._radius, self._weights = 3, fold(network)
        else:
            self._radius, self._network = len(network.blocks) + 2, network.to(self.device)
            self._channels = network.in_conv[0].out_channels

    def __call__(self, image):
        """The enhanced version of a path, PIL image, array, tensor, or of each of a list; the same kind.

        Raises:
            ImageError: a file is no picture.
            TypeError, ValueError: another kind, dtype or shape.
        """
        if isinstance(image, list | tuple):
            return [self(one) for one in image]
        if isinstance(image, str | Path):
            return self._picture_to_pil(read_image(image))
        if isinstance(image, Image.Image):
            return self._picture_to_pil(from_pil(image))
        if isinstance(image, np.ndarray):
            return self._array(image)
        if isinstance(image, Tensor):
            return self._tensor("image", image)
        raise TypeError(
            f"image: expected a path, PIL image, array, tensor or a list of them; got {type(image).__name__}"
        )

    def picture(self, picture: Picture, illumination: bool = False) -> Enhanced:
        """A picture as `read_image` gives it; eight bits, without a copy of the whole in floating point."""
        pixels = picture.pixels
        level = brightness(_planes(pixels[grid(*pixels.shape[:2])])[0])
        amount = self._amount(level)
        result = np.empty(pixels.shape, np.uint8)
        light = np.empty(pixels.shape, np.uint8) if illumination else None

        def write(rows: slice, bright: Tensor, lit: Tensor | None) -> None:
            result[rows] = _eight_bits(bright[0])
            if lit is not None:
                light[rows] = _eight_bits(lit[0])

        self._by_tiles(lambda rows: _planes(pixels[rows]), (1, *pixels.shape[:2]), [amount], write, illumination)
        return Enhanced(result, light, level, amount, self._note(level, amount))

    def _by_tiles(
        self,
        read: Callable[[slice], Tensor],
        shape: tuple[int, int, int],
        amounts: list[float],
        write: Callable[[slice, Tensor, Tensor | None], None],
        illumination: bool = False,
    ) -> None:
        """Enhances images `read` by rows as (N, 3, rows, W) and hands the blend with the original to `write`."""
        count, height, width = shape
        rows = self.tile or tile_rows(count * width, self.device, self._channels)
        for tile in tiles(height, rows, self._radius):
            around = read(slice(tile.low, tile.high))
            original, bright, lit = around[..., tile.own, :], None, None
            if any(amounts) or illumination:
                bright, lit = self._network_pass(around, illumination)
                bright = bright[..., tile.own, :]
            mixed = original if not any(amounts) else _blend(original, bright.to(original.device), amounts)
            write(slice(tile.top, tile.bottom), mixed, None if lit is None else lit[..., tile.own, :])

    def _network_pass(self, image: Tensor, illumination: bool) -> tuple[Tensor, Tensor | None]:
        """Reflectance, and illumination if asked for, of a tile, on the enhancer's device."""
        x = image.to(self.device)
        if self._weights is None:
            x = x if x.dtype == torch.uint8 else x.to(next(self._network.parameters()).dtype)
            lit, bright = enhance_image(self._network, x, impl="plain")
            return bright, lit
        if self.half and x.is_floating_point():
            x = x.half()
        if illumination:
            return fused_enhance(x, self._weights, return_illumination=True, impl=self._impl)
        return fused_enhance(x, self._weights, impl=self._impl), None

    def _amount(self, level: float) -> float:
        return self.strength * (guard_amount(level) if self.guard else 1.0)

    def _note(self, level: float, amount: float) -> str | None:
        if amount == self.strength:
            return None
        if amount == 0.0:
            return f"bright already (mean {level:.2f}, from {BRIGHT:.2f} on); left as it is; --no-guard enhances it"
        return f"not dark (mean {level:.2f}); enhanced by {amount:.2f} of 1; --no-guard for all of it"

    def _picture_to_pil(self, picture: Picture) -> Image.Image:
        return to_pil(self.picture(picture).pixels, picture.alpha, picture.grey, picture.icc_profile)

    def _array(self, array: np.ndarray) -> np.ndarray:
        if array.ndim == 2:
            return grey_of(self._array(np.repeat(array[..., None], 3, axis=2)))
        if array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise ValueError(f"image: expected an array (H, W), (H, W, 3) or (N, H, W, 3); got shape {array.shape}")
        if array.dtype not in (np.uint8, np.float16, np.float32, np.float64):
            raise TypeError(f"image: expected uint8, or floating point in [0, 1]; got {array.dtype}")
        # A copy only where torch cannot view it: read-only, or with negative strides.
        viewable = array.flags.writeable and all(stride > 0 for stride in array.strides)
        tensor = torch.from_numpy(array if viewable else array.copy())
        return np.ascontiguousarray(self._tensor("image", tensor.movedim(-1, -3)).movedim(-3, -1).numpy())

    @torch.no_grad()
    def _tensor(self, name: str, image: Tensor) -> Tensor:
        if image.dim() not in (3, 4) or image.shape[-3] != 3 or image.numel() == 0:
            raise ValueError(f"{name}: expected (3, H, W) or (N, 3, H, W), none of them 0; got {tuple(image.shape)}")
        if not image.is_floating_point() and image.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8, or floating point in [0, 1]; got {image.dtype}")
        batch = image.detach().reshape(-1, *image.shape[-3:])
        amounts = [self._amount(brightness(one)) for one in batch] if self.guard else [self.strength] * len(batch)
        result = torch.empty_like(batch)

        def write(rows: slice, bright: Tensor, lit: Tensor | None) -> None:
            result[..., rows, :] = bright

        self._by_tiles(lambda rows: batch[..., rows, :], (len(batch), *batch.shape[-2:]), amounts, write)
        return result.reshape(image.shape)


def _planes(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W, 3) as (1, 3, H, W): a view of uint8, float32 in [0, 1] of uint16."""
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _eight_bits(values: Tensor) -> np.ndarray:
    return values.permute(1, 2, 0).cpu().numpy() if values.dtype == torch.uint8 else quantize(values)


def _blend(original: Tensor, bright: Tensor, amounts: list[float]) -> Tensor:
    """original + amount (bright - original) of each image, in the original's dtype."""
    if all(amount == 1.0 for amount in amounts):
        return bright.to(original.dtype)
    dtype = torch.promote_types(torch.float32, original.dtype)
    weight = torch.tensor(amounts, dtype=dtype, device=original.device).view(-1, 1, 1, 1)
    mixed = torch.lerp(original.to(dtype), bright.to(dtype), weight)
    return (mixed.round_() if original.dtype == torch.uint8 else mixed).to(original.dtype)
