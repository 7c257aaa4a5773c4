"""The fused enhance operator: against plain convolutions in float64, at the borders, in every dtype, in any tile."""

import pytest
import torch

import sci_kernels
from sci_kernels import EnhanceWeights, reference

BOUNDS = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def make_weights(scale=0.3) -> EnhanceWeights:
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: scale * torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return EnhanceWeights.pack(*((draw(3, 3, 3, 3), draw(3)) for _ in range(3)))


def make_image(*shape, dtype=torch.float32, device="cpu") -> torch.Tensor:
    values = 0.6 * torch.rand(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return (values * 255 if dtype == torch.uint8 else values).to(device, dtype)


def exact(image: torch.Tensor) -> list[torch.Tensor]:
    """Reflectance and illumination in float64, in the image's units."""
    scale = 255 if image.dtype == torch.uint8 else 1
    outputs = reference.enhance(image.cpu().double() / scale, make_weights().packed)[:2]
    return [scale * output for output in outputs]


def check(image, **options):
    outputs = sci_kernels.enhance(image, make_weights(), return_illumination=True, **options)
    for actual, wanted in zip(outputs, exact(image), strict=True):
        assert actual.dtype == image.dtype and actual.shape == image.shape
        # Truncated to a gray level, or rounded to a dtype of which 1 is a multiple of the bound.
        bound = 1.0 + 1e-4 if image.dtype == torch.uint8 else BOUNDS[image.dtype]
        assert (actual.cpu().double() - wanted).abs().max() <= bound


SHAPES = [(1, 3, 1, 1), (1, 3, 2, 9), (2, 3, 5, 4), (1, 3, 3, 1), (1, 3, 31, 23), (2, 3, 133, 13), (1, 3, 64, 8)]


@pytest.mark.parametrize("dtype", [torch.uint8, *BOUNDS], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_host_in_every_shape_and_dtype(host, shape, dtype, poisoned):
    check(make_image(*shape, dtype=dtype), impl=host)
    check(make_image(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last), impl=host)


# An interpreted program takes a second: one for each way through the kernel. Widths decide how rows are read.
@pytest.mark.ptx(dtype=[torch.float32, torch.uint8])
@pytest.mark.quick("sm_90", dtype=[])  # tests of the exposure execute the same kernel
@pytest.mark.parametrize(
    "dtype, width", [(torch.float32, 24), (torch.uint8, 21), (torch.float64, 21)], ids=["vector", "bytes", "columns"]
)
def test_triton(fused, dtype, width, poisoned):
    impl, device = fused
    # Between rows and columns of NaN, which a read out of bounds would meet.
    around = torch.full((1, 3, 23, width), 255 if dtype == torch.uint8 else float("nan"), dtype=dtype, device=device)
    around[:, :, 2:-2] = make_image(1, 3, 19, width, dtype=dtype, device=device)
    check(around[:, :, 2:-2], impl=impl)


def test_each_convolution_pads_its_own_input(host):
    """Padding the image once by 3 would compute features outside it, and differ at the border alone."""
    image = make_image(1, 3, 12, 12, dtype=torch.float64)
    padded = reference.enhance(torch.nn.functional.pad(image, (3, 3, 3, 3)), make_weights().packed)[0][..., 3:-3, 3:-3]
    result = sci_kernels.enhance(image, make_weights(), impl=host)
    assert (result - padded)[..., 3:-3, 3:-3].abs().max() < 1e-12
    assert (result - padded).abs().max() > 1e-3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_host_keeps_what_is_not_finite_where_it_belongs(host, bad):
    image = make_image(1, 3, 20, 20)
    image[0, 1, 9, 10] = bad
    result = sci_kernels.enhance(image, make_weights(), impl=host)
    wanted, *_ = reference.enhance(image, make_weights().packed)
    assert 0 < wanted.isnan().sum() < wanted.numel() or bad == 3e38
    torch.testing.assert_close(result, wanted, equal_nan=True, rtol=0, atol=2e-6)


def test_nan_spreads_over_the_receptive_field(fused):
    impl, device = fused
    image = make_image(1, 3, 12, 20, device=device)
    image[0, 1, 5, 10] = float("nan")
    result = sci_kernels.enhance(image, make_weights(), impl=impl)
    wanted, *_ = reference.enhance(image.cpu(), make_weights().packed)
    assert wanted.isnan().sum() == 3 * 49 and torch.equal(result.isnan().cpu(), wanted.isnan())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [8, 13, 40])
def test_tiles_have_the_bits_of_the_whole(host, width, dtype, one_thread):
    image = make_image(1, 3, 150, width, dtype=dtype)
    whole = sci_kernels.enhance(image, make_weights(), impl=host)
    for rows in (1, 7, 64, 100):
        for top in range(0, 150, rows):
            low, high = max(top - 3, 0), min(top + rows + 3, 150)
            tile = sci_kernels.enhance(image[:, :, low:high], make_weights(), impl=host)
            assert torch.equal(tile[:, :, top - low : top - low + rows], whole[:, :, top : top + rows])


def test_memory_format_is_kept(host):
    image = make_image(2, 3, 9, 8).contiguous(memory_format=torch.channels_last)
    result = sci_kernels.enhance(image, make_weights(), impl=host)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, sci_kernels.enhance(image.contiguous(), make_weights(), impl=host))


