"""What a type checker tells a user of the library: the types that its functions and modules return."""

import pytest

from tests.type_checks import mypy_says

pytestmark = pytest.mark.xdist_group("mypy")  # one after another: they share a cache

# Each expression, and its type as mypy reveals it. `Tensor` stands for torch's.
EXPRESSIONS = {
    "sci_kernels.smooth_loss(x, x)": "Tensor",
    "sci_kernels.illumination_loss(x, x, 1.0, sigma=0.1)": "Tensor",
    "sci_kernels.retinex(x, x, x, sigmoid=True)": "tuple[Tensor, Tensor]",
    "sci_kernels.SmoothLoss()(x, x)": "Tensor",
    "sci_kernels.LossFunction(detach_input=True)(x, x)": "Tensor",
    "sci_kernels.Retinex()(x, x, x)": "tuple[Tensor, Tensor]",
    "sci_kernels.exposure(x, weights)": "Tensor",
    "sci_kernels.denoise(x, x)": "Tensor",
    "sci_kernels.enhance(x, weights)": "Tensor",
    "sci_kernels.enhance(x, weights, exposure=1.0, impl='blocked')": "Tensor",
    "sci_kernels.enhance(x, weights, return_illumination=True)": "tuple[Tensor, Tensor]",
    "sci_kernels.enhance(x, weights, exposure=x, return_illumination=True)": "tuple[Tensor, Tensor]",
    "sci_kernels.enhance(x, weights, exposure=1.0, return_gain=True)": "tuple[Tensor, Tensor]",
    "sci_kernels.enhance(x, weights, exposure=x, return_illumination=True, return_gain=True)": (
        "tuple[Tensor, Tensor, Tensor]"
    ),
    "sci_kernels.enhance(x, weights, return_illumination=wanted)": "Tensor | tuple[Tensor, ...]",
    "sci_kernels.default_impl('cpu')": "str",
    "sci_kernels.accelerate(network)": "sci_kernels.drop_in.report.Acceleration",
    "sci_kernels.restore(network)": "list[str]",
}
MISTAKES = ("sci_kernels.SmoothLoss()(x)", "sci_kernels.Retinex()(x, x)", "sci_kernels.enhance(x, weights, True)")
HEAD = """
import torch
import sci_kernels

def use(x: torch.Tensor, weights: sci_kernels.EnhanceWeights, wanted: bool, network: torch.nn.Module) -> None:
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """mypy's lines about the expressions, in order, and those about the mistakes."""
    calls = [f"reveal_type({expression})" for expression in EXPRESSIONS] + list(MISTAKES)
    path = tmp_path_factory.mktemp("types") / "user_of_sci_kernels.py"
    path.write_text(HEAD + "".join(f"    {call}\n" for call in calls), "utf-8")
    found, first = mypy_says(path), HEAD.count("\n") + 1
    return [found.get(first + index, "") for index in range(len(calls))]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_call_has_its_type(told, expression):
    index = list(EXPRESSIONS).index(expression)
    revealed = told[index].removeprefix('note: Revealed type is "').rstrip('"')
    assert revealed.replace("torch._tensor.", "").replace("builtins.", "") == EXPRESSIONS[expression]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(told, mistake):
    assert told[len(EXPRESSIONS) + MISTAKES.index(mistake)].startswith("error: ")
