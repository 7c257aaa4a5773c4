"""What a type checker makes of the public calls whose result depends on their arguments."""

import pytest

from tests.type_checks import mypy_says

pytestmark = pytest.mark.xdist_group("mypy")  # one after another: they share a cache

START = """
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import assert_type

from model import Enhanced, EnhanceNetwork, Enhancer, Picture, enhance_image, fold, read_image
from sci_kernels import EnhanceWeights

enhancer = Enhancer()
path: str | Path = "night.jpg"
image = Image.new("RGB", (3, 3))
tensor = torch.zeros(3, 3, 3)
eight_bits = np.zeros((3, 3, 3), np.uint8)
floats = np.zeros((3, 3), np.float32)
several: list[str | Path] = ["a.png", Path("b.png")]
"""

RIGHT = """
assert_type(enhancer("night.jpg"), Image.Image)
assert_type(enhancer(Path("night.jpg")), Image.Image)
assert_type(enhancer(path), Image.Image)
assert_type(enhancer(image), Image.Image)
assert_type(enhancer(eight_bits), NDArray[np.uint8])
assert_type(enhancer(floats), NDArray[np.float32])
assert_type(enhancer(tensor), Tensor)
assert_type(enhancer(["a.png", "b.png"]), list[Image.Image])
assert_type(enhancer([image, image]), list[Image.Image])
assert_type(enhancer(several), list[Image.Image])
assert_type(enhancer(("a.png", Path("b.png"), image)), list[Image.Image])
assert_type(enhancer([eight_bits]), list[NDArray[np.uint8]])
assert_type(enhancer((floats, floats)), list[NDArray[np.float32]])
assert_type(enhancer([tensor]), list[Tensor])
assert_type(enhancer([tensor, "a.png"]), list[Image.Image | np.ndarray | Tensor])
assert_type(enhancer.picture(read_image("night.jpg")), Enhanced)
assert_type(enhancer.exposures(tensor), Tensor | None)
assert_type(read_image(path), Picture)
assert_type(enhance_image(EnhanceNetwork(), tensor[None]), tuple[Tensor, Tensor])
assert_type(fold(EnhanceNetwork()), EnhanceWeights)
"""

WRONG = {
    "another kind of result": "assert_type(enhancer(path), Tensor)",
    "another dtype": "assert_type(enhancer(eight_bits), NDArray[np.float32])",
    "a list is no picture": "enhancer([image]).save('bright.png')",
    "a number is no picture": "enhancer(3)",
    "the result of a tensor is no PIL image": "enhancer(tensor).save('bright.png')",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, str]:
    """The lines in which mypy finds errors, each with the first one. `assert_type` lets no Any pass."""
    path = tmp_path_factory.mktemp("types") / "user_of_model.py"
    path.write_text(START + RIGHT + "\n".join(WRONG.values()))
    lines = path.read_text().splitlines()
    return {lines[number - 1]: text for number, text in mypy_says(path).items() if text.startswith("error: ")}


def test_results_have_the_types_of_their_arguments(found):
    assert not {line: text for line, text in found.items() if line not in WRONG.values()}


def test_wrong_types_are_found(found):
    assert not {what for what, line in WRONG.items() if line not in found}
