"""The recipe of the default weights: its photographs, and that the file that is shipped is the one it names."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from bench import default_weights as recipe
from model.network.weights import DEFAULT_WEIGHTS


def test_the_file_shipped_is_the_one_the_recipe_and_its_page_name():
    assert hashlib.sha256(DEFAULT_WEIGHTS.read_bytes()).hexdigest() == recipe.SHA256
    page = (DEFAULT_WEIGHTS.parent / "README.md").read_text("utf-8")
    assert recipe.SHA256 in page and f"python -m train --data DIR/photographs --out DIR/run {recipe.FLAGS}" in page
    assert all(photograph.path.name in page for photograph in recipe.PHOTOGRAPHS)


@pytest.mark.parametrize("index", range(len(recipe.PHOTOGRAPHS)))
def test_photographs_are_darkened_to_the_means_named(index):
    assert min(recipe.MEANS) == pytest.approx(0.04) and max(recipe.MEANS) == pytest.approx(0.09)
    for version in (0, len(recipe.MEANS) - 1):
        picture = recipe.darkened(index, version)
        assert picture.dtype == np.uint8 and picture.ndim == 3
        # Noise brightens what is black, since nothing is darker: 5.7 % of the mean in the darkest picture.
        assert picture.mean() / 255 == pytest.approx(recipe.MEANS[version], rel=0.07)


def test_another_photograph_of_the_name_is_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "coffee.png"
    Image.new("RGB", (40, 30), "gray").save(path)
    monkeypatch.setattr(recipe, "PHOTOGRAPHS", (recipe.Photograph(path, "0" * 64),))
    assert recipe.main(["--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(path) in error and "expected" in error and "constraints.txt" in error
