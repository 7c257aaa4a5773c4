"""Finding files: by extension below folders, once each, with the relative names of their results."""

import pytest

from model import ImageError, find_images
from model.files import PICTURE_EXTENSIONS
from model.files.find_files import Files, find_files


def test_find_images(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "b/deep/er/3.tif", "b/notes.txt", "b/.hidden.png", "b/.git/4.png", "odd.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path / "odd.dat", tmp_path / "b", tmp_path / "b" / "1.png"])
    assert [str(name) for _, name in found] == ["odd.dat", "1.png", "2.JPG", "deep/er/3.tif"]
    assert [str(source.relative_to(tmp_path)) for source, _ in found] == [
        "odd.dat", "b/1.png", "b/2.JPG", "b/deep/er/3.tif",
    ]  # fmt: skip
    assert find_images(str(tmp_path / "b")) == find_images([tmp_path / "b"])


def test_find_images_finds_nothing(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=r"no pictures in this folder or below it; looked for \.png"):
        find_images([tmp_path])
    with pytest.raises(ImageError, match="missing: no such file or folder"):
        find_images([tmp_path / "missing"])
    with pytest.raises(ImageError, match="got none"):
        find_images([])


def test_what_is_passed_over_is_counted(tmp_path):
    """Raw files beside their pictures, whatever the case of their extensions, and kinds that are not read."""
    for name in ("1.CR2", "1.jpg", "2.nef", "3.dng", "3.mp4", "4.ARW", "4.heic", "5.psd", "deep/6.EXR", "7.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = Files(tmp_path, (*PICTURE_EXTENSIONS, ".mp4"), "pictures")
    for _ in range(2):  # counted anew each time
        assert [str(name) for _, name in files] == ["1.jpg", "2.nef", "3.dng", "3.mp4", "4.heic"]
        raw, unread = files.passed_over()
        assert raw.startswith("2 raw files skipped, as") and unread.startswith(
            f"2 files skipped, {tmp_path / '5.psd'} the first: this format is not supported"
        )
    named = Files([tmp_path / "1.CR2", tmp_path], PICTURE_EXTENSIONS, "pictures")
    assert [str(name) for _, name in named][0] == "1.CR2"


def test_other_files(tmp_path):
    for name in ("a.mp4", "deep/b.MOV", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(name) for _, name in find_files(tmp_path, (".mp4", ".mov"), "videos")] == ["a.mp4", "deep/b.MOV"]
    with pytest.raises(ImageError, match=r"deep: no sounds in this folder or below it; looked for \.wav"):
        find_files(tmp_path / "deep", (".wav",), "sounds")
