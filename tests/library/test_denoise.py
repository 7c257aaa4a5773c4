"""The filter of brightened images: against the reference in float64, at the borders, in every dtype, in any tile."""

import pytest
import torch

import sci_kernels
from sci_kernels import reference

BOUNDS = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def make_image(*shape, dtype=torch.float32, device="cpu") -> torch.Tensor:
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    values = 0.5 + 0.2 * (values - 0.5)  # few neighbors are so far apart in color that they weigh nothing
    return (values * 255 if dtype == torch.uint8 else values).to(device, dtype)


def make_gain(image: torch.Tensor, dtype=torch.float32) -> torch.Tensor:
    n, _, height, width = image.shape
    gain = 1 + 9 * torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return gain.to(image.device, dtype)


def check(image, gain, strength=1.0, **options):
    result = sci_kernels.denoise(image, gain, strength, **options)
    assert result.dtype == image.dtype and result.shape == image.shape
    scale = 255 if image.dtype == torch.uint8 else 1
    wanted = scale * reference.denoise(image.cpu().double() / scale, gain.cpu().double(), strength)
    # Half of a gray level is the rounding; of a dtype 1 is a multiple of the bound.
    bound = 1.0 if image.dtype == torch.uint8 else BOUNDS[image.dtype]
    assert (result.cpu().double() - wanted).abs().max() <= bound
    return result


SHAPES = [
    (1, 3, 1, 1), (1, 3, 1, 7), (1, 3, 6, 1), (1, 3, 2, 9), (2, 3, 5, 4), (1, 3, 3, 2), (1, 3, 31, 23), (2, 3, 7, 13),
    (1, 3, 12, 34), (1, 3, 3, 8),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.uint8, *BOUNDS], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_host_in_every_shape_and_dtype(host, shape, dtype, poisoned):
    image = make_image(*shape, dtype=dtype)
    gain = make_gain(image)
    for strength in (1.0, 0.3, 4.0):
        check(image, gain, strength, impl=host)
    check(image.contiguous(memory_format=torch.channels_last), gain, impl=host)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_gain_of_any_dtype(host, dtype):
    image = make_image(1, 3, 9, 10)
    check(image, make_gain(image, dtype), impl=host)
    check((255 * image).byte(), make_gain(image, dtype), impl=host)


def test_reference_in_halves_and_bytes():
    for dtype in (torch.uint8, torch.float16):
        image = make_image(1, 3, 9, 10, dtype=dtype)
        check(image, make_gain(image), impl="reference")


# An interpreted program takes a second: one for each way through the kernel. Widths decide how rows are read.
@pytest.mark.ptx(dtype=[torch.float32, torch.uint8])
@pytest.mark.quick("sm_90", dtype=[torch.float32])
@pytest.mark.parametrize(
    "dtype, width",
    [(torch.float32, 24), (torch.uint8, 21), (torch.float32, 3), (torch.bfloat16, 8), (torch.float64, 22)],
    ids=["vector", "bytes", "narrow", "halves", "columns"],
)
def test_triton(fused, dtype, width, poisoned):
    impl, device = fused
    # Between rows of NaN, which a read out of bounds would meet.
    nothing = 255 if dtype == torch.uint8 else float("nan")
    images = 2 if width == 3 else 1
    around = torch.full((images, 3, 23, width), nothing, dtype=dtype, device=device)
    image = make_image(images, 3, 19, width, dtype=dtype, device=device)
    around[:, :, 2:-2] = image
    gains = torch.full((images, 1, 23, width), float("nan"), device=device)
    gains[:, :, 2:-2] = make_gain(image)
    check(around[:, :, 2:-2], gains[:, :, 2:-2], impl=impl)


@pytest.mark.ptx
def test_triton_marches(fused):
    """Several programs: side by side, and as compiled also below one another."""
    impl, device = fused
    image = make_image(1, 3, 34, 36, device=device)
    check(image, make_gain(image), 2.0, impl=impl)


