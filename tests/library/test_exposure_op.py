"""The operators of exposure: against their definition in float64, in every dtype, shape and layout, in any tile."""

import functools

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import sci_kernels
from sci_kernels import reference
from sci_kernels.enhance_weights import constants_of
from sci_kernels.ops import triton_launchers
from tests.library.test_enhance_op import BOUNDS, SHAPES, make_image, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
NAN = float("nan")


def exact(image: Tensor, exposure: Tensor) -> list[Tensor]:
    """Result, illumination and gain in float64, the first two in the image's units."""
    scale = 255 if image.dtype == torch.uint8 else 1
    weights = make_weights().packed
    image, exposure = image.detach().cpu().double() / scale, exposure.cpu().double()
    result, light, gain = reference.enhance(image, weights, exposure, constants_of(weights)[1])
    return [scale * result, scale * light, gain]


def check(image: Tensor, *exposures: float, **options) -> None:
    """All outputs of an image, whose values may lie outside [0, 1]."""
    exposure = torch.tensor(exposures, device=image.device)
    outputs = sci_kernels.enhance(
        image, make_weights(), exposure=exposure, return_illumination=True, return_gain=True, **options
    )
    wanted = exact(image, exposure)
    unrounded = BOUNDS.get(reference.compute_dtype(image))
    byte = image.dtype == torch.uint8
    bounds = [0.5 + 1e-3, 1.0 + 1e-4] if byte else [BOUNDS[image.dtype]] * 2
    for actual, expected, bound in zip(outputs, wanted, bounds, strict=False):
        assert actual.dtype == image.dtype and actual.shape == image.shape
        assert (actual.cpu().double() - expected).abs().max() <= bound
    gain, expected = outputs[2].cpu(), wanted[2]
    assert gain.dtype == reference.compute_dtype(image) and gain.shape == (len(image), 1, *image.shape[2:])
    assert ((gain.double() - expected) / expected).abs().max() <= unrounded
    for index, c in enumerate(exposures):
        if c == 0:
            assert torch.equal(outputs[0][index], image[index]) and (gain[index] == 1).all()