def test_compiles_without_graph_break(host):
    weights = make_weights()
    compiled = torch.compile(
        lambda x: sci_kernels.enhance(x, weights, impl=host), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for height in (6, 9):
        image = make_image(1, 3, height, 7)
        assert torch.equal(compiled(image), sci_kernels.enhance(image, weights, impl=host))


def test_gradients_are_refused_but_by_the_reference():
    image = make_image(1, 3, 5, 5).requires_grad_()
    with pytest.raises(RuntimeError, match="image: requires a gradient, which enhance does not have"):
        sci_kernels.enhance(image, make_weights())
    with torch.no_grad():
        sci_kernels.enhance(image, make_weights())
    sci_kernels.enhance(image, make_weights(), impl="reference").sum().backward()
    assert image.grad.abs().sum() > 0


def test_wrong_arguments_are_named():
    image, weights = make_image(1, 3, 4, 4), make_weights()
    with pytest.raises(TypeError, match="image: expected uint8, float16, .* or float64; got torch.int32"):
        sci_kernels.enhance(image.int(), weights)
    for shape in ((3, 4, 4), (1, 1, 4, 4), (0, 3, 4, 4), (1, 3, 0, 4)):
        with pytest.raises(ValueError, match=r"image: expected shape \(N, 3, H, W\), none of them 0; got"):
            sci_kernels.enhance(torch.zeros(shape), weights)
    with pytest.raises(TypeError, match="weights: expected EnhanceWeights, as from model.fold.*; got dict"):
        sci_kernels.enhance(image, {})
    with pytest.raises(
        ValueError, match=r"weights: expected a float64 tensor \(3, 3, 28\) on the CPU.*got torch.float32"
    ):
        sci_kernels.enhance(image, EnhanceWeights(weights.packed.float()))
    with pytest.raises(ValueError, match="impl: expected one of"):
        sci_kernels.enhance(image, weights, impl="cuda")
    with pytest.raises(ValueError, match="convolutions: expected 3 pairs of weight and bias; got 1"):
        EnhanceWeights.pack((torch.zeros(3, 3, 3, 3), torch.zeros(3)))
    with pytest.raises(ValueError, match=r"convolutions\[0\]: expected a weight of shape \(3, 3, 3, 3\)"):
        EnhanceWeights.pack(*[(torch.zeros(4, 3, 3, 3), torch.zeros(4))] * 3)
    without_bias = torch.nn.Conv2d(3, 3, 3, bias=False)
    with pytest.raises(ValueError, match=r"bias of shape \(3,\), zeros if there is none; got \(3, 3, 3, 3\) and None"):
        EnhanceWeights.pack(*[(without_bias.weight, without_bias.bias)] * 3)


def test_bands_cover_a_wide_image(monkeypatch):
    """Rows a band are limited by its pixels where the image is wide."""
    monkeypatch.setattr("sci_kernels.blocked.enhance_network._BAND_PIXELS", 40)
    check(make_image(1, 3, 9, 20), impl="blocked")
    check(make_image(1, 3, 4, 50), impl="blocked")
