"""`--smooth`: brightness that flickers is steadied, what changes for good is not."""

import numpy as np
import pytest
import torch

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from model import Enhancer  # noqa: E402
from model.video.deflicker import Steady  # noqa: E402
from model.video.enhance_frames import enhance_video  # noqa: E402
from tests.videos import enhance as enhance  # noqa: E402  its fixture
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture
from tests.videos import pixels, scene, write  # noqa: E402


def test_smooth_damps_flicker_and_follows_cuts(enhance):
    """Exposure that alternates by 10 %, and a new scene after 12 frames."""
    still, other = scene(1)[0] * 1.0, scene(1, seed=2)[0][::-1, ::-1] * 2.5
    frames = [(still if k < 12 else other) * (1 + 0.1 * (-1) ** k) for k in range(24)]
    write("a.mkv", [frame.clip(0, 255).round().astype(np.uint8) for frame in frames])
    for name, smooth in (("plain.mkv", None), ("smooth.mkv", 0.5)):
        enhance_video("a.mkv", name, enhance, smooth=smooth, lossless=True)
    plain, smooth = (np.log([frame.mean() for frame in pixels(name)]) for name in ("plain.mkv", "smooth.mkv"))
    for part in (slice(2, 12), slice(14, 24)):
        assert np.abs(np.diff(smooth[part])).max() < np.abs(np.diff(plain[part])).max() / 4
    assert abs(smooth[12] - plain[12]) < 1e-3  # the new scene starts with its own brightness


def test_exposures_are_steadied_by_their_logarithm():
    steady, image = Steady(0.5), torch.from_numpy(scene(1)[0]).permute(2, 0, 1)[None] / 255
    assert steady.exposure(4.0, image, 0.0) == pytest.approx(4.0)
    keep = np.exp(-0.04 / 0.5)
    assert np.log1p(steady.exposure(5.0, image, 0.04)) == pytest.approx(keep * np.log(5) + (1 - keep) * np.log(6))
    assert steady.exposure(0.0, image, 0.08) == 0.0  # a light switched on is no flicker


def test_a_slow_fade_has_no_jumps():
    image, steady = torch.from_numpy(scene(1)[0]).permute(2, 0, 1)[None] / 255, Steady(0.5)
    levels = np.linspace(0.5, 3.0, 40)  # five times log 1.6 in 1.6 seconds
    smooth = [np.log1p(steady.exposure(np.expm1(level), image, k / 25)) for k, level in enumerate(levels)]
    assert np.diff(smooth).min() > 0 and np.diff(smooth).max() < 1.5 * np.diff(levels).max()
    assert (np.abs(smooth - levels) <= np.log(1.6) + 1e-9).all()


def test_frames_of_a_flickering_lamp_differ_less_than_they_did():
    enhancer = Enhancer(device="cpu", denoise=0)
    still = scene(1)[0] * 1.0
    frames = [(still * (1 + 0.1 * (-1) ** k)).clip(0, 255).round().astype(np.uint8) for k in range(12)]
    write("a.mkv", frames)
    jumps = {}
    for name, smooth in (("plain.mkv", None), ("smooth.mkv", 0.5)):
        find = lambda image: float(enhancer.exposures(image))  # noqa: E731
        enhance_video("a.mkv", name, enhancer.frame, find_exposure=find, smooth=smooth, lossless=True)
        jumps[name] = np.abs(np.diff(np.log([frame.mean() for frame in pixels(name)]))).max()
    source = np.abs(np.diff(np.log([frame.mean() for frame in frames]))).max()
    assert jumps["plain.mkv"] < source / 4 and jumps["smooth.mkv"] < source


def test_smooth_keeps_what_does_not_flicker():
    steady = Steady(0.5)
    image = torch.from_numpy(scene(1)[0]).permute(2, 0, 1)[None] / 255
    assert all(steady.gain(image, k / 25) == pytest.approx(1.0, abs=1e-12) for k in range(5))
    jump = steady.gain(2 * image, 0.24)
    assert jump == pytest.approx(1.0, abs=1e-12)  # a light switched on is no flicker
    keep = np.exp(-0.04 / 0.5)
    assert steady.gain(2.2 * image, 0.28) == pytest.approx(1.1**-keep, rel=1e-6)  # s = m - keep * log 1.1
    with pytest.raises(ValueError, match="seconds: expected more than 0; got 0"):
        Steady(0)