@pytest.mark.parametrize("dtype", [torch.uint8, *BOUNDS], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_host_in_every_shape_and_dtype(host, shape, dtype, poisoned):
    image = make_image(*shape, dtype=dtype)
    for exposures in ((0.0, 20.0), (4.0, 0.0), (0.125, 1.0)):
        check(image, *exposures[: shape[0]], impl=host)
    check(image.contiguous(memory_format=torch.channels_last), *(8.0, 0.5)[: shape[0]], impl=host)


# An interpreted program takes a second: one for each way through the kernel. Widths decide how rows are read.
@pytest.mark.ptx(dtype=[torch.float32])
@pytest.mark.parametrize("dtype, width", [(torch.float32, 12), (torch.uint8, 9)], ids=["vector", "bytes"])
def test_triton(fused, dtype, width, poisoned):
    impl, device = fused
    # Between rows of NaN, which a read out of bounds would meet.
    around = torch.full((2, 3, 9, width), 255 if dtype == torch.uint8 else NAN, dtype=dtype, device=device)
    around[:, :, 2:-2] = make_image(2, 3, 5, width, dtype=dtype, device=device)
    check(around[:, :, 2:-2], 0.0, 8.0, impl=impl)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_guard_bands_and_strides(host, dtype, poisoned):
    image = make_image(2, 3, 14, 11, dtype=dtype)
    around = torch.full((2, 3, 20, 19), NAN, dtype=dtype)
    around[:, :, 3:-3, 4:-4] = image
    views = [
        around[:, :, 3:-3, 4:-4],
        image.mT.contiguous().mT,
        image.repeat_interleave(2, 3)[..., ::2],
        image[:1].expand(2, -1, -1, -1),
        torch._neg_view(-image),
    ]
    for view in views:
        check(view, 6.0, 0.0, impl=host)
        check(view, 0.25, 12.0, impl=host)


def outside(*shape, dtype=torch.float32) -> Tensor:
    """Values from -0.5 to 2.1 and the bounds themselves."""
    image = (make_image(*shape, dtype=torch.float64) / 0.6 * 2.6 - 0.5).to(dtype)
    image.view(-1)[::7], image.view(-1)[3::7] = 0.0, 1.0
    return image


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_values_outside_are_clamped_unless_the_exposure_is_zero(host, dtype):
    image = outside(2, 3, 9, 10, dtype=dtype)
    result, gain = sci_kernels.enhance(
        image, make_weights(), exposure=torch.tensor([0.0, 5.0]), return_gain=True, impl=host
    )
    wanted, _, wanted_gain = exact(image, torch.tensor([0.0, 5.0]))
    bound = BOUNDS[dtype]
    assert torch.equal(result[0], image[0]) and (result[1] >= 0).all() and (result[1] <= 1).all()
    assert (result[1].double() - wanted[1]).abs().max() <= bound
    bound = BOUNDS[reference.compute_dtype(image)]
    assert ((gain - wanted_gain) / wanted_gain).abs().max() <= bound and gain[1].min() >= 1 - bound
    assert (gain[1, 0][(image[1] >= 1).any(0)] - 1).abs().max() <= bound


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf"), 3e38])
def test_host_keeps_what_is_not_finite_where_it_belongs(host, bad):
    image = make_image(2, 3, 20, 20)
    image[:, 1, 9, 10] = bad
    exposure = torch.tensor([0.0, 6.0])
    result, gain = sci_kernels.enhance(image, make_weights(), exposure=exposure, return_gain=True, impl=host)
    wanted = reference.enhance(image, make_weights().packed, exposure, constants_of(make_weights().packed)[1])
    torch.testing.assert_close(result, wanted[0], equal_nan=True, rtol=0, atol=2e-6)
    torch.testing.assert_close(gain, wanted[2], equal_nan=True, rtol=2e-6, atol=0)
    torch.testing.assert_close(result[0], image[0], equal_nan=True, rtol=0, atol=0)


@pytest.mark.ptx
@pytest.mark.quick("sm_90", every=0)
def test_nan_spreads_over_the_receptive_field(fused):
    impl, device = fused
    image = make_image(1, 3, 8, 8, device=device)
    image[:, 1, 4, 4] = NAN
    result, _, gain = sci_kernels.enhance(
        image, make_weights(), exposure=6.0, return_illumination=True, return_gain=True, impl=impl
    )
    wanted = torch.zeros(8, 8, dtype=torch.bool)
    wanted[1:, 1:] = True
    assert torch.equal(result[0].isnan().cpu(), wanted.expand(3, -1, -1))
    assert torch.equal(gain[0, 0].isnan().cpu(), wanted)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [13, 40])
def test_tiles_have_the_bits_of_the_whole(host, width, dtype):
    image = make_image(1, 3, 150, width, dtype=dtype)
    options = {"exposure": 7.3, "return_gain": True, "return_illumination": True, "impl": host}
    whole = sci_kernels.enhance(image, make_weights(), **options)
    for rows in (19, 64, 100):
        for top in range(0, 150, rows):
            low, high = max(top - 3, 0), min(top + rows + 3, 150)
            tile = sci_kernels.enhance(image[:, :, low:high], make_weights(), **options)
            for part, all_of_it in zip(tile, whole, strict=True):
                assert torch.equal(part[:, :, top - low : top - low + rows], all_of_it[:, :, top : top + rows])


def test_a_number_is_a_tensor_of_it(host):
    image, weights = make_image(3, 3, 9, 7), make_weights()
    for dtype in (torch.float16, torch.float32, torch.float64):
        wanted = sci_kernels.enhance(image, weights, exposure=torch.full((3,), 2.5, dtype=dtype), impl=host)
        assert torch.equal(sci_kernels.enhance(image, weights, exposure=2.5, impl=host), wanted)
        expanded = torch.tensor([2.5], dtype=dtype).expand(3)
        assert torch.equal(sci_kernels.enhance(image, weights, exposure=expanded, impl=host), wanted)
    negated = torch._neg_view(torch.full((3,), -2.5))
    assert torch.equal(sci_kernels.enhance(image, weights, exposure=negated, impl=host), wanted)
    assert torch.equal(sci_kernels.enhance(image, weights, exposure=0, impl=host), image)
    every_other = torch.tensor([1.0, 9.0, 2.0, 9.0, 3.0])[::2]
    result = sci_kernels.enhance(image, weights, exposure=every_other, impl=host)
    for index, c in enumerate((1.0, 2.0, 3.0)):
        assert torch.equal(result[[index]], sci_kernels.enhance(image[[index]], weights, exposure=c, impl=host))


