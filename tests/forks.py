"""Losses as public forks of SCI have them, written anew from their description: official names, shapes and quirks.

Arithmetic is of this file's own, neither the library's nor the reference's: 24 directions one by one, colors over
triples of memory.
"""

import contextlib
import unittest.mock

import torch
from torch import nn

MATRIX = [[0.257, -0.148, 0.439], [0.564, -0.291, -0.368], [0.098, 0.439, -0.071]]
BIAS = [16 / 255, 128 / 255, 128 / 255]
STEPS = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]


def cuda_or_not():
    """Where there is no GPU, `tensor.cuda()` returns the tensor."""
    if torch.cuda.is_available():
        return contextlib.nullcontext()
    return unittest.mock.patch.object(torch.Tensor, "cuda", lambda self: self)


def shifted(x, dy, dx):
    """Each pixel that has this neighbor, and the neighbor."""
    h, w = x.shape[2:]
    rows, columns = slice(max(0, dy), h + min(0, dy)), slice(max(0, dx), w + min(0, dx))
    far_rows, far_columns = slice(max(0, -dy), h + min(0, -dy)), slice(max(0, -dx), w + min(0, -dx))
    return x[:, :, far_rows, far_columns], x[:, :, rows, columns]


class SmoothLoss(nn.Module):
    """The official class, in the parts that forks and scripts rely on."""

    steps = STEPS

    def __init__(self, sigma=10):
        super().__init__()
        self.sigma = sigma

    def rgb2yCbCr(self, input_im):
        rows = input_im.contiguous().view(-1, 3)
        matrix, bias = torch.tensor(MATRIX, dtype=rows.dtype), torch.tensor(BIAS, dtype=rows.dtype)
        return (rows.mm(matrix.cuda()) + bias.cuda()).view(input_im.shape)

    def weight(self, squares):
        return torch.exp(squares * (-1.0 / (2 * self.sigma * self.sigma)))

    def distance(self, here, there):
        return torch.norm(here - there, p=1, dim=1, keepdim=True)

    def term(self, number, weight, distance):
        return (weight * distance).mean()

    def forward(self, input, output):
        self.output = output
        self.input = self.rgb2yCbCr(input)
        total = 0
        for number, step in enumerate(self.steps):
            here, there = shifted(self.input, *step)
            weight = self.weight((here - there).pow(2).sum(1, keepdim=True))
            total = total + self.term(number, weight, self.distance(*shifted(output, *step)))
        return total


class LossFunction(nn.Module):
    fidelity = 1.5

    def __init__(self, smooth=None):
        super().__init__()
        self.l2_loss = nn.MSELoss()
        self.smooth_loss = SmoothLoss() if smooth is None else smooth

    def forward(self, input, illu):
        return self.fidelity * self.l2_loss(illu, input) + self.smooth_loss(input, illu)


def named(name):
    """Gives a class the name that its fork has; pickle goes by the qualified name, which stays."""

    def rename(cls):
        cls.__name__ = name
        return cls

    return rename


@named("LossFunction")
class StepsLossFunction(LossFunction):
    """One plane; its colors are triples of that plane."""

    fidelity = 0.5

    def forward(self, input, illu):
        assert input.shape[1] == 1
        return super().forward(input, illu)


@named("LossFunction")
class ZeroIgLossFunction(nn.Module):
    """Many tensors in, a sum of many terms out; the smoothness is one, times 5, of a detached input."""

    def __init__(self):
        super().__init__()
        self.l2_loss, self.smooth_loss = nn.MSELoss(), SmoothLoss()

    def forward(self, *, input, illu, reflectance, weight):
        loss = 700 * self.l2_loss(reflectance, input) + weight * 5 * self.smooth_loss(input.detach(), illu)
        return loss + self.l2_loss(illu, reflectance)


@named("LossFunction")
class ThreeArguments(LossFunction):
    def forward(self, input, illu, pair):
        return super().forward(input, illu) + self.l2_loss(pair, illu)


@named("LossFunction")
class ThirdOptional(LossFunction):
    def forward(self, input, illu, pair=None):
        return super().forward(input, illu)


@named("LossFunction")
class ReturnsTuple(LossFunction):
    def forward(self, input, illu):
        return self.l2_loss(illu, input), self.smooth_loss(input, illu)


