"""What needs a GPU to be seen: graphs, a second device, more than 2^31 elements, memory that runs out, compilations."""

import contextlib
import gc
import importlib
import pkgutil

import pytest
import torch

import sci_kernels
from sci_kernels import reference
from sci_kernels.constants import PAIRS
from tests.library.test_ops import FUNCTIONS, assert_all_close, pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]
SIGMA = 0.5


def evaluate(function, tensors, impl="triton"):
    """The value of one of FUNCTIONS, and its gradients."""
    value = function(*tensors, impl)
    return value, *torch.autograd.grad(value, tensors)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_captured_graph_computes_with_new_data(name):
    tensors = pair("cuda", h=37, w=52, n=2)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles the kernels, which a capture must not do
        first = evaluate(FUNCTIONS[name], tensors)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = evaluate(FUNCTIONS[name], tensors)
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(torch.rand_like(tensor))
    graph.replay()
    expected = evaluate(FUNCTIONS[name], tensors)
    assert not torch.equal(captured[0], first[0])
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@pytest.mark.parametrize("impl", ["triton", "blocked"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensors_on_a_device_that_is_not_the_current_one(name, impl):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    tensors = pair("cuda:0", h=20, w=33)
    there = tuple(tensor.detach().to("cuda:1").requires_grad_() for tensor in tensors)
    with torch.cuda.device(0):
        actual = evaluate(FUNCTIONS[name], there, impl)
        assert torch.cuda.current_device() == 0
    assert all(result.device == there[0].device for result in actual)
    expected = evaluate(FUNCTIONS[name], tensors, impl)
    assert_all_close([result.cpu() for result in actual], [result.cpu() for result in expected])


# For one process of pytest-xdist, so that tests that fill the memory take turns.
fills_memory = pytest.mark.xdist_group("memory")


def need_memory(gigabytes):
    gc.collect()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] / 1e9
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes} GB of GPU memory; {free:.0f} GB are free")


def half_images(count, *shape):
    torch.manual_seed(0)
    return tuple(torch.rand(shape, device="cuda", dtype=torch.float16).requires_grad_() for _ in range(count))


# Half precision cannot hold the gradients of a mean over so many pixels: they are asked for times the pixels.
# What is left is the rounding of the result.
HALF = {"rtol": 1e-3, "atol": 1e-3}


@fills_memory
@pytest.mark.parametrize("color", ["reference", "ycbcr"])
def test_a_batch_of_more_than_2_to_the_31_elements(color):
    need_memory(60)
    n, h, w = 43, 4096, 4096
    x, y = half_images(2, n, 3, h, w)
    assert x.numel() > 2**31

    def loss(x, y):
        return sci_kernels.illumination_loss(x, y, sigma=SIGMA, color=color, impl="triton")

    value = loss(x, y)
    grads = torch.autograd.grad(value, (x, y), value.new_tensor(n * h * w))
    with torch.no_grad():
        expected = sum(loss(x[i : i + 1], y[i : i + 1]).double() for i in range(n)) / n
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0.0)
    for i in (0, n // 2, n - 1):
        one = tuple(tensor[i : i + 1].detach().requires_grad_() for tensor in (x, y))
        alone = torch.autograd.grad(loss(*one), one, value.new_tensor(h * w))
        assert_all_close([grad[i : i + 1] for grad in grads], alone, **HALF)


def smoothness_of_rows(x, y, rows, height, color):
    """What the pairs that begin in the first `rows` rows of a crop add to the loss of an image `height` rows high."""
    v, light = reference.transform_color(x.float(), color), y.float()
    total = 0.0
    for dy, dx in PAIRS:
        v_here, v_there = reference._overlap(v[..., : rows + dy, :], (dy, dx))
        l_here, l_there = reference._overlap(light[..., : rows + dy, :], (dy, dx))
        weight = torch.exp((v_here - v_there).square().sum(1) / (-2.0 * SIGMA**2))
        distance = (l_here - l_there).abs().sum(1)
        total = total + 2.0 * (weight * distance).sum(dtype=torch.float64) / ((height - dy) * (x.shape[-1] - abs(dx)))
    return total


@fills_memory
@pytest.mark.parametrize("color", ["reference", "ycbcr"])
def test_an_image_of_more_than_2_to_the_31_elements(color):
    need_memory(60)
    h, w = 26736, 26784  # rows of whole triples, so that a crop of rows has the colors that it has in the image
    x, y = half_images(2, 1, 3, h, w)
    assert x.numel() > 2**31 and w % 3 == 0
    value = sci_kernels.smooth_loss(x, y, sigma=SIGMA, color=color, impl="triton")
    grads = torch.autograd.grad(value, (x, y), value.new_tensor(h * w))
    with torch.no_grad():
        expected = sum(
            smoothness_of_rows(x[..., top : top + 514, :], y[..., top : top + 514, :], 512, h, color)
            for top in range(0, h, 512)
        )
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0.0)

    last = tuple(tensor[..., -16:, :].detach().requires_grad_() for tensor in (x, y))
    alone = torch.autograd.grad(smoothness_of_rows(*last, 16, h, color) * (h * w), last)
    # The first two rows of the crop have neighbors above it.
    assert_all_close([grad[..., -14:, :] for grad in grads], [grad[..., 2:, :] for grad in alone], **HALF)


