"""Bright pictures in three lines: `from model import Enhancer; e = Enhancer(); bright = e("night.jpg")`."""

import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..images import Picture, from_pil, gray_of, quantize, read_image, to_pil
from ..machine import device_named
from ..network import DEFAULT_WEIGHTS, EnhanceNetwork, load_weights
from .brighten import Brightener
from .exposure import all_left_alone, check_range, check_rule, exposure_of_each
from .mean_brightness import brightness, visible_sample
from .row_tiles import tile_rows, tiles

# Above this, values are certainly not meant for [0, 1].
_OVERSHOOT = 2.0

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Kind = TypeVar("_Kind")
_Several = list[_Kind] | tuple[_Kind, ...]
_Opened = str | Path | Image.Image


class Enhanced(NamedTuple):
    """A picture that has been enhanced, and what was done to it."""

    pixels: np.ndarray  # (H, W, 3), uint8, or uint16 where 16 bits were asked for
    illumination: np.ndarray | None  # of the same shape and dtype, where it was asked for
    exposure: float | None  # c of `sci_kernels.enhance`; None: the published division
    before: float  # mean luma of the original, see `brightness`
    after: float  # mean luma of the result

    @property
    def left(self) -> bool:
        """Whether the picture was left alone."""
        return self.exposure == 0.0

    @property
    def line(self) -> str:
        """What was done, in words for the user."""
        if self.left:
            return f"brightness {self.before:.2f}, left as it was"
        exposure = "" if self.exposure is None else f", exposure {self.exposure:.2f}"
        return f"brightness {self.before:.2f} to {self.after:.2f}{exposure}"


