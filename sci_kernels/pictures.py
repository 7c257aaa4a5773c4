"""The public functions of enhancing: documented, validated from metadata alone, and dispatched to an implementation."""

from typing import Literal, overload

import torch
from torch import Tensor

from . import ops, reference
from .arguments import FLOATS, check_device, check_number, check_tensor, resolve_impl
from .constants import MAX_DENOISING, MAX_EXPOSURE, TARGET
from .enhance_weights import CHANNELS, LAYERS, TAPS, EnhanceWeights, constants_of


@overload
def enhance(
    image: Tensor,
    weights: EnhanceWeights,
    *,
    exposure: float | Tensor | None = None,
    return_illumination: Literal[False] = False,
    return_gain: Literal[False] = False,
    impl: str = "auto",
) -> Tensor: ...
@overload
def enhance(
    image: Tensor,
    weights: EnhanceWeights,
    *,
    exposure: float | Tensor | None = None,
    return_illumination: Literal[True],
    return_gain: Literal[False] = False,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]: ...
@overload
def enhance(
    image: Tensor,
    weights: EnhanceWeights,
    *,
    exposure: float | Tensor,
    return_illumination: Literal[False] = False,
    return_gain: Literal[True],
    impl: str = "auto",
) -> tuple[Tensor, Tensor]: ...
@overload
def enhance(
    image: Tensor,
    weights: EnhanceWeights,
    *,
    exposure: float | Tensor,
    return_illumination: Literal[True],
    return_gain: Literal[True],
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def enhance(
    image: Tensor,
    weights: EnhanceWeights,
    *,
    exposure: float | Tensor | None = None,
    return_illumination: bool = False,
    return_gain: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, ...]: ...
def enhance(
    image: Tensor,
    weights: EnhanceWeights,
    *,
    exposure: float | Tensor | None = None,
    return_illumination: bool = False,
    return_gain: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, ...]:
    """The published enhance network and the brightening of the image by its illumination, in one pass.

        f            = relu(conv_1(image)),   g = f + relu(conv_2(f))
        illumination = clamp(sigmoid(conv_3(g)) + image, 1e-4, 1)

    Without an exposure, by the published division: result = clamp(image / illumination, 0, 1).
    With an exposure c, by one gain G for all channels x = (R, G, B) of a pixel, which clips nothing and keeps hues:

        m, l = max(R, G, B), 0.299 R + 0.587 G + 0.114 B
        s    = 0.5 + 0.5 min(1, (mean(illumination) - mean(x)) / b)      means over the channels
        G    = (c + s) / (c m + s)                                       from 1, in white, to at most 1 + 2 c
        result = G (x + 0.02 c (l - x))                                  colors fade as they are brightened

    b is the mean illumination that the network gives black, at least 1e-3. c = 0 gives the image itself.

    Args:
        image: `(N, 3, H, W)`, not empty, any strides; float16, bfloat16, float32 or float64 in [0, 1], or uint8 in
            [0, 255]. Every convolution pads its input with zeros. With an exposure, x is the image clamped to [0, 1].
        weights: of the three convolutions, BatchNorm folded into the second; `model.fold` makes them of a network.
        exposure: c, a number from 0 to 20, or a floating point tensor `(N,)`, one for each image, on its device, such
            as `sci_kernels.exposure` returns; the values of a tensor are not checked. None: the published division.
        return_illumination: also return the illumination.
        return_gain: also return G `(N, 1, H, W)` for `denoise`, in the dtype of arithmetic; needs an exposure.
        impl: "triton", one kernel that reads and writes each pixel once, compiled anew for each set of weights;
            "native", the same in C on a CPU; "blocked", bands of rows in cache; "reference", plain convolutions; or
            "auto", as for `smooth_loss`.

    Arithmetic is in float32, in float64 for float64. Only "reference" has a gradient. NaN gives NaN unless c = 0.

    Returns:
        The result, or a tuple of it, the illumination and the gain, as asked for. Result and illumination have the
        dtype of the image. As uint8 they are 255 times the value: truncated, as the official code writes pictures, but
        with an exposure the result is rounded to nearest.

    Raises:
        TypeError: an argument is not of a type or dtype named above.
        ValueError: a shape, number, device or option does not fit.
        RuntimeError: a gradient would be needed, or "triton" or "native" was asked for where it cannot run.

    Source: inference of the official implementation (CVPR 2022), in eval mode. The exposure is this project's.
    """
    exposures = _check_enhance_arguments(image, weights, exposure, return_gain)
    result, light, gain = _enhance(image, weights, exposures, return_illumination, return_gain, impl)
    more = [tensor for tensor in (light, gain) if tensor is not None]
    return (result, *more) if more else result


def exposure(image: Tensor, weights: EnhanceWeights, target: float = TARGET, *, impl: str = "auto") -> Tensor:
    """The exposure c for `enhance` with which each image gets the mean luma `target`.

        c = 0      where mean(l) >= target: the image is bright already. Also where it is black, is not finite, or has
                   a channel at 1 in every pixel, which no c brightens
        c          in (0, cap] with mean(l (c + s) / (c m + s)) = target, if there is one
        c = cap    otherwise: min(20, 3 / h), h = max(1e-3, mean(m^8)^(1/8)); highlights stay below (6 + h) / 7 of white

    l, m and s are those of `enhance`. The means are over every k-th pixel of every k-th row, k = max(1, max(H, W) //
    256), and the network is run on the small image of these pixels. For a photograph this c is within a few percent of
    that from all pixels. Averages over blocks of pixels would not do, since the curve is not a straight line.

    Args:
        image, weights, impl: as for `enhance`.
        target: above 0 and below 1. The default is the least mean luma of normally exposed photographs.

    Returns:
        `(N,)` in the dtype of arithmetic, on the device of the image, computed without waiting for it; no gradient.

    Raises:
        TypeError, ValueError, RuntimeError: as for `enhance`.
    """
    _check_image(image)
    _check_enhance_weights(weights)
    check_number("target", target)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target: expected a mean brightness above 0 and below 1; got {target}")
    impl = resolve_impl(impl, image)
    with torch.no_grad():
        points = reference.as_floating(reference.sample(image.detach()))
        if impl == "reference":
            _, light, _ = reference.enhance(points, weights.packed)
            return reference.find_exposure(points, light, float(target), constants_of(weights.packed)[1])
        return ops.find_exposure(points, weights.packed, float(target), impl)


def denoise(image: Tensor, gain: Tensor, strength: float = 1.0, *, impl: str = "auto") -> Tensor:
    """Reduces the noise of a brightened image: each pixel becomes a mean of the near ones, weighted by similarity.

        y'(p) = sum_q w y(q) / sum_q w                                  over the 5x5 pixels q around p inside the image
        w     = exp(-|y(p) - y(q)|^2 / (2 sigma^2) - |p - q|^2 / 8)     squared distance over channels
        sigma = 0.01 strength gain(p)

    Args:
        image: `(N, 3, H, W)`, y; dtypes and strides as for `enhance`.
        gain: `(N, 1, H, W)`, floating point: the factor that each pixel was brightened by, 1 or more, as `enhance`
            returns it.
        strength: from 0, which returns the image itself, to 4.
        impl: as for `enhance`.

    Arithmetic is in float32, and in float64 for a float64 image. No gradient. A pixel that is not finite makes the
    pixels around it NaN.

    Returns:
        y' in the dtype of the image; uint8 is rounded to nearest.

    Raises:
        TypeError, ValueError, RuntimeError: as for `enhance`.
    """
    _check_image(image)
    check_tensor("gain", gain, FLOATS)
    wanted = (image.shape[0], 1, *image.shape[2:])
    if gain.shape != wanted:
        raise ValueError(f"gain: expected one number per pixel, shape {wanted}; got {tuple(gain.shape)}")
    check_device("gain", gain, "image", image)
    check_number("strength", strength)
    if not 0.0 <= strength <= MAX_DENOISING:
        raise ValueError(f"strength: expected a number from 0 to {MAX_DENOISING:g}; got {strength}")
    impl = resolve_impl(impl, image)
    _refuse_gradient("denoise", "torch.no_grad()", image=image, gain=gain)
    with torch.no_grad():
        if strength == 0.0:
            return image.clone()
        if impl == "reference":
            return reference.denoise(image, gain, float(strength))
        return ops.denoise(image, gain, float(strength), impl)


def _check_enhance_arguments(
    image: Tensor, weights: EnhanceWeights, exposure: float | Tensor | None, return_gain: bool
) -> Tensor | None:
    """Returns the exposures as a tensor, None without."""
    _check_image(image)
    _check_enhance_weights(weights)
    if exposure is not None:
        return _as_tensor(exposure, image)
    if return_gain:
        raise ValueError("return_gain: the published division has no gain; give an exposure")
    return None


def _enhance(
    image: Tensor, weights: EnhanceWeights, exposure: Tensor | None, illumination: bool, gain: bool, impl: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Result, illumination and gain; None for what was not asked for."""
    impl = resolve_impl(impl, image)
    if impl == "reference":
        black = 1.0 if exposure is None else constants_of(weights.packed)[1]
        result, light, gains = reference.enhance(image, weights.packed, exposure, black)
    else:
        _refuse_gradient("enhance", "impl='reference', torch.no_grad()", image=image, exposure=exposure)
        result, light, gains = ops.enhance(image, weights.packed, illumination, impl, exposure, gain)
    return result, light if illumination else None, gains if gain else None


def _check_image(image: Tensor) -> None:
    check_tensor("image", image, (torch.uint8, *FLOATS))
    if image.dim() != 4 or image.shape[1] != 3 or image.numel() == 0:
        raise ValueError(f"image: expected shape (N, 3, H, W), none of them 0; got {tuple(image.shape)}")


def _check_enhance_weights(weights: EnhanceWeights) -> None:
    if not isinstance(weights, EnhanceWeights):
        raise TypeError(f"weights: expected EnhanceWeights, as from model.fold(network); got {type(weights).__name__}")
    packed, shape = weights.packed, (LAYERS, CHANNELS, TAPS + 1)
    if packed.shape != shape or packed.dtype != torch.float64 or packed.device.type != "cpu":
        raise ValueError(
            f"weights: expected a float64 tensor {shape} on the CPU, as EnhanceWeights.pack makes it; "
            f"got {packed.dtype}, {tuple(packed.shape)}, {packed.device}"
        )


def _as_tensor(exposure: float | Tensor, image: Tensor) -> Tensor:
    """The exposure of each image, `(N,)` on its device, in the dtype of arithmetic."""
    dtype = reference.compute_dtype(image)
    if isinstance(exposure, Tensor):
        check_tensor("exposure", exposure, FLOATS)
        if exposure.shape != (image.shape[0],):
            raise ValueError(
                f"exposure: expected one number per image, shape {(image.shape[0],)}; got {tuple(exposure.shape)}"
            )
        check_device("exposure", exposure, "image", image)
        return exposure.to(dtype)
    check_number("exposure", exposure)
    if not 0.0 <= exposure <= MAX_EXPOSURE:
        raise ValueError(f"exposure: expected a number from 0 to {MAX_EXPOSURE:g}; got {exposure}")
    return torch.full((image.shape[0],), float(exposure), dtype=dtype, device=image.device)


def _refuse_gradient(function: str, instead: str, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if torch.is_grad_enabled() and tensor is not None and tensor.requires_grad:
            raise RuntimeError(
                f"{name}: requires a gradient, which {function} does not have; use {instead} or {name}.detach()"
            )