def test_outputs_do_not_depend_on_what_else_is_asked_for(host):
    image, weights = make_image(2, 3, 9, 7), make_weights()
    result, light, gain = sci_kernels.enhance(
        image, weights, exposure=3.0, return_illumination=True, return_gain=True, impl=host
    )
    assert torch.equal(sci_kernels.enhance(image, weights, exposure=3.0, impl=host), result)
    only = sci_kernels.enhance(image, weights, exposure=3.0, return_gain=True, impl=host)
    assert len(only) == 2 and torch.equal(only[1], gain)
    published = sci_kernels.enhance(image, weights, return_illumination=True, impl=host)
    assert torch.equal(published[1], light)


def test_every_run_gives_the_same_bits(host):
    image, weights = make_image(2, 3, 60, 41), make_weights()
    runs = []
    for _ in range(3):
        c = sci_kernels.exposure(image, weights, impl=host)
        runs.append((c, *sci_kernels.enhance(image, weights, exposure=c, return_gain=True, impl=host)))
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


def test_memory_format_is_kept(host):
    image = make_image(2, 3, 9, 8).contiguous(memory_format=torch.channels_last)
    options = {"exposure": torch.tensor([3.0, 0.0]), "return_gain": True, "impl": host}
    result, gain = sci_kernels.enhance(image, make_weights(), **options)
    assert result.is_contiguous(memory_format=torch.channels_last) and gain.is_contiguous()
    for a, b in zip((result, gain), sci_kernels.enhance(image.contiguous(), make_weights(), **options), strict=True):
        assert torch.equal(a, b)


def mixed(dtype=torch.float32) -> Tensor:
    """Dark, NaN, black, white, bright, with lamps, and one that no exposure up to the cap brings to the target."""
    image = make_image(7, 3, 19, 23, dtype=torch.float64) * 0.2
    image[1, 2, 5, 5] = NAN
    image[2], image[3] = 0.0, 1.0
    image[4] = 0.3 + image[4] * 4
    image[5, :, 4:8, 9:13] = 0.95
    image[6] *= 0.05
    return image.to(dtype)


def bisected(image: Tensor, target: float = 0.40) -> Tensor:
    """c of float64 images, by halving the interval."""
    weights = make_weights().packed
    black = constants_of(weights)[1]
    light = reference.enhance(image, weights)[1]
    x = image.clamp(0, 1)
    result = []
    for own, own_light in zip(x.flatten(2), light.flatten(2), strict=True):
        most, luma = own.amax(0), torch.tensor([0.299, 0.587, 0.114], dtype=own.dtype) @ own
        s = 0.5 + 0.5 * ((own_light.mean(0) - own.mean(0)) / black).clamp(max=1)
        low, high = 0.0, min(20.0, 3 / max(1e-3, float((most**8).mean() ** 0.125)))
        if not 0 < luma.mean() < target:
            high = 0.0
        elif (luma * (high + s) / (high * most + s)).mean() > target:
            for _ in range(60):
                c = (low + high) / 2
                low, high = (c, high) if (luma * (c + s) / (c * most + s)).mean() < target else (low, c)
        result.append(high)
    return torch.tensor(result, dtype=torch.float64)


def test_newton_finds_what_bisection_finds():
    images = mixed(torch.float64)
    found = sci_kernels.exposure(images, make_weights(), impl="reference")
    assert (found - bisected(images)).abs().max() <= 1e-6
    assert (found[1:5] == 0).tolist() == [True] * 4 and 0 < found[0] < 20 and found[6] == 20
    # Images whose curve is bent the most: a few levels, far apart, in any shares.
    generator = torch.Generator().manual_seed(3)
    powers = torch.rand(200, 3, 1, 1, generator=generator, dtype=torch.float64) * 6
    images = torch.rand(200, 3, 9, 9, generator=generator, dtype=torch.float64) ** (1 + powers)
    for target in (0.1, 0.40, 0.8):
        found = sci_kernels.exposure(images, make_weights(), target, impl="reference")
        assert (found - bisected(images, target)).abs().max() <= 1e-6


