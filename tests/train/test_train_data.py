"""Which photographs are trained on, in what order, cropped where; which are left out, and who says so."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.files import ImageError
from train import data
from train.data import Photos, Schedule, ahead, crop_corner, load, order, stack
from train.errors import TrainError

CPU = torch.device("cpu")


def write_photo(path, height, width, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 80, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path):
    for seed, (name, size) in enumerate({"b.png": (24, 20), "sub/a.png": (24, 26), "c.bmp": (30, 33)}.items()):
        write_photo(tmp_path / "photos" / name, *size, seed)
    return tmp_path / "photos"


def read(folder, crop=None, seed=2):
    warnings = []
    return Photos(str(folder), crop, seed, warnings.append), warnings


def test_order_is_a_permutation_of_epoch_and_seed():
    orders = [tuple(order(seed, epoch, 50)) for seed in (2, 3) for epoch in (0, 1)]
    assert all(sorted(indices) == list(range(50)) for indices in orders)
    assert len(set(orders)) == 4
    assert orders[0] == tuple(order(2, 0, 50))


def test_crops_reach_every_position_and_repeat():
    corners = [crop_corner(2, epoch, 0, (5, 7), (4, 3)) for epoch in range(200)]
    assert set(corners) == {(top, left) for top in range(2) for left in range(5)}
    assert corners == [crop_corner(2, epoch, 0, (5, 7), (4, 3)) for epoch in range(200)]
    assert corners != [crop_corner(2, epoch, 1, (5, 7), (4, 3)) for epoch in range(200)]
    assert corners != [crop_corner(3, epoch, 0, (5, 7), (4, 3)) for epoch in range(200)]


def test_whole_photographs_by_name(folder):
    photos, warnings = read(folder)
    assert photos.identity() == [["b.png", 24, 20], ["c.bmp", 30, 33], ["sub/a.png", 24, 26]]
    assert not warnings
    (name,), (image,) = stack([photos[0, 1]], CPU)
    expected = np.asarray(Image.open(folder / "c.bmp")).transpose(2, 0, 1).astype(np.float32) / 255
    assert name == "c.bmp" and np.array_equal(image.numpy(), expected)


def test_a_crop_is_a_window_of_the_photograph(folder):
    photos, _ = read(folder, crop=(10, 12))
    top, left = crop_corner(2, 5, 1, (30, 33), (10, 12))
    assert photos[5, 1][1].dtype == torch.uint8  # a byte a value until it is on the device
    assert torch.equal(stack([photos[5, 1]], CPU)[1][0], photos.image(1)[:, top : top + 10, left : left + 12])


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_schedule_continues_where_it_was_cut(batch_size):
    whole = list(Schedule(7, batch_size, 2, 0, 20))
    assert len(whole) == len(Schedule(7, batch_size, 2, 0, 20)) == 20
    for cut in range(21):
        assert list(Schedule(7, batch_size, 2, cut, 20)) == whole[cut:]
    epoch = [key for keys in whole for key in keys if key[0] == 1]
    assert sorted(epoch) == [(1, index) for index in range(7)]


def test_workers_and_cache_change_nothing(folder, monkeypatch):
    photos, _ = read(folder, crop=(9, 8))
    schedule = Schedule(3, 2, 2, 1, 6)
    expected = [stack(batch, CPU) for batch in load(photos, schedule, 0, CPU)]
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    uncached, _ = read(folder, crop=(9, 8))
    assert photos._pixels and not uncached._pixels
    for workers in (0, 2):
        loader = load(uncached, schedule, workers, CPU)
        batches = [stack(batch, CPU) for batch in (loader if workers else ahead(loader))]
        assert [names for names, _ in batches] == [names for names, _ in expected]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(batches, expected, strict=True))


def test_every_file_left_out_is_named(folder):
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    write_photo(folder / "whole.png", 60, 60)
    (folder / "truncated.png").write_bytes((folder / "whole.png").read_bytes()[:3000])
    write_photo(folder / "one.png", 1, 1)
    write_photo(folder / "thin.png", 40, 2)
    photos, warnings = read(folder)
    assert photos.names == ["b.png", "c.bmp", "sub/a.png", "whole.png"]
    left_out = ("empty.png", "one.png", "text.jpg", "thin.png", "truncated.png")
    assert len(warnings) == len(left_out)
    for name, warning in zip(left_out, warnings, strict=True):
        assert name in warning and "\n" not in warning
    assert "3 pixels" in warnings[3] and "40x2" in warnings[3]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_every_color_mode_gives_three_channels(tmp_path, mode):
    path = tmp_path / "photos" / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        path.parent.mkdir()
        Image.fromarray(np.arange(20 * 24, dtype=np.uint16).reshape(20, 24) * 100).save(path)
    else:
        write_photo(path, 20, 24, mode=mode)
    photos, warnings = read(tmp_path / "photos")
    image = stack([photos[0, 0]], CPU)[1][0]
    assert image.shape == (3, 20, 24) and image.dtype == torch.float32 and not warnings
    assert 0 <= image.min() < image.max() <= 1
    if mode == "I;16":
        assert image[0, 0, 1].item() == pytest.approx(100 / 65535)


def test_no_photograph(tmp_path, folder):
    with pytest.raises(ImageError, match="nowhere"):
        read(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ImageError, match="bare"):
        read(tmp_path / "bare")
    (tmp_path / "bare" / "a.png").touch()
    with pytest.raises(TrainError, match="--data.*bare.*all 1 "):
        read(tmp_path / "bare")


def test_a_crop_larger_than_a_photograph(folder):
    with pytest.raises(TrainError, match=r"b\.png: expected at least --crop 24 22 .*; got 24 20"):
        read(folder, crop=(24, 22))


def test_sizes_that_differ_within_a_batch(folder):
    photos, _ = read(folder)
    photos.check_batches(1)
    with pytest.raises(TrainError, match=r"(?s)b\.png of 24x20 and .*c\.bmp of 30x33.*--crop"):
        photos.check_batches(2)
    read(folder, crop=(8, 8))[0].check_batches(2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_while_training(folder, monkeypatch, workers):
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    photos, _ = read(folder)
    (folder / "c.bmp").unlink()
    with pytest.raises(TrainError, match=r"c\.bmp") as error:
        for batch in load(photos, Schedule(3, 1, 2, 0, 3), workers, CPU):
            stack(batch, CPU)
    assert "\n" not in str(error.value)


def test_a_file_that_changes_its_size_while_training(folder, monkeypatch):
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    photos, _ = read(folder)
    write_photo(folder / "c.bmp", 30, 32)
    with pytest.raises(TrainError, match=r"c\.bmp: the file changed its size"):
        stack([photos[0, 1]], CPU)
