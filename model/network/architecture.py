"""The networks of self-calibrated illumination, with the official state-dict keys.

    enhance:    residual = sigmoid(conv(B(relu(conv(x))))),  B(f) = f + relu(bn(conv(f))), the same block each time
    retinex:    illumination = clamp(residual + x, 1e-4, 1),  reflectance = clamp(image / illumination, 0, 1)
    calibrate:  x - sigmoid(conv(B'(relu(bn(conv(x)))))),     B'(f) = f + (conv, bn, relu twice)(f), likewise shared
    stages:     x_1 = image,  x_{k+1} = image + calibrate(reflectance_k)

A shared block is registered under two names (`conv` and `blocks.0`, or `convs` and `blocks.{0,1,2}`) because the
official checkpoints hold it under both.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sci_kernels import retinex

from .conv3x3 import Conv3x3, conv_of
from .fused_training import CHECKPOINTS, CONVOLUTIONS, can_fuse, fused_network

_STD = 0.02


class Stages(NamedTuple):
    """Inputs and outputs of the stages of `Network`: lists with one `(N, 3, H, W)` tensor per stage."""

    illuminations: list[Tensor]  # in [1e-4, 1]
    reflectances: list[Tensor]  # in [0, 1]
    inputs: list[Tensor]  # image, then image + calibration
    calibrations: list[Tensor]  # absolute values; empty without `exact`


class EnhanceNetwork(nn.Module):
    """Illumination and reflectance of an image: 258 parameters as published.

    Args:
        layers: how many times the shared block is applied.
        channels: width between the first and the last convolution.
        impl: of `sci_kernels.retinex`. Except with "reference", training runs all the convolutions in one function,
            which keeps less for backward (see `fused_training`).
        checkpoint: "off", "stage" or "block": keep even less and compute it again in backward.
        convolutions: in training, "auto", "library" or "triton", see `fused_training.fused_network`.
    """

    def __init__(
        self,
        layers: int = 1,
        channels: int = 3,
        impl: str = "auto",
        checkpoint: str = "off",
        convolutions: str = "auto",
    ):
        super().__init__()
        _check_counts(layers=layers, channels=channels)
        _check_options(impl, checkpoint, convolutions)
        self.channels = channels
        self.impl, self.checkpoint, self.convolutions = impl, checkpoint, convolutions
        self.in_conv = nn.Sequential(Conv3x3(3, channels), nn.ReLU())
        self.conv = nn.Sequential(Conv3x3(channels, channels), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.ModuleList([self.conv] * layers)
        self.out_conv = nn.Sequential(Conv3x3(channels, 3), nn.Sigmoid())
        _initialize(self.in_conv, self.conv, self.out_conv)

    def residual(self, stage_input: Tensor) -> Tensor:
        """Illumination minus `stage_input`, before the clamp: `(N, 3, H, W)` in [0, 1]."""
        return self._before_sigmoid(stage_input).sigmoid()

    def _before_sigmoid(self, stage_input: Tensor) -> Tensor:
        return _output(self, self.in_conv, self.conv, stage_input)

    def forward(self, stage_input: Tensor, image: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(illumination, reflectance)` of `image` `(N, 3, H, W)`, by default the stage input itself."""
        _check_image("stage_input", stage_input)
        image = stage_input if image is None else image
        return retinex(self._before_sigmoid(stage_input), stage_input, image, impl=self.impl, sigmoid=True)


class CalibrateNetwork(nn.Module):
    """What to add to the image for the next stage, from this stage's reflectance: 5,619 parameters as published.

    `impl`, `checkpoint` and `convolutions` as for `EnhanceNetwork`.
    """

    def __init__(
        self,
        layers: int = 3,
        channels: int = 16,
        impl: str = "auto",
        checkpoint: str = "off",
        convolutions: str = "auto",
    ):
        super().__init__()
        _check_counts(layers=layers, channels=channels)
        _check_options(impl, checkpoint, convolutions)
        self.impl, self.checkpoint, self.convolutions = impl, checkpoint, convolutions
        self.in_conv = nn.Sequential(Conv3x3(3, channels), nn.BatchNorm2d(channels), nn.ReLU())
        self.convs = nn.Sequential(
            *(Conv3x3(channels, channels), nn.BatchNorm2d(channels), nn.ReLU()),
            *(Conv3x3(channels, channels), nn.BatchNorm2d(channels), nn.ReLU()),
        )
        self.blocks = nn.ModuleList([self.convs] * layers)
        self.out_conv = nn.Sequential(Conv3x3(channels, 3), nn.Sigmoid())
        _initialize(self.in_conv, self.convs, self.out_conv)

    def forward(self, reflectance: Tensor) -> Tensor:
        """`reflectance - s`, s in [0, 1]; shape `(N, 3, H, W)`."""
        _check_image("reflectance", reflectance)
        return _output(self, self.in_conv, self.convs, reflectance, subtract=True)