def test_nothing_is_read_beyond_rows_and_columns(host):
    around = torch.full((1, 3, 20, 30), float("nan"))
    gains = torch.full((1, 1, 20, 30), float("nan"))
    for height, width in ((16, 26), (5, 16), (3, 1)):
        image = make_image(1, 3, height, width)
        around[:, :, 2 : 2 + height, 3 : 3 + width] = image
        gains[:, :, 2 : 2 + height, 3 : 3 + width] = make_gain(image)
        inside = (..., slice(2, 2 + height), slice(3, 3 + width))
        check(around[inside], gains[inside], impl=host)


def test_strides_change_no_bit(host):
    """Every other column, columns one after another in memory, one gain for all pixels of a row, one plane for all."""
    wide = make_image(1, 3, 9, 24)
    gain = make_gain(wide)[..., :1].expand(-1, -1, -1, 12)
    expected = sci_kernels.denoise(wide[..., ::2].contiguous(), gain.contiguous(), impl=host)
    assert torch.equal(sci_kernels.denoise(wide[..., ::2], gain, impl=host), expected)
    turned = wide[..., ::2].mT.contiguous().mT
    assert torch.equal(sci_kernels.denoise(turned, gain, impl=host), expected)
    assert torch.equal(sci_kernels.denoise(turned, gain.mT.contiguous().mT, impl=host), expected)
    gray = wide[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(
        sci_kernels.denoise(gray, make_gain(wide), impl=host),
        sci_kernels.denoise(gray.contiguous(), make_gain(wide), impl=host),
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
def test_memory_format_is_kept(host, dtype):
    image = make_image(2, 3, 9, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    result = sci_kernels.denoise(image, make_gain(image), impl=host)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, sci_kernels.denoise(image.contiguous(), make_gain(image), impl=host))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [8, 13, 40])
def test_tiles_have_the_bits_of_the_whole(host, width, dtype):
    image = make_image(1, 3, 60, width, dtype=dtype)
    gain = make_gain(image)
    whole = sci_kernels.denoise(image, gain, impl=host)
    for rows in (1, 7, 50):
        for top in range(0, 60, rows):
            low, high = max(top - 2, 0), min(top + rows + 2, 60)
            tile = sci_kernels.denoise(image[:, :, low:high], gain[:, :, low:high], impl=host)
            assert torch.equal(tile[:, :, top - low : top - low + rows], whole[:, :, top : top + rows])
    for left in range(width - 3):
        low = max(left - 2, 0)
        tile = sci_kernels.denoise(image[..., low : left + 5], gain[..., low : left + 5], impl=host)
        assert torch.equal(tile[..., left - low : left - low + 3], whole[..., left : left + 3])


def test_the_number_of_threads_changes_no_bit(host):
    image = make_image(1, 3, 300, 240)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(sci_kernels.denoise(image, make_gain(image), impl=host))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_bands_cover_a_wide_image(monkeypatch):
    """Rows a band are limited by its pixels where the image is wide."""
    image = make_image(1, 3, 9, 20)
    expected = sci_kernels.denoise(image, make_gain(image), impl="blocked")
    monkeypatch.setattr("sci_kernels.blocked.denoise_filter._BAND_PIXELS_CPU", 40)
    assert torch.equal(sci_kernels.denoise(image, make_gain(image), impl="blocked"), expected)


def test_what_it_is_for(host):
    """Noise on a flat image falls, an edge and a flat image stay."""
    noise = 0.01 * 8 * torch.randn(1, 3, 30, 30, generator=torch.Generator().manual_seed(2))
    high = torch.full((1, 1, 30, 30), 8.0)
    for strength, share in ((1.0, 0.75), (1.5, 0.5), (4.0, 0.25)):
        assert sci_kernels.denoise(0.5 + noise, high, strength, impl=host).std() < share * noise.std()
    flat = torch.full((1, 3, 30, 30), 0.25)
    torch.testing.assert_close(sci_kernels.denoise(flat, high, impl=host), flat, rtol=0, atol=1e-6)
    edge = torch.cat([flat, flat + 0.5], 3)
    torch.testing.assert_close(sci_kernels.denoise(edge, torch.ones(1, 1, 30, 60), impl=host), edge, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_flat_bytes_stay(host, value):
    image = torch.full((1, 3, 7, 11), value, dtype=torch.uint8)
    assert torch.equal(sci_kernels.denoise(image, make_gain(image), 4.0, impl=host), image)


def test_strength(host):
    image = make_image(1, 3, 9, 10)
    for small in (0.0, 1e-30):
        result = sci_kernels.denoise(image, make_gain(image), small, impl=host)
        torch.testing.assert_close(result, image, rtol=0, atol=1e-7)
        assert result.data_ptr() != image.data_ptr()
    torch.testing.assert_close(sci_kernels.denoise(image, make_gain(image), 1e-30, impl="reference"), image)


@pytest.mark.ptx
def test_nan_spreads_over_the_neighborhood(fused):
    impl, device = fused
    image = make_image(1, 3, 12, 20, device=device)
    image[0, 1, 5, 10] = float("nan")
    gain = make_gain(image)
    gain[0, 0, 10, 2] = float("nan")
    result = sci_kernels.denoise(image, gain, impl=impl)
    wanted = reference.denoise(image.cpu(), gain.cpu(), 1.0)
    assert wanted.isnan().sum() == 3 * 26 and torch.equal(result.isnan().cpu(), wanted.isnan())


def test_host_keeps_infinities_as_the_reference_does(host):
    image = make_image(1, 3, 12, 20)
    image[0, 1, 0, 10] = float("inf")
    gain = make_gain(image)
    gain[0, 0, 10, 2] = float("inf")
    result = sci_kernels.denoise(image, gain, impl=host)
    torch.testing.assert_close(result, reference.denoise(image, gain, 1.0), equal_nan=True, rtol=0, atol=2e-6)


def test_compiles_without_graph_break(host):
    compiled = torch.compile(
        lambda x, g: sci_kernels.denoise(x, g, impl=host), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for height in (6, 9):
        image = make_image(1, 3, height, 7)
        assert torch.equal(compiled(image, make_gain(image)), sci_kernels.denoise(image, make_gain(image), impl=host))


def test_gradients_are_refused():
    image = make_image(1, 3, 5, 5)
    gain = make_gain(image)
    for x, g in ((image.clone().requires_grad_(), gain), (image, gain.clone().requires_grad_())):
        for impl in ("auto", "reference"):
            with pytest.raises(
                RuntimeError, match=r"which denoise does not have; use torch.no_grad\(\) or (image|gain).detach\(\)$"
            ):
                sci_kernels.denoise(x, g, impl=impl)
        with torch.no_grad():
            sci_kernels.denoise(x, g)


def test_wrong_arguments_are_named():
    image = make_image(1, 3, 4, 4)
    gain = make_gain(image)
    with pytest.raises(TypeError, match="image: expected uint8, float16, .* or float64; got torch.int32"):
        sci_kernels.denoise(image.int(), gain)
    with pytest.raises(ValueError, match=r"image: expected shape \(N, 3, H, W\), none of them 0; got"):
        sci_kernels.denoise(image[:, :1], gain)
    with pytest.raises(TypeError, match="gain: expected .*; got torch.uint8"):
        sci_kernels.denoise(image, gain.byte())
    for shape in ((1, 3, 4, 4), (1, 4, 4), (1, 1, 4, 3)):
        with pytest.raises(ValueError, match=r"gain: expected one number per pixel, shape \(1, 1, 4, 4\); got"):
            sci_kernels.denoise(image, torch.ones(shape))
    for strength in (-0.1, 4.1, float("nan")):
        with pytest.raises(ValueError, match="strength: "):
            sci_kernels.denoise(image, gain, strength)
    with pytest.raises(TypeError, match="strength: "):
        sci_kernels.denoise(image, gain, "much")
    with pytest.raises(ValueError, match="impl: expected one of"):
        sci_kernels.denoise(image, gain, impl="cuda")
