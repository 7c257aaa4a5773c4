"""What exposure does to pictures: hues, order, white, halos, mean brightness, and that it is steady."""

import functools
import math

import pytest
import torch
from torch import Tensor

import sci_kernels
from model import EnhanceNetwork, fold, load_weights
from sci_kernels import EnhanceWeights, reference
from sci_kernels.enhance_weights import constants_of
from tests.library.test_enhance_op import make_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def weights_of(name: str) -> EnhanceWeights:
    """The default ones, or random ones of two sizes, which brighten by other shares."""
    if name == "default":
        network = EnhanceNetwork()
        load_weights(network)
        return fold(network)
    return make_weights(0.3 if name == "random" else 0.6)


@pytest.fixture(params=["default", "random", "large"])
def weights(request) -> EnhanceWeights:
    return weights_of(request.param)


@pytest.fixture
def default() -> EnhanceWeights:
    return weights_of("default")


def luma(image: Tensor) -> Tensor:
    return torch.einsum("nchw,c->nhw", image.double(), torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))


def coded(light: Tensor) -> Tensor:
    """sRGB."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


@functools.cache
def room(height: int, width: int, seed: int = 1) -> Tensor:
    """A bright room in linear light: soft shading, furniture with edges, texture."""
    generator = torch.Generator().manual_seed(seed)
    random = functools.partial(torch.rand, generator=generator, dtype=torch.float64)
    scene = torch.zeros(1, 3, height, width, dtype=torch.float64)
    for cells, share in ((4, 0.55), (16, 0.3), (64, 0.15)):
        coarse = random(1, 3, cells + 2, cells + 2)
        size = {"size": (height, width), "mode": "bicubic", "align_corners": True}
        scene += share * torch.nn.functional.interpolate(coarse, **size)
    scene = 0.5 * scene + 0.5 * scene.mean(1, keepdim=True)
    for _ in range(14):
        top, left = (random(2) * torch.tensor([0.8 * height, 0.8 * width])).int().tolist()
        tall, wide = (random(2) * torch.tensor([0.3 * height, 0.3 * width]) + 4).int().tolist()
        paint = 0.6 * random(1, 3, 1, 1) + 0.4 * random(1)
        piece = scene[..., top : top + tall, left : left + wide]
        piece.copy_(0.4 * piece + 0.6 * paint)
    code = (scene + 0.04 * random(1, 3, height, width) - 0.02).clamp(0, 1)
    return torch.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def lamps(height: int, width: int, night: float, glow: float) -> Tensor:
    """The room at night, lit by lamps with halos as bright as `glow`; stored values."""
    generator = torch.Generator().manual_seed(3)
    scene = night * room(height, width)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for _ in range(6):
        row, column, size = (torch.rand(3, generator=generator) * torch.tensor([height, width, 4])).tolist()
        distance = torch.hypot((rows - row).double(), columns - column) - 3 - size
        halo = glow * torch.exp(-distance.clamp(min=0) / (3 + size))
        scene = scene + (1.3 * (distance < 0) + halo) * torch.tensor([1.0, 0.85, 0.6]).view(1, 3, 1, 1)
    return coded(scene.clamp(0, 1))


def colors() -> Tensor:
    """Of any hue and brightness, and white and black patches."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, 60, 80, generator=generator, dtype=torch.float64)
    image *= torch.rand(1, 1, 60, 80, generator=generator, dtype=torch.float64)
    image[..., :9, :9], image[..., 20:30, :9] = 1.0, 0.0
    return image


