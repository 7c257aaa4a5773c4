"""How much each picture is brightened: its exposure c. Decides that a picture is left alone, which is c = 0.

What the user asks for is "auto", a number, or None for the published division, which knows no exposure and leaves no
picture alone. With "auto", `sci_kernels.exposure` finds c: it is 0 where the mean luma has reached the target already.
"""

import numbers
from collections.abc import Callable

import torch
from torch import Tensor

from sci_kernels.constants import MAX_DENOISING, MAX_EXPOSURE
from sci_kernels.reference import sample


def check_range(name: str, value: object, most: float, others: str = "") -> None:
    """Raises ValueError unless `value` is a number from 0 to `most`; `others` names what else is accepted."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and not value < 0.0 and value <= most
    if not number:  # NaN neither
        raise ValueError(f"{name}: expected a number from 0 to {most:g}{others}; got {value!r}")


def check_rule(exposure: float | str | None, denoise: float | None) -> float:
    """The strength of the filter, once it and the exposure are found to go together.

    The arguments and the ValueError are those of `Enhancer`.
    """
    if exposure is not None and not (isinstance(exposure, str) and exposure == "auto"):
        check_range("exposure", exposure, MAX_EXPOSURE, ", 'auto' or None")
    if denoise is None:
        return 0.0 if exposure is None else 1.0
    check_range("denoise", denoise, MAX_DENOISING)
    if exposure is None and denoise:
        raise ValueError(f"denoise: the published division has no filter; got {denoise}; leave it out")
    return float(denoise)


def exposure_of_each(
    images: Tensor, rule: float | str | None, strength: float, find: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """The exposure of each image `(N, 3, H, W)`, 0 where it is to be left alone; None: the published division.

    Args:
        rule: "auto", a number for all, or None.
        strength: multiplies the exposure.
        find: gives the exposures for "auto", from the points of the images that are looked at.
    """
    if rule is None:
        return None
    if isinstance(rule, str):
        return strength * find(sample(images))
    return torch.full((len(images),), strength * rule)


def all_left_alone(exposures: Tensor | None) -> bool:
    """Whether every image is to be left alone, as far as that is known without waiting for a GPU."""
    return exposures is not None and exposures.device.type == "cpu" and not exposures.any()
