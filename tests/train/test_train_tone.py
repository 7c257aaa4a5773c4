"""Brightness and color cast of pictures whose values are known by hand."""

import pytest
import torch

from train.reporting.color_cast import tone


def picture(red, green, blue, size=(4, 5)):
    return torch.tensor([red, green, blue])[:, None, None].expand(3, *size)


def test_by_hand():
    red = tone([picture(1.0, 0.0, 0.0)])
    assert red.brightness == pytest.approx(1 / 3) and red.cast == pytest.approx(2**0.5 / 3)
    green = tone([picture(0.2, 0.5, 0.2)])
    assert green.brightness == pytest.approx(0.3) and green.cast == pytest.approx(0.02**0.5)
    assert str(green) == "brightness 0.300, cast 0.141 (red -0.100, green +0.200, blue -0.100)"


def test_pictures_count_alike_and_opposite_casts_cancel():
    both = tone([picture(0.6, 0.2, 0.4, (9, 9)), picture(0.2, 0.6, 0.4, (3, 3))])
    assert both == pytest.approx((0.4, 0.4, 0.4)) and both.cast == pytest.approx(0, abs=1e-7)
