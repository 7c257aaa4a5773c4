"""Losses as other people write them, with the official names, and a network that has one."""

import torch
from torch import nn

from sci_kernels import reference


class SmoothLoss(nn.Module):
    """A foreign loss with the official class name, arguments and attribute."""

    def __init__(self, color="reference", sigma=10.0, detach=False, cuda=False):
        super().__init__()
        self.sigma, self.color, self.detach, self.cuda_call = sigma, color, detach, cuda

    def forward(self, input, output):
        if self.cuda_call:
            input = input * torch.ones(1).cuda()
        return reference.smooth_loss(input.detach() if self.detach else input, output, self.sigma, self.color)


class LossFunction(nn.Module):
    def __init__(self, fidelity=1.5, smooth=1.0, extra=0.0, **options):
        super().__init__()
        self.l2_loss = nn.MSELoss()
        self.smooth_loss = SmoothLoss(**options)
        self.fidelity, self.smooth, self.extra = fidelity, smooth, extra

    def forward(self, input, illu):
        total = self.fidelity * self.l2_loss(illu, input) + self.smooth * self.smooth_loss(input, illu)
        return total + self.extra * illu.mean().square()


class Net(nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self._criterion = loss


def same_numbers(ours, theirs):
    torch.manual_seed(1)
    x, y = torch.rand(1, 3, 8, 9), torch.rand(1, 3, 8, 9)
    torch.testing.assert_close(ours(x, y), theirs(x, y), rtol=1e-5, atol=0.0)