@pytest.mark.parametrize("c", [0.5, 4.0, 20.0])
def test_one_factor_for_all_channels(weights, c):
    image = colors()
    _, light, _ = reference.enhance(image, weights.packed)
    bare, gain = reference.expose(image, light, torch.tensor([c]), constants_of(weights.packed)[1], fade=0.0)
    ratio = bare / image
    assert ((ratio - gain).abs() <= 1e-5 * gain)[image > 0].all()
    assert (gain * image).max() <= 1 + 1e-12 and gain.min() >= 1 and gain.max() <= 1 + 2 * c
    assert (bare[..., :9, :9] == 1).all() and (bare[..., 20:30, :9] == 0).all()

    # As shipped: colors move toward their own luma, which does not change; taken back, the hue is that of the image.
    result, own = sci_kernels.enhance(image, weights, exposure=c, return_gain=True)
    assert torch.equal(own, gain) or (own - gain).abs().max() < 1e-9
    gray, faded = luma(result)[:, None], 0.02 * c
    assert (gray - luma(bare)[:, None]).abs().max() < 1e-12
    assert ((result - faded * gray) / (1 - faded) - bare).abs().max() < 1e-12
    assert result.min() >= 0 and result.max() <= 1 and (result[..., :9, :9] == 1).all()


@pytest.mark.parametrize("c", [1.0, 4.0, 20.0])
def test_grays_stay_grays_in_order(weights, c):
    levels = torch.arange(256).view(256, 1, 1, 1).expand(256, 3, 9, 9)
    result = sci_kernels.enhance(levels / 255, weights, exposure=c)[:, :, 4, 4]
    assert (result[1:] > result[:-1]).all() and (result[0] == 0).all() and (result[255] == 1).all()
    assert (result.amax(1) - result.amin(1)).max() <= 2e-7
    bytes_of_it = sci_kernels.enhance(levels.byte(), weights, exposure=c)[:, :, 4, 4].int()
    assert (bytes_of_it[1:] >= bytes_of_it[:-1]).all() and (bytes_of_it - 255 * result).abs().max() <= 0.501