class Network(nn.Module):
    """The training cascade: the same enhance and calibrate networks in every stage.

    Args:
        stage: the number of stages.
        impl: of the operators, see `EnhanceNetwork`.
        exact: also compute what training does not need: the list of calibrations, and the calibration of the last
            stage, which feeds no other and changes only running averages that training never uses.
        checkpoint, convolutions: of the two networks, see `EnhanceNetwork`.
    """

    def __init__(
        self,
        stage: int = 3,
        impl: str = "auto",
        exact: bool = True,
        checkpoint: str = "off",
        convolutions: str = "auto",
    ):
        super().__init__()
        _check_counts(stage=stage)
        self.stage, self.exact = stage, exact
        self.enhance = EnhanceNetwork(layers=1, channels=3, impl=impl, checkpoint=checkpoint, convolutions=convolutions)
        self.calibrate = CalibrateNetwork(
            layers=3, channels=16, impl=impl, checkpoint=checkpoint, convolutions=convolutions
        )

    def forward(self, image: Tensor) -> Stages:
        """All stages of `image`, `(N, 3, H, W)` in [0, 1]."""
        stages = Stages([], [], [], [])
        stage_input = image
        for number in range(1, self.stage + 1):
            illumination, reflectance = self.enhance(stage_input, image)
            stages.illuminations.append(illumination)
            stages.reflectances.append(reflectance)
            stages.inputs.append(stage_input)
            if number < self.stage or self.exact:
                calibration = self.calibrate(reflectance)
                if self.exact:
                    stages.calibrations.append(calibration.abs())
                stage_input = image + calibration
        return stages


class FinetuneNetwork(nn.Module):
    """The enhance network alone, as it is fine-tuned and used."""

    def __init__(self, impl: str = "auto", checkpoint: str = "off", convolutions: str = "auto"):
        super().__init__()
        self.enhance = EnhanceNetwork(layers=1, channels=3, impl=impl, checkpoint=checkpoint, convolutions=convolutions)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`(illumination, reflectance)` of `image`, `(N, 3, H, W)` in [0, 1]."""
        return self.enhance(image)


def enhance_part(network: nn.Module, expected: str = "network: expected") -> EnhanceNetwork:
    """The enhance network of a `Network` or `FinetuneNetwork`, or an `EnhanceNetwork` itself.

    Raises TypeError for any other module, in a message that begins with `expected`.
    """
    enhance = getattr(network, "enhance", network)
    if not isinstance(enhance, EnhanceNetwork):
        raise TypeError(f"{expected} Network, FinetuneNetwork or EnhanceNetwork; got {type(network).__name__}")
    return enhance


def _output(
    network: EnhanceNetwork | CalibrateNetwork,
    head: nn.Sequential,
    block: nn.Sequential,
    x: Tensor,
    subtract: bool = False,
) -> Tensor:
    """The output of the last convolution for x, or x minus its sigmoid; in training by one function where possible.

    Under torch.compile the modules are called one by one: the compiler decides itself what to keep for backward.
    """
    compiling = torch.compiler.is_compiling() and network.checkpoint == "off"
    if network.training and network.impl != "reference" and can_fuse(head, block) and not compiling:
        last, layers = conv_of(network.out_conv), len(network.blocks)
        options = (network.checkpoint, subtract, network.impl, network.convolutions)
        return fused_network(x, head, block, layers, last, *options)
    if network.training and network.convolutions == "triton":
        raise ValueError(
            "convolutions: expected 'auto' with torch.compile, or with BatchNorm that is frozen, "
            "synchronized or otherwise changed; got 'triton'"
        )
    if network.training and network.checkpoint != "off":
        raise ValueError(
            f"checkpoint: expected 'off' with BatchNorm that is frozen, synchronized or otherwise changed; "
            f"got {network.checkpoint!r}; leave it off"
        )
    features = head(x)
    for shared in network.blocks:
        features = features + shared(features)
    features = network.out_conv[0](features)
    return x - features.sigmoid() if subtract else features


def _check_options(impl: str, checkpoint: str, convolutions: str) -> None:
    for name, value, known in (
        ("checkpoint", checkpoint, CHECKPOINTS),
        ("convolutions", convolutions, CONVOLUTIONS),
    ):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}; got {value!r}")
    if checkpoint != "off" and impl == "reference":
        raise ValueError(f"checkpoint: expected 'off' with impl='reference'; got {checkpoint!r}; use impl='auto'")
    if convolutions == "triton" and impl == "reference":
        raise ValueError("convolutions: expected 'auto' with impl='reference'; got 'triton'; use impl='auto'")


def _initialize(*parts: nn.Sequential) -> None:
    """The official start: convolutions N(0, 0.02) without bias, BatchNorm scales N(1, 0.02)."""
    for part in parts:
        for module in part:
            if isinstance(module, Conv3x3):
                nn.init.normal_(module.weight, 0.0, _STD)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, _STD)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"{name}: expected an integer; got {type(count).__name__}")
        if count < 1:
            raise ValueError(f"{name}: expected at least 1; got {count}")


def _check_image(name: str, image: Tensor) -> None:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        found = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"{name}: expected a floating point tensor, values in [0, 1]; got {found}")
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"{name}: expected shape (N, 3, H, W); got {tuple(image.shape)}")
