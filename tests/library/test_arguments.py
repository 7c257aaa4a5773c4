"""Wrong arguments of the public functions: refused before anything runs, with what was expected and what came."""

import pytest
import torch

import sci_kernels

FUNCTIONS = {
    "smooth_loss": lambda x, y, impl: sci_kernels.smooth_loss(x, y, impl=impl),
    "illumination_loss": lambda x, y, impl: sci_kernels.illumination_loss(x, y, impl=impl),
    "retinex": lambda x, y, impl: sci_kernels.retinex(x, y, y, impl=impl),
}
X = torch.rand(1, 3, 5, 6)


@pytest.mark.parametrize(
    "error, message, arguments, options",
    [
        (TypeError, "input: expected a torch.Tensor; got list", ([1], X), {}),
        (TypeError, "illumination: expected float16.*got torch.int64", (X, X.long()), {}),
        (TypeError, "input: expected a dense tensor", (X.to_sparse(), X), {}),
        (ValueError, "input: expected 4 dimensions.*got shape \\(3, 5, 6\\)", (X[0], X), {}),
        (ValueError, "input: expected 1, 2 or 3 channels; got 6", (torch.cat([X, X], 1), X), {}),
        (ValueError, "illumination: expected height and width of at least 3.*got 2x6", (X, X[:, :, :2]), {}),
        (ValueError, "input: expected height and width of at least 3.*got 5x2", (X[..., :2], X[..., :2]), {}),
        (ValueError, "input: expected at least one image", (X[:0], X[:0]), {}),
        (ValueError, "illumination: expected the batch, height and width", (X, X[..., :5]), {}),
        (ValueError, "illumination: expected the device of input, cpu; got meta", (X, X.to("meta")), {}),
        (ValueError, "sigma: expected a positive number, at least 1e-18; got 0", (X, X), {"sigma": 0}),
        (ValueError, "sigma: expected a finite number; got nan", (X, X), {"sigma": float("nan")}),
        (TypeError, "sigma: expected a number; got str", (X, X), {"sigma": "10"}),
        (TypeError, "sigma: expected a number; got bool", (X, X), {"sigma": True}),
        (ValueError, "color: expected one of reference, ycbcr, rgb; got 'hsv'", (X, X), {"color": "hsv"}),
        (ValueError, "color: 'ycbcr' needs 3 input channels", (X[:, :1], X), {"color": "ycbcr"}),
        (ValueError, "numel\\(\\) % 3 == 0; got 25", (X[:, :1, :, :5], X[..., :5]), {}),
        (
            ValueError,
            "impl: expected one of auto, triton, native, blocked, reference; got 'fast'",
            (X, X),
            {"impl": "fast"},
        ),
    ],
)
def test_wrong_loss_arguments_are_named(error, message, arguments, options):
    with pytest.raises(error, match=message):
        sci_kernels.smooth_loss(*arguments, **options)


def refused():
    """Tensors that no kernel can read, by what the message calls them."""
    x = torch.rand(1, 3, 5, 6)
    yield from (
        (f"got {dtype}; convert", x.to(dtype))
        for dtype in (torch.float8_e4m3fn, torch.complex64, torch.int64, torch.uint8, torch.bool)
    )
    yield "got torch.quint8; convert", torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
    yield "layout torch.sparse_coo; convert", x.to_sparse()
    yield "layout torch.sparse_csr; convert", x[0, 0].to_sparse_csr()
    yield "got a nested one", torch.nested.nested_tensor([x[0], x[0, :, :4]])
    yield "got a nested one", torch.nested.nested_tensor([x[0, 0], x[0, 0, :4]], layout=torch.jagged)
    if torch.backends.mkldnn.is_available():
        yield "layout torch._mkldnn; convert", x.to_mkldnn()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, about quantized, nested and compressed tensors
@pytest.mark.parametrize("impl", ["triton", "native", "blocked", "reference"])
def test_what_no_kernel_can_read_is_refused(impl):
    for message, tensor in refused():
        for position, name in enumerate(("input", "illumination")):
            arguments = [X, X]
            arguments[position] = tensor
            for function in (sci_kernels.smooth_loss, sci_kernels.illumination_loss):
                with pytest.raises(TypeError, match=f"^{name}: expected.*{message}"):
                    function(*arguments, impl=impl)
        for position, name in enumerate(("residual", "stage_input", "image")):
            arguments = [X, X, X]
            arguments[position] = tensor
            with pytest.raises(TypeError, match=f"^{name}: expected.*{message}"):
                sci_kernels.retinex(*arguments, impl=impl)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_devices_are_refused(name):
    meta = X.to("meta")
    with pytest.raises(ValueError, match="impl: 'triton' needs tensors on a CUDA or ROCm device.*got one on meta"):
        FUNCTIONS[name](meta, meta, "triton")
    with pytest.raises(ValueError, match="impl: 'native' needs tensors on a CPU; got one on meta"):
        FUNCTIONS[name](meta, meta, "native")
    with pytest.raises(ValueError, match=r"^(illumination|stage_input): expected the device of .*, cpu; got meta"):
        FUNCTIONS[name](X, meta, "blocked")


@pytest.mark.parametrize("impl", ["triton", "native", "blocked", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_empty_batch_is_refused(name, impl):
    with pytest.raises(ValueError, match="^(input|residual): expected at least one"):
        FUNCTIONS[name](X[:0], X[:0], impl)


def test_wrong_arguments_of_the_total_loss():
    with pytest.raises(ValueError, match="illumination: expected the shape of input"):
        sci_kernels.illumination_loss(X, X[:, :1])
    with pytest.raises(ValueError, match="fidelity_weight: expected a finite number; got inf"):
        sci_kernels.illumination_loss(X, X, fidelity_weight=float("inf"))
    with pytest.raises(TypeError, match="smooth_weight: expected a number; got NoneType"):
        sci_kernels.illumination_loss(X, X, smooth_weight=None)