def test_more_exposure_is_brighter_everywhere(weights):
    image = colors()
    grid = [0.0, 1e-6, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    results = [luma(sci_kernels.enhance(image, weights, exposure=c)) for c in grid]
    for less, more in zip(results, results[1:], strict=False):
        assert (more - less).min() >= -1e-12
    assert (results[1] - results[0]).max() < 1e-5  # nothing jumps as it sets in


def test_bright_pictures_are_returned_byte_for_byte(weights):
    generator = torch.Generator().manual_seed(2)
    for bright in (
        (255 * coded(room(90, 120))).round().byte(),
        torch.randint(0, 256, (1, 3, 70, 90), generator=generator),
    ):
        bright = bright.byte()
        assert luma(bright / 255.0).mean() >= 0.40
        c = sci_kernels.exposure(bright, weights)
        assert c == 0 and torch.equal(sci_kernels.enhance(bright, weights, exposure=c), bright)
    # A step of brightness below, next to nothing is done; the steps meet at the target.
    below, above = torch.full((1, 3, 8, 8), 101, dtype=torch.uint8), torch.full((1, 3, 8, 8), 102, dtype=torch.uint8)
    assert sci_kernels.exposure(above, weights) == 0 < sci_kernels.exposure(below, weights)
    result = sci_kernels.enhance(below, weights, exposure=sci_kernels.exposure(below, weights))
    assert torch.equal(luma(result).round(), luma(above).round())


def test_brightness_follows_that_of_the_scene(weights):
    """Over three decades of light: no step down, never faster than the scene; at the target where nothing caps it."""
    means, given, free = [], [], []
    for step in range(120):
        image = coded(10 ** (-3 + 3 * step / 119) * room(84, 112))
        c = sci_kernels.exposure(image, weights)
        means.append(float(luma(sci_kernels.enhance(image, weights, exposure=c)).mean()))
        given.append(float(luma(image).mean()))
        highlights = float((image.amax(1) ** 8).mean() ** 0.125)
        assert 0 <= c <= 20 and c * highlights <= 3 + 1e-9
        if 0 < c < min(20, 3 / highlights):
            free.append(means[-1])
    assert given[0] < 0.004 and given[-1] > 0.45 and c == 0 and len(free) > 40
    assert max(a - b for a, b in zip(means, means[1:], strict=False)) <= 1e-4
    slopes = [
        math.log(after / before) / math.log(more / less)
        for before, after, less, more in zip(means, means[1:], given, given[1:], strict=False)
    ]
    assert max(slopes) <= 1.02
    assert all(abs(mean - 0.40) <= 1e-3 for mean in free)


@pytest.mark.parametrize("target", [0.2, 0.40, 0.6])
def test_the_sampled_points_meet_the_target(default, target):
    image = coded(0.1 * room(400, 600)).float()
    c = sci_kernels.exposure(image, default, target)
    points = image[..., ::2, ::2]
    assert 0 < c < 20 and abs(float(luma(sci_kernels.enhance(points, default, exposure=c)).mean()) - target) <= 1e-3


@pytest.mark.parametrize("share", [0.02, 0.15])
def test_points_stand_for_the_whole(default, share):
    for seed in (1, 2):
        image = coded(share * room(900, 1200, seed)).float()
        light = sci_kernels.enhance(image, default, return_illumination=True)[1]
        of_all = reference.find_exposure(image, light, 0.40, constants_of(default.packed)[1])
        c = sci_kernels.exposure(image, default)
        assert abs(float(c / of_all) - 1) <= 0.05 and 0 < c < 20
        means = [float(luma(sci_kernels.enhance(image, default, exposure=each)).mean()) for each in (c, of_all)]
        assert abs(means[0] / means[1] - 1) <= 0.005


def overshoot(dark: float, bright: float, weights: EnhanceWeights, **options) -> float:
    """By how much the result goes beyond the flat parts beside a step from dark to bright, as a share of its step."""
    image = torch.full((1, 3, 24, 64), dark, dtype=torch.float64)
    image[..., 32:] = bright
    row = sci_kernels.enhance(image, weights, **options)[0, :, 12]
    low, high, middle = row[:, 9:10], row[:, -10:-9], row[:, 9:-9]
    beyond = torch.maximum(middle.amax(1, keepdim=True) - high, low - middle.amin(1, keepdim=True))
    return float((beyond / (high - low)).max())


def test_halos_are_faint(default):
    steps = [(0.05, 0.2), (0.01, 0.1), (0.02, 0.4), (0.1, 0.4), (0.2, 0.6), (0.3, 0.8)]
    exposed = [overshoot(*step, default, exposure=8.0) for step in steps]
    assert exposed[0] <= 0.01 and max(exposed) <= 0.06
    assert max(overshoot(*step, default) for step in steps) > 2 * max(exposed)  # those of the published division


@pytest.mark.parametrize("night, glow", [(0.002, 0.05), (0.004, 0.3), (0.06, 0.3)], ids=["capped", "lit", "free"])
def test_lamps_are_not_burnt(weights, night, glow):
    image = lamps(210, 280, night, glow)
    stored = (255 * image).round().byte()
    c = sci_kernels.exposure(stored, weights)
    highlights = float((stored.amax(1).double() / 255).pow(8).mean() ** 0.125)
    assert 0 < c <= 3 / highlights + 1e-5 and luma(stored / 255.0).mean() < 0.2
    assert (c >= 3 / highlights - 1e-5) == (night < 0.06)
    result = sci_kernels.enhance(stored, weights, exposure=c)
    white, before = ((picture >= 254).any(1).double().mean() for picture in (result, stored))
    assert before > 0.002 and white - before < 0.005


@pytest.mark.parametrize("lamp", [0.3, 0.6, 0.9, 1.0])
def test_highlights_stay_below_white(weights, lamp):
    image = torch.full((1, 3, 64, 64), 0.002, dtype=torch.float64)
    image[..., :20, :20] = lamp
    c = sci_kernels.exposure(image, weights)
    highlights = float((image.amax(1) ** 8).mean() ** 0.125)
    assert c == pytest.approx(min(20, 3 / highlights), rel=1e-12)
    gray = torch.full((1, 3, 9, 9), highlights, dtype=torch.float64)
    assert sci_kernels.enhance(gray, weights, exposure=c).max() <= (6 + highlights) / 7 + 1e-9