@fills_memory
def test_retinex_of_more_than_2_to_the_31_elements():
    need_memory(60)
    tensors = half_images(3, 2**31 + 1001)
    outputs = sci_kernels.retinex(*tensors, impl="triton")
    grads = torch.autograd.grad(outputs, tensors, [tensor.detach() for tensor in tensors[:2]])
    last = tuple(tensor[-5000:].detach().requires_grad_() for tensor in tensors)
    alone = sci_kernels.retinex(*last, impl="triton")
    alone += torch.autograd.grad(alone, last, [tensor.detach() for tensor in last[:2]])
    assert all(torch.equal(a[-5000:], b) for a, b in zip(outputs + grads, alone, strict=True))


@contextlib.contextmanager
def no_more_memory_than(extra):
    """This process may hold `extra` bytes of the GPU beside what it holds."""
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + extra
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("impl", ["triton", "blocked"])
def test_memory_that_runs_out_is_named_and_nothing_breaks(impl):
    small = pair("cuda", h=16, w=16)
    small_expected = evaluate(FUNCTIONS["smooth_loss"], small, impl)
    x, y = pair("cuda", h=2048, w=2048)  # 48 MiB each
    before = [tensor.detach().cpu() for tensor in (x, y)]
    value = sci_kernels.smooth_loss(x, y, impl=impl)
    with no_more_memory_than(24 << 20):
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate \d+\.\d+ [MG]iB"):
            torch.autograd.grad(value, (x, y), retain_graph=True)
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate \d+\.\d+ [MG]iB"):
            sci_kernels.retinex(x, y, y, impl=impl)
        for a, b in zip(evaluate(FUNCTIONS["smooth_loss"], small, impl), small_expected, strict=True):
            assert torch.equal(a, b)
    assert all(torch.equal(tensor.cpu(), copy) for tensor, copy in zip((x, y), before, strict=True))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(value, (x, y)))


def count_compilations():
    """Specialisations of all our kernels that this process has compiled or loaded."""
    import triton  # not everywhere

    package = importlib.import_module("sci_kernels.triton")
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    kernels = {id(value): value for module in modules for value in vars(module).values()}.values()
    jitted = [value for value in kernels if isinstance(value, triton.JITFunction)]
    return sum(len(caches[0]) for kernel in jitted for caches in kernel.device_caches.values())


@pytest.mark.parametrize("widths", [(64, 100, 4, 1504), (67, 35, 101, 1502)], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_size_compiles_nothing(name, widths):
    heights, batches = (48, 37, 3, 1001), (1, 2, 16, 1)
    evaluate(FUNCTIONS[name], pair("cuda", h=heights[0], w=widths[0], n=batches[0]))
    compiled = count_compilations()
    assert compiled > 0
    for h, w, n in zip(heights[1:], widths[1:], batches[1:], strict=True):
        evaluate(FUNCTIONS[name], pair("cuda", h=h, w=w, n=n))
        assert count_compilations() == compiled, (n, h, w)