class StagesLoss(nn.Module):
    """An outer class with a name of its own, that takes lists of stages."""

    def __init__(self):
        super().__init__()
        self.smooth = SmoothLoss()

    def forward(self, inputs, illuminations):
        return sum(self.smooth(x, y) for x, y in zip(inputs, illuminations, strict=True))


@named("SmoothLoss")
class BatchOfOne(SmoothLoss):
    def forward(self, input, output):
        assert input.shape[0] == 1
        return super().forward(input, output)


@named("SmoothLoss")
class PadsByTen(SmoothLoss):
    """Pads by reflection, and takes the padding off again."""

    def forward(self, input, output):
        padded = nn.functional.pad(output, (10, 10, 10, 10), mode="reflect")
        return super().forward(input, padded[..., 10:-10, 10:-10])


@named("SmoothLoss")
class PerPixelColors(SmoothLoss):
    def rgb2yCbCr(self, input_im):
        matrix = torch.tensor(MATRIX, device=input_im.device, dtype=input_im.dtype)
        return (input_im.movedim(1, -1) @ matrix).movedim(-1, 1)


@named("SmoothLoss")
class NoColors(SmoothLoss):
    def rgb2yCbCr(self, input_im):
        return input_im


@named("SmoothLoss")
class TwoPlanes(NoColors):
    def forward(self, input, output):
        assert input.shape[1] == 2
        return super().forward(input, output)


@named("SmoothLoss")
class OtherNames(SmoothLoss):
    def forward(self, image, light):
        return super().forward(image, light)


@named("SmoothLoss")
class WithBuffers(SmoothLoss):
    def __init__(self, sigma=10):
        super().__init__(sigma)
        self.register_buffer("matrix", torch.tensor(MATRIX, dtype=torch.float64))
        self.register_buffer("bias", torch.tensor(BIAS, dtype=torch.float64), persistent=False)

    def rgb2yCbCr(self, input_im):
        return (input_im.reshape(-1, 3) @ self.matrix.to(input_im) + self.bias.to(input_im)).view(input_im.shape)


# Losses that are not this loss.


@named("SmoothLoss")
class Ruas(SmoothLoss):
    """Another exponent, and one norm over the whole tensor."""

    def __init__(self, sigma=0.1):
        super().__init__(sigma)

    def weight(self, squares):
        return torch.exp(-0.5 * self.sigma * self.sigma * squares)

    def distance(self, here, there):
        return torch.norm(here - there, p=1)


@named("SmoothLoss")
class EuclideanNorm(SmoothLoss):
    def distance(self, here, there):
        return torch.norm(here - there, p=2, dim=1, keepdim=True)


@named("SmoothLoss")
class OtherOffsets(SmoothLoss):
    steps = [(dy if abs(dy) < 2 else dy // 2 * 3, dx) for dy, dx in STEPS]


@named("SmoothLoss")
class OtherWeight(SmoothLoss):
    def term(self, number, weight, distance):
        return (3.0 if number == STEPS.index((0, 1)) else 1.0) * (weight * distance).mean()


@named("SmoothLoss")
class NormOverBatch(SmoothLoss):
    def distance(self, here, there):
        return torch.norm(here - there, p=1, dim=(0, 1), keepdim=True)


@named("SmoothLoss")
class TwentyDirections(SmoothLoss):
    steps = [step for step in STEPS if abs(step[0] * step[1]) != 4]


@named("SmoothLoss")
class Noisy(SmoothLoss):
    def forward(self, input, output):
        return super().forward(input, output) * (1 + 1e-3 * torch.rand(()))


@named("SmoothLoss")
class Scaled(SmoothLoss):
    def forward(self, input, output):
        return 0.5 * super().forward(input, output)


@named("SmoothLoss")
class Squared(SmoothLoss):
    def distance(self, here, there):
        return (here - there).pow(2).sum(1, keepdim=True)


@named("SmoothLoss")
class OnlyInTraining(SmoothLoss):
    def forward(self, input, output):
        return super().forward(input, output) * (1.0 if self.training else 0.5)


@named("LossFunction")
class OtherTerms(LossFunction):
    def forward(self, input, illu):
        return super().forward(input, illu) + 0.3 * illu.mean().square()


class Network(nn.Module):
    """A network that holds a loss as the official one does."""

    def __init__(self, criterion):
        super().__init__()
        self.enhance = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Sigmoid())
        self._criterion = criterion

    def forward(self, image):
        return self.enhance(image)

    def _loss(self, image):
        return self._criterion(image, self(image))
