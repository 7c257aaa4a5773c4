"""The public functions of training: documented, validated from metadata alone, and dispatched to an implementation."""

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from . import ops, reference
from .arguments import check_device, check_number, check_tensor, resolve_impl
from .constants import COLORS, FIDELITY_WEIGHT, MIN_SIDE, MIN_SIGMA, SIGMA, SMOOTH_WEIGHT


def smooth_loss(
    input: Tensor, illumination: Tensor, sigma: float = SIGMA, color: str = "reference", impl: str = "auto"
) -> Tensor:
    """Edge-aware smoothness of an illumination map: each pixel compared with its 24 neighbors.

        w_o(p) = exp(-|Y(p) - Y(p+o)|^2 / (2 sigma^2))      squared distance over input channels
        d_o(p) = sum_c |L_c(p) - L_c(p+o)|                  over illumination channels
        loss   = sum_o mean_{n, p} w_o(p) d_o(p)            24 offsets o of the 5x5 neighborhood,
                                                            over the p for which p and p+o are inside

    Args:
        input: `(N, C, H, W)`, C from 1 to 3, nominally in [0, 1]: the image, at whose edges the illumination may
            change. Y is its color transform. Gets a gradient.
        illumination: `(N, C', H, W)`, C' from 1 to 3: L. Gets a gradient; d|x|/dx is 0 at 0. On NVIDIA GPUs that
            derivative is between -1 and 1 where |x| is below 1e-18.
        sigma: scale of the color distance, in units of Y; finite, at least 1e-18.
        color: the transform from input to Y. "reference": YCbCr over triples of consecutive elements of
            contiguous NCHW memory, which gives the numbers of the official code (needs `input.numel() % 3 == 0`);
            "ycbcr": YCbCr of each pixel; "rgb": the input itself.
        impl: "triton", for CUDA and ROCm tensors; "native", C for CPU tensors, compiled at the first call; "blocked",
            plain PyTorch on any device, in bands of rows; "reference", the definition in plain PyTorch; or "auto":
            triton or native where they can run, blocked elsewhere.

    Both tensors may be float16, bfloat16, float32 or float64, with any strides. Arithmetic is in the wider of the two
    dtypes, and at least in float32.

    Returns:
        A scalar in the dtype of the arithmetic. Gradients have the dtype of their argument.

    Raises:
        TypeError: `input` or `illumination` is not a floating-point tensor, or `sigma` is not a number.
        ValueError: a shape, device or option does not fit; H or W is below 3 (the official code returns NaN there).
        RuntimeError: the implementation that was asked for cannot run here; or a derivative was asked for that only
            "reference" has: a second one, one in forward mode, or one by torch.func.

    Source: the official SCI implementation (CVPR 2022); the defaults give its numbers.
    """
    if _recorded(input, illumination):
        tensors = (input, illumination)
        return handle_torch_function(smooth_loss, tensors, *tensors, sigma, color, impl)
    _check_loss_arguments(input, illumination, sigma, color)
    impl = resolve_impl(impl, input)
    if impl == "reference":
        return reference.smooth_loss(input, illumination, sigma, color)
    return ops.loss(input, illumination, float(sigma), color, 0.0, 1.0, impl)


def illumination_loss(
    input: Tensor,
    illumination: Tensor,
    fidelity_weight: float = FIDELITY_WEIGHT,
    smooth_weight: float = SMOOTH_WEIGHT,
    sigma: float = SIGMA,
    color: str = "reference",
    impl: str = "auto",
) -> Tensor:
    """The loss that SCI is trained with, fidelity to the input plus smoothness, in one pass.

        fidelity_weight * mean((illumination - input)^2) + smooth_weight * smooth_loss(input, illumination)

    Args:
        input: `(N, C, H, W)`, C from 1 to 3: the input of the stage. Gets a gradient.
        illumination: of the same shape. Gets a gradient.
        fidelity_weight: a finite number; public forks use 0.5, 1.0, 1.5 and 3.0.
        smooth_weight: a finite number.
        sigma, color, impl: as for `smooth_loss`.

    Dtypes, result and errors are those of `smooth_loss`.

    Source: the official `LossFunction`.
    """
    if _recorded(input, illumination):
        tensors, weights = (input, illumination), (fidelity_weight, smooth_weight)
        return handle_torch_function(illumination_loss, tensors, *tensors, *weights, sigma, color, impl)
    _check_loss_arguments(input, illumination, sigma, color)
    if input.shape != illumination.shape:
        raise ValueError(
            f"illumination: expected the shape of input, {tuple(input.shape)}, since the fidelity term compares "
            f"them element by element; got {tuple(illumination.shape)}"
        )
    check_number("fidelity_weight", fidelity_weight)
    check_number("smooth_weight", smooth_weight)
    impl = resolve_impl(impl, input)
    if impl == "reference":
        return reference.illumination_loss(input, illumination, fidelity_weight, smooth_weight, sigma, color)
    return ops.loss(input, illumination, float(sigma), color, float(fidelity_weight), float(smooth_weight), impl)