@pytest.mark.ptx
def test_exposure_of_every_implementation(fused):
    impl, device = fused
    wanted = sci_kernels.exposure(mixed(torch.float64), make_weights(), impl="reference")
    images = mixed().to(device)
    if impl == "triton":
        # The network's own programs, interpreted, cost more than all else.
        weights = make_weights().packed
        light = reference.enhance(images.cpu(), weights)[1].to(device)
        launchers = triton_launchers(images.device)
        found = launchers.launch_exposure(images, light, 0.40, constants_of(weights)[1])
    else:
        found = sci_kernels.exposure(images, make_weights(), impl=impl)
    assert found.dtype == torch.float32 and found.shape == (7,) and found.device.type == device
    assert torch.equal(found.cpu() == 0, wanted == 0)
    assert ((found.cpu() - wanted).abs() <= 1e-5 * wanted).all()


@pytest.mark.parametrize("dtype", [torch.uint8, *BOUNDS], ids=str)
def test_exposure_in_every_dtype_shape_and_layout(host, dtype):
    for shape in ((1, 3, 1, 1), (2, 3, 5, 4), (1, 3, 3, 700), (1, 3, 520, 2)):
        image = make_image(*shape, dtype=torch.float64) * 0.3
        image = (image * 255).to(dtype) if dtype == torch.uint8 else image.to(dtype)
        points = image[..., :: max(1, max(shape[2:]) // 256), :: max(1, max(shape[2:]) // 256)].double()
        wanted = bisected(points / 255 if dtype == torch.uint8 else points)
        assert wanted.min() > 0
        for view in (image, image.mT.contiguous().mT, image.contiguous(memory_format=torch.channels_last)):
            found = sci_kernels.exposure(view, make_weights(), impl=host)
            assert found.dtype == reference.compute_dtype(image)
            assert ((found - wanted).abs() <= (1e-6 if dtype == torch.float64 else 1e-5 * wanted)).all()


def test_exposure_of_values_outside(host):
    image = outside(1, 3, 12, 9, dtype=torch.float64) * 0.4
    found = sci_kernels.exposure(image, make_weights(), 0.6, impl=host)
    assert found > 0 and (found - bisected(image, 0.6)).abs() <= 1e-6
    for bad in (float("inf"), -float("inf"), NAN):
        image[0, 1, 5, 5] = bad
        found, wanted = (sci_kernels.exposure(image, make_weights(), 0.6, impl=i) for i in (host, "reference"))
        assert torch.equal(found, wanted) and found.isfinite()


def test_results_are_where_the_image_is_and_not_on_the_default_device(host):
    image, weights = 0.3 * make_image(1, 3, 6, 7), make_weights()
    wanted = sci_kernels.exposure(image, weights, impl=host)
    with torch.device("meta"):
        found = sci_kernels.exposure(image, weights, impl=host)
        bright, gain = sci_kernels.enhance(image, weights, exposure=2.0, return_gain=True, impl=host)
        smooth = sci_kernels.denoise(bright, gain, impl=host)
    assert torch.equal(found, wanted)
    assert bright.device == gain.device == smooth.device == image.device


def test_compiles_without_graph_break(host):
    weights = make_weights()

    def brighten(x, c):
        found = sci_kernels.exposure(x, weights, impl=host)
        return found, *sci_kernels.enhance(x, weights, exposure=found + c, return_gain=True, impl=host)

    compiled = torch.compile(brighten, fullgraph=True, dynamic=True, backend="aot_eager")
    for height in (6, 300):
        arguments = 0.3 * make_image(2, 3, height, 7), torch.tensor([0.5, 1.0])
        for actual, wanted in zip(compiled(*arguments), brighten(*arguments), strict=True):
            assert torch.equal(actual, wanted)

    fixed = torch.compile(
        lambda x: sci_kernels.enhance(x, weights, exposure=2.0, impl=host), fullgraph=True, backend="aot_eager"
    )
    image = make_image(2, 3, 6, 7)
    assert torch.equal(fixed(image), sci_kernels.enhance(image, weights, exposure=2.0, impl=host))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # operators are called for one after another
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_vmap(impl):
    images, weights, exposures = 0.3 * make_image(3, 3, 6, 7), make_weights(), torch.tensor([0.0, 2.0, 9.0])
    enhance = functools.partial(sci_kernels.enhance, weights=weights, impl=impl)
    results = torch.func.vmap(lambda c: enhance(images, exposure=c.expand(3)))(exposures)
    for result, c in zip(results, exposures, strict=True):
        torch.testing.assert_close(result, enhance(images, exposure=c.expand(3)), rtol=0, atol=1e-6)
    found = torch.func.vmap(lambda image: sci_kernels.exposure(image[None], weights, impl=impl))(images)
    torch.testing.assert_close(found[:, 0], sci_kernels.exposure(images, weights, impl=impl))


def test_gradients_are_refused_but_by_the_reference(host):
    image, weights = make_image(1, 3, 5, 5), make_weights()
    exposure = torch.tensor([3.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="exposure: requires a gradient, which enhance does not have"):
        sci_kernels.enhance(image, weights, exposure=exposure, impl=host)
    with torch.no_grad():
        sci_kernels.enhance(image, weights, exposure=exposure, impl=host)
    assert not sci_kernels.exposure(image.clone().requires_grad_(), weights, impl=host).requires_grad
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode differentiation is not supported"):
        dual = forward_ad.make_dual(exposure.detach(), torch.ones(1))
        sci_kernels.enhance(image, weights, exposure=dual, impl=host)

    def total(c):
        return sci_kernels.enhance(image.double(), weights, exposure=c, impl="reference").sum()

    assert torch.autograd.gradcheck(total, exposure.detach().double().requires_grad_())


def test_wrong_arguments_are_named():
    image, weights = make_image(2, 3, 4, 4), make_weights()
    for bad in (-0.001, 20.1, 1e9):
        with pytest.raises(ValueError, match=f"exposure: expected a number from 0 to 20; got {bad}"):
            sci_kernels.enhance(image, weights, exposure=bad)
    for bad in (NAN, float("inf")):
        with pytest.raises(ValueError, match=f"exposure: expected a finite number; got {bad}"):
            sci_kernels.enhance(image, weights, exposure=bad)
    for bad in (True, "3", [3.0, 3.0]):
        with pytest.raises(TypeError, match=f"exposure: expected a number; got {type(bad).__name__}"):
            sci_kernels.enhance(image, weights, exposure=bad)
    for shape in ((), (1,), (3,), (2, 1)):
        with pytest.raises(ValueError, match=r"exposure: expected one number per image, shape \(2,\); got "):
            sci_kernels.enhance(image, weights, exposure=torch.ones(shape))
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match="exposure: expected float16, .* or float64; got torch"):
            sci_kernels.enhance(image, weights, exposure=torch.ones(2, dtype=dtype))
    with pytest.raises(ValueError, match="exposure: expected the device of image, cpu; got meta"):
        sci_kernels.enhance(image, weights, exposure=torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match="return_gain: the published division has no gain; give an exposure"):
        sci_kernels.enhance(image, weights, return_gain=True)
    for bad in (0, 0.0, 1, 1.5, -0.4):
        with pytest.raises(ValueError, match=f"target: expected a mean brightness above 0 and below 1; got {bad}"):
            sci_kernels.exposure(image, weights, bad)
    with pytest.raises(ValueError, match="target: expected a finite number; got nan"):
        sci_kernels.exposure(image, weights, NAN)
    for bad in (True, None, "0.4"):
        with pytest.raises(TypeError, match=f"target: expected a number; got {type(bad).__name__}"):
            sci_kernels.exposure(image, weights, bad)
    with pytest.raises(TypeError, match="image: expected uint8, float16, .* or float64; got torch.int32"):
        sci_kernels.exposure(image.int(), weights)
    with pytest.raises(TypeError, match="weights: expected EnhanceWeights"):
        sci_kernels.exposure(image, weights.packed)
    with pytest.raises(ValueError, match="impl: expected one of"):
        sci_kernels.exposure(image, weights, impl="cuda")
