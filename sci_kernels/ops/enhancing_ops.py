"""The operators of enhancing, as torch.library sees them: schemas and fakes. None has a gradient."""

import torch
from torch import Tensor

from .. import reference
from ..enhance_weights import constants_of
from .dispatch import host_code, refuse_other_derivatives, triton_launchers, unwatched


def enhance(
    image: Tensor, weights: Tensor, illumination: bool, impl: str, exposure: Tensor | None, gain: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Result, illumination and gain; the latter two are empty tensors if not asked for."""
    tensors = [image] if exposure is None else [image, exposure]
    refuse_other_derivatives(*tensors)
    call = _enhance_pass if unwatched(*tensors) else _enhance
    return call(image, weights, illumination, impl, exposure, gain)


def find_exposure(image: Tensor, weights: Tensor, target: float, impl: str) -> Tensor:
    """The exposures c, `(N,)`, of sampled images."""
    refuse_other_derivatives(image)
    call = _exposure_pass if unwatched(image) else _exposure
    return call(image, weights, target, impl)


def denoise(image: Tensor, gain: Tensor, strength: float, impl: str) -> Tensor:
    """The filtered image."""
    refuse_other_derivatives(image, gain)
    call = _denoise_pass if unwatched(image, gain) else _denoise
    return call(image, gain, strength, impl)


def _enhance_pass(
    image: Tensor, weights: Tensor, illumination: bool, impl: str, exposure: Tensor | None = None, gain: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    if impl == "triton":
        call = triton_launchers(image.device).launch_enhance
        numbers, black = constants_of(weights)
        outputs = call(image, numbers, illumination, exposure, black, gain)
    else:
        outputs = host_code(impl, image.device).enhance(image, weights, illumination, exposure, gain)
    result, light, gains = outputs
    return result, image.new_empty(0) if light is None else light, _no_gain(image) if gains is None else gains


def _no_gain(image: Tensor) -> Tensor:
    return image.new_empty(0, dtype=reference.compute_dtype(image))


_enhance = torch.library.custom_op("sci::enhance", _enhance_pass, mutates_args=())


@_enhance.register_fake
def _(image, weights, illumination, impl, exposure=None, gain=False):
    result = _like(image, impl)
    n, _, height, width = image.shape
    dtype = reference.compute_dtype(image)
    gains = image.new_empty((n, 1, height, width), dtype=dtype) if gain else _no_gain(image)
    return result, torch.empty_like(result) if illumination else image.new_empty(0), gains


def _like(image: Tensor, impl: str) -> Tensor:
    """A tensor for a result: in the memory format of the image, but contiguous by "triton"."""
    return torch.empty_like(image, memory_format=torch.contiguous_format if impl == "triton" else torch.preserve_format)


def _exposure_pass(image: Tensor, weights: Tensor, target: float, impl: str) -> Tensor:
    _, light, _ = _enhance_pass(image, weights, True, impl)
    _, black = constants_of(weights)
    if impl == "triton":
        return triton_launchers(image.device).launch_exposure(image, light, target, black)
    return host_code(impl, image.device).find_exposure(image, light, target, black)


_exposure = torch.library.custom_op("sci::exposure", _exposure_pass, mutates_args=())


@_exposure.register_fake
def _(image, weights, target, impl):
    return image.new_empty(image.shape[0], dtype=reference.compute_dtype(image))


def _denoise_pass(image: Tensor, gain: Tensor, strength: float, impl: str) -> Tensor:
    if impl == "triton":
        return triton_launchers(image.device).launch_denoise(image, gain, strength)
    return host_code(impl, image.device).denoise(image, gain, strength)


_denoise = torch.library.custom_op("sci::denoise", _denoise_pass, mutates_args=())


@_denoise.register_fake
def _(image, gain, strength, impl):
    return _like(image, impl)


def _refuse_derivatives(ctx, *grads):
    raise RuntimeError(
        "enhance, exposure and denoise are for inference and have no gradient; use impl='reference', or torch.no_grad()"
    )


for _name in ("enhance", "exposure", "denoise"):
    torch.library.register_autograd(f"sci::{_name}", _refuse_derivatives)
