"""The default weights on dark and bright pictures that belong together: as bright as the truth, and less noisy."""

import os
from pathlib import Path

import numpy as np
import pytest

from model import Enhancer, read_image
from tests.conftest import ROOT

PAIRS = Path(os.environ.get("SCI_PAIRS", ROOT.parent / "shared" / "pairs"))


def test_pairs():
    pytest.importorskip("skimage")
    if not PAIRS.is_dir():
        pytest.skip(f"pairs of pictures not found at {PAIRS}; set SCI_PAIRS to a folder with low/ and high/")
    from train.evaluate import metrics

    ways = {"published": {"exposure": None}, "exposed": {"denoise": 0}, "filtered": {}}
    scores = {}
    for way, options in ways.items():
        enhancer, rows = Enhancer(device="cpu", **options), []
        for path in sorted((PAIRS / "low").glob("*.png")):
            pixels, truth = enhancer.picture(read_image(path)).pixels, read_image(PAIRS / "high" / path.name).pixels
            rows.append((metrics.psnr(pixels, truth), metrics.ssim(pixels, truth)))
        scores[way] = np.mean(rows, axis=0)
    assert scores["exposed"][0] >= 16.79 and scores["filtered"][0] >= 17.0
    assert scores["filtered"][1] >= scores["exposed"][1] + 0.03
    assert scores["exposed"][0] > scores["published"][0] + 0.3