class Enhancer:
    """Enhances pictures of any kind and size, and returns the kind that it was given.

        e = Enhancer()
        bright = e("night.jpg")         a path gives a PIL image, turned upright
        bright = e(image)               a PIL image gives one, 8 bits: gray stays gray, transparency is kept
        bright = e(array)               (H, W, 3) or (N, H, W, 3), uint8, uint16 or floating point in [0, 1]
        bright = e(plane)               (H, W), of the same dtypes: gray, and the result is gray
        bright = e(tensor)              (3, H, W) or (N, 3, H, W), uint8 or floating point, on any device
        bright = e([a, b, "c.png"])     a list or tuple gives a list

    Args:
        weights: a weight file, or a `Network`, `FinetuneNetwork` or `EnhanceNetwork`, used as it is now.
        device: to compute on; "auto": a GPU where there is one.
        half: read and write floating point arrays and tensors as float16, which moves half the bytes; arithmetic
            stays in float32 and the result has the dtype of the original.
        strength: 0 gives the original, 1 all of the effect. It multiplies the exposure; the published division is
            blended with the original.
        exposure: "auto" makes each image as bright as a well exposed photograph, by `sci_kernels.exposure`, and leaves
            alone an image that is bright already; a number from 0 to 20 is c itself; None is the published division.
        denoise: strength of the filter against the noise that was brightened, `sci_kernels.denoise`, from 0 to 4;
            None: 1. The published division has no filter: there it is 0.
        tile: rows to compute at once; None: as many as the free memory has room for. The result is the same.

    Floating point values above 2 are refused. Other values outside [0, 1] are clamped, with a warning, where an image
    is brightened; on a GPU, values are not checked. An image that is left alone keeps such values, and so does one with
    NaN, whose exposure is 0. A PIL image has the color profile, EXIF data, XMP data and resolution of the original in
    its `info`. Pixels hidden by transparency count neither for the exposure nor for the brightness.

    Raises:
        WeightsError, TypeError, ValueError: an argument does not fit.
    """

    def __init__(
        self,
        weights: str | Path | nn.Module = DEFAULT_WEIGHTS,
        device: str | torch.device = "auto",
        half: bool = False,
        strength: float = 1.0,
        *,
        exposure: float | str | None = "auto",
        denoise: float | None = None,
        tile: int | None = None,
    ):
        check_range("strength", strength, 1.0)
        denoise = check_rule(exposure, denoise)
        if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int) or tile < 1):
            raise ValueError(f"tile: expected a number of rows, at least 1, or None; got {tile!r}")
        self.device = device_named("auto") if device == "auto" else torch.device(device)
        self.strength, self.exposure, self.tile = float(strength), exposure, tile
        if isinstance(weights, nn.Module):
            network = weights
        else:
            network = EnhanceNetwork()
            load_weights(network, weights)
        self._brighten = Brightener(network, self.device, exposure is None, denoise, half)

    @overload
    def __call__(self, image: _Opened) -> Image.Image: ...

    @overload
    def __call__(self, image: NDArray[_Scalar]) -> NDArray[_Scalar]: ...

    @overload
    def __call__(self, image: Tensor) -> Tensor: ...

    @overload
    def __call__(  # a list of one kind is no list of several
        self, image: _Several[_Opened] | list[str] | list[Path] | list[str | Path] | list[Image.Image]
    ) -> list[Image.Image]: ...

    @overload
    def __call__(self, image: _Several[NDArray[_Scalar]]) -> list[NDArray[_Scalar]]: ...

    @overload
    def __call__(self, image: _Several[Tensor]) -> list[Tensor]: ...

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[Image.Image | np.ndarray | Tensor]: ...

    def __call__(self, image):
        """The enhanced version of a path, PIL image, array or tensor, of the same kind, or a list of them for a list.

        Raises:
            ImageError: a file is not a picture.
            TypeError, ValueError: another kind, dtype, shape or range.
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
            return self._tensor(image)
        raise TypeError(
            f"image: expected a path, PIL image, array, tensor or a list of them; got {type(image).__name__}"
        )

    def picture(self, picture: Picture, illumination: bool = False, bits: int = 8) -> Enhanced:
        """Enhance a picture as `read_image` gives it, without a floating point copy of all of it.

        bits: of the result, 8 or 16. With 16 it is computed in float32, even where `half` is set, and rounded to the
        nearest of the levels 0 to 65535; a picture that is left alone keeps its values, those of 8 bits times 257.
        """
        if bits not in (8, 16):
            raise ValueError(f"bits: expected 8 or 16; got {bits!r}")
        pixels, alpha = picture.pixels, picture.alpha
        exposures = self.exposures(_planes(visible_sample(pixels, alpha), 8))
        exposure = None if exposures is None else float(exposures)
        result = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
        light = np.empty_like(result) if illumination else None
        # The official code truncates to 8 bits; a picture that is left alone would lose a level by that.
        rounded = bits == 16 or exposure is not None or self.strength == 0.0

        def write(rows: slice, bright: Tensor, lit: Tensor | None) -> None:
            result[rows] = _stored(bright[0], rounded, bits)
            if light is not None and lit is not None:
                light[rows] = _stored(lit[0], bits == 16, bits)

        shape = (1, *pixels.shape[:2])
        self._by_tiles(lambda rows: _planes(pixels[rows], bits), shape, exposures, write, illumination, bits == 8)
        return Enhanced(result, light, exposure, brightness(pixels, alpha), brightness(result, alpha))

    @torch.no_grad()
    def exposures(self, images: Tensor) -> Tensor | None:
        """The exposure that each image `(N, 3, H, W)` would get, strength included; None: the published division."""
        find = self._brighten.find_exposure
        return exposure_of_each(images, self.exposure, self.strength, lambda points: find(points.to(self.device)))

    def frame(self, image: Tensor, exposure: float) -> Tensor:
        """Enhance one image `(1, 3, H, W)` with an exposure that was found elsewhere, as for a video."""
        return self._tensor(image, torch.tensor([exposure]))

    def _by_tiles(
        self,
        read: Callable[[slice], Tensor],
        shape: tuple[int, int, int],
        exposures: Tensor | None,
        write: Callable[[slice, Tensor, Tensor | None], None],
        illumination: bool = False,
        half: bool = True,
    ) -> None:
        """Brighten images, which `read` gives by rows as (N, 3, rows, W), and hand the results to `write`.

        Without `half` never in float16.
        """
        count, height, width = shape
        rows = self.tile or tile_rows(count * width, self.device, self._brighten.channels)
        unchanged = self.strength == 0.0 or all_left_alone(exposures)
        for tile in tiles(height, rows, self._brighten.radius):
            around = read(slice(tile.low, tile.high))
            bright, lit = around[..., tile.own, :], None
            if not unchanged or illumination:
                made, lit = self._brighten(around.to(self.device), exposures, illumination, half)
                lit = None if lit is None else lit[..., tile.own, :]
                if not unchanged:
                    made = made[..., tile.own, :].to(bright.device)
                    bright = made if exposures is not None else _blend(bright, made, self.strength)
            write(slice(tile.top, tile.bottom), bright, lit)

    def _picture_to_pil(self, picture: Picture) -> Image.Image:
        return to_pil(self.picture(picture).pixels, picture.alpha, picture.gray, picture.metadata)

    def _array(self, array: np.ndarray) -> np.ndarray:
        if array.ndim == 2:
            return gray_of(self._array(np.repeat(array[..., None], 3, axis=2)))
        if array.ndim not in (3, 4) or array.shape[-1] != 3 or array.size == 0:
            raise ValueError(
                f"image: expected an array (H, W), (H, W, 3) or (N, H, W, 3), none of them 0; got shape {array.shape}"
            )
        if array.dtype == np.uint16:
            images = array.reshape(-1, *array.shape[-3:])
            return np.stack([self.picture(Picture(image), bits=16).pixels for image in images]).reshape(array.shape)
        if array.dtype not in (np.uint8, np.float16, np.float32, np.float64):
            raise TypeError(f"image: expected uint8, uint16, or floating point in [0, 1]; got {array.dtype}")
        # A copy only where torch cannot view it: read-only, or with negative strides.
        viewable = array.flags.writeable and all(stride > 0 for stride in array.strides)
        tensor = torch.from_numpy(array if viewable else array.copy())
        return np.ascontiguousarray(self._tensor(tensor.movedim(-1, -3)).movedim(-3, -1).numpy())

    @torch.no_grad()
    def _tensor(self, image: Tensor, exposures: Tensor | None = None) -> Tensor:
        if image.dim() not in (3, 4) or image.shape[-3] != 3 or image.numel() == 0:
            raise ValueError(f"image: expected (3, H, W) or (N, 3, H, W), none of them 0; got {tuple(image.shape)}")
        if not image.is_floating_point() and image.dtype != torch.uint8:
            raise TypeError(f"image: expected uint8, or floating point in [0, 1]; got {image.dtype}")
        _check_values(image)
        batch = image.detach().reshape(-1, *image.shape[-3:])
        if exposures is None:
            exposures = self.exposures(batch)
        result = torch.empty_like(batch)

        def write(rows: slice, bright: Tensor, lit: Tensor | None) -> None:
            result[..., rows, :] = bright

        self._by_tiles(lambda rows: batch[..., rows, :], (len(batch), *batch.shape[-2:]), exposures, write)
        return result.reshape(image.shape)


def _check_values(image: Tensor) -> None:
    """Raises ValueError for floating point values that cannot be meant for [0, 1]; warns of others outside [0, 1]."""
    if image.dtype == torch.uint8 or image.device.type != "cpu":
        return
    low, high = (float(value) for value in image.detach().aminmax())
    found = f"image: expected values in [0, 1]; got {low:g} to {high:g}"
    if _OVERSHOOT < high < float("inf"):
        raise ValueError(f"{found}; divide values of 0 to 255 by 255, or give uint8")
    if not (low >= 0.0 and high <= 1.0):
        text = "what lies outside is taken for 0 or 1, and an image with NaN is left as it is"
        warnings.warn(f"{found}; {text}", stacklevel=_caller())


def _caller() -> int:
    """The `stacklevel` with which a warning in the calling function names the line outside that called this module."""
    frames = [frame for frame, _ in traceback.walk_stack(sys._getframe(1))]
    # The outermost frame of this module: between its frames lie others, such as the decorator that turns gradients off.
    return 1 + max(level for level, frame in enumerate(frames, 1) if frame.f_globals is globals())


def _planes(pixels: np.ndarray, bits: int) -> Tensor:
    """Pixels (H, W, 3) as (1, 3, H, W): a view of uint8 for a result of 8 bits, else float32 in [0, 1]."""
    if pixels.dtype != np.uint8 or bits != 8:
        pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    elif not pixels.flags.writeable:  # of some readers; PyTorch would warn
        pixels = pixels.copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _stored(values: Tensor, rounded: bool, bits: int) -> np.ndarray:
    """Values (3, H, W) as pixels (H, W, 3)."""
    return values.permute(1, 2, 0).cpu().numpy() if values.dtype == torch.uint8 else quantize(values, rounded, bits)


def _blend(original: Tensor, bright: Tensor, strength: float) -> Tensor:
    """original + strength (bright - original), in the original's dtype."""
    if strength == 1.0:
        return bright.to(original.dtype)
    dtype = torch.promote_types(torch.float32, original.dtype)
    mixed = torch.lerp(original.to(dtype), bright.to(dtype), strength)
    return (mixed.round_() if original.dtype == torch.uint8 else mixed).to(original.dtype)