def retinex(
    residual: Tensor, stage_input: Tensor, image: Tensor, impl: str = "auto", *, sigmoid: bool = False
) -> tuple[Tensor, Tensor]:
    """The illumination, from the network's residual, and the reflectance: the image divided by it.

        illumination = clamp(residual + stage_input, 1e-4, 1)
        reflectance  = clamp(image / illumination, 0, 1)

    Args:
        residual: of any shape, but not empty: the output of the enhance network's sigmoid. Gets a gradient.
        stage_input: of the same shape: the input of the enhance network. Gets a gradient.
        image: of the same shape: the low-light image. Gets a gradient. May be the same tensor as `stage_input`.
        impl: as for `smooth_loss`.
        sigmoid: `residual` is the output of the last convolution, before its sigmoid, which is then applied here, in
            the dtype of the arithmetic.

    Dtypes and strides are as for `smooth_loss`. The gradient of a clamp is 1 on the closed interval and 0 elsewhere.
    NaN stays NaN.

    Returns:
        `(illumination, reflectance)` in the widest dtype of the arguments. Arithmetic is at least in float32.

    Raises:
        TypeError, ValueError, RuntimeError: as for `smooth_loss`.
    """
    if _recorded(residual, stage_input, image):
        tensors = (residual, stage_input, image)
        return handle_torch_function(retinex, tensors, *tensors, impl, sigmoid=sigmoid)
    for name, tensor in (("residual", residual), ("stage_input", stage_input), ("image", image)):
        check_tensor(name, tensor)
        if tensor.shape != residual.shape:
            raise ValueError(
                f"{name}: expected the shape of residual, {tuple(residual.shape)}; got {tuple(tensor.shape)}"
            )
        check_device(name, tensor, "residual", residual)
    if residual.numel() == 0:
        raise ValueError(f"residual: expected at least one element; got shape {tuple(residual.shape)}")
    impl = resolve_impl(impl, residual)
    if impl == "reference":
        return reference.retinex(residual, stage_input, image, sigmoid)
    return ops.retinex(residual, stage_input, image, sigmoid, impl)


def _recorded(*arguments: object) -> bool:
    """Whether an argument stands for a tensor without being one, as in torch.fx, which records the call itself."""
    return not all(isinstance(argument, Tensor) for argument in arguments) and has_torch_function(arguments)


def _check_loss_arguments(input: Tensor, illumination: Tensor, sigma: float, color: str) -> None:
    for name, tensor in (("input", input), ("illumination", illumination)):
        check_tensor(name, tensor)
        if tensor.dim() != 4:
            raise ValueError(f"{name}: expected 4 dimensions (N, C, H, W); got shape {tuple(tensor.shape)}")
        n, c, h, w = tensor.shape
        if n < 1:
            raise ValueError(f"{name}: expected at least one image; got an empty batch, shape {tuple(tensor.shape)}")
        if c not in (1, 2, 3):
            raise ValueError(f"{name}: expected 1, 2 or 3 channels; got {c}, shape {tuple(tensor.shape)}")
        if h < MIN_SIDE or w < MIN_SIDE:
            raise ValueError(
                f"{name}: expected height and width of at least {MIN_SIDE}, the reach of the 5x5 neighborhood; "
                f"got {h}x{w}"
            )
    if input.shape[0] != illumination.shape[0] or input.shape[2:] != illumination.shape[2:]:
        raise ValueError(
            f"illumination: expected the batch, height and width of input, shape {tuple(input.shape)}; "
            f"got {tuple(illumination.shape)}"
        )
    check_device("illumination", illumination, "input", input)
    check_number("sigma", sigma)
    if sigma < MIN_SIGMA:
        raise ValueError(f"sigma: expected a positive number, at least {MIN_SIGMA:g}; got {sigma}")
    if color not in COLORS:
        raise ValueError(f"color: expected one of {', '.join(COLORS)}; got {color!r}")
    if color == "ycbcr" and input.shape[1] != 3:
        raise ValueError(f"color: 'ycbcr' needs 3 input channels; got {input.shape[1]}; use color='rgb'")
    if color == "reference" and input.numel() % 3 != 0:
        raise ValueError(
            f"input: color='reference' groups elements in threes and needs numel() % 3 == 0; got {input.numel()} "
            f"elements, shape {tuple(input.shape)}; use color='rgb'"
        )
