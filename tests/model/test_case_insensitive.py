"""Folders that take A.JPG and a.jpg for one file: exFAT and NTFS images, mounted for the test, and a stand-in."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from model.enhance import main
from model.files import ImageError, collisions
from model.files.atomic_files import ignores_case
from model.files.collisions import Names

RUNS = int(os.environ.get("SCI_CASE_RUNS", "12"))  # on each file system

SYSTEMS = {
    "exfat": (["mkfs.exfat"], lambda device, place: ["mount.exfat-fuse", device, place]),
    "ntfs": (["mkfs.ntfs", "-Q", "-F"], lambda device, place: ["lowntfs-3g", "-o", "ignore_case", device, place]),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def card(request, tmp_path_factory):
    """A mounted image of such a file system."""
    make, mount = SYSTEMS[request.param]
    tools = ("losetup", "umount", make[0], mount("", "")[0])
    missing = [tool for tool in tools if shutil.which(tool, path=os.environ["PATH"] + ":/sbin:/usr/sbin") is None]
    if os.name != "posix" or os.geteuid() or missing or not os.path.exists("/dev/fuse"):
        pytest.skip(f"mounting {request.param} takes root, /dev/fuse and {' '.join(tools)}; missing: {missing}")
    folder = tmp_path_factory.mktemp(request.param)
    image, place = folder / "image", folder / "card"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(60 << 20)
    found = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no loop device: {found.stderr.strip()}")
    device = found.stdout.strip()
    try:
        subprocess.run([*make, device], check=True, capture_output=True)
        subprocess.run(mount(device, str(place)), check=True, capture_output=True)
        yield place
        for _ in range(20):
            if not subprocess.run(["umount", place], capture_output=True).returncode:
                break
            time.sleep(0.5)
    finally:
        subprocess.run(["losetup", "-d", device], capture_output=True)


def spelled(name: str, chance: random.Random) -> str:
    return "".join(chance.choice((letter.lower(), letter.upper())) for letter in name)


def make_sources(folder: Path, chance: random.Random) -> dict[Path, int]:
    """Pictures with random spellings of few names; each has a width of its own."""
    folder.mkdir(exist_ok=True)
    made = {}
    for _ in range(chance.randint(1, 7)):
        extension = chance.choice((".png", ".jpg", ".tif", ".bmp"))
        path = folder / spelled(chance.choice(("dsc1", "dsc2", "ö3")) + extension, chance)
        if not path.exists():
            made[path] = 4 + len(made) + 10 * chance.randint(1, 9)
            Image.new("RGB", (made[path], 6), (20, 30, 40)).save(path)
    return made


def results_below(folder: Path, sources: dict[Path, int]) -> dict[str, int]:
    """The width of each file that is no source, by its spelling in the folder."""
    known = {str(path).casefold() for path in sources}
    return {str(path): Image.open(path).width for path in folder.rglob("*.*") if str(path).casefold() not in known}


@pytest.mark.quick(workers=["8"])
@pytest.mark.parametrize("workers", ["1", "8"])
def test_nothing_is_lost(card, workers, capsys):
    assert ignores_case(card)
    for seed in range(RUNS):
        chance = random.Random(f"{card.name}-{workers}-{seed}")
        place = card / f"run{workers}-{seed}"
        place.mkdir()
        sources = make_sources(place / "s", chance)
        before = {path: path.read_bytes() for path in sources}
        output = chance.choice((place / "s", place / "S", place / "out", place / "s" / "out"))
        arguments = ["-i", str(place / chance.choice("sS")), "-o", str(output), "--workers", workers]
        arguments += ["--ext", chance.choice(("png", "jpg", "tif", "auto")), "--device", "cpu"]
        arguments += ["--suffix", chance.choice(("", "", "_B"))]
        arguments += chance.choice(([], [], ["--overwrite"], ["--skip-existing"], ["--illumination"]))
        kept = None
        if chance.random() < 0.3:  # something foreign where a result may go
            output.mkdir(exist_ok=True)
            kept = output / spelled("dsc1.png", chance)
            if kept.exists():
                kept = None
            else:
                Image.new("RGB", (3, 3), "red").save(kept)
                if str(output).casefold() == str(place / "s").casefold():
                    before[kept], sources[kept] = kept.read_bytes(), 3
                    kept = None
        foreign = kept and kept.read_bytes()
        status = main(arguments)
        said = capsys.readouterr()
        told = f"{seed}: {arguments}\n{said.out}{said.err}"
        assert {path: path.read_bytes() for path in sources} == before, told
        if kept and "--overwrite" not in arguments:
            assert kept.read_bytes() == foreign, told
        if status == 2:
            assert "would" in said.err or "nothing to enhance" in said.err, told
            continue
        made = results_below(output, sources)
        lights = [path for path in made if "_illumination" in path]
        if kept:
            done_over = Image.open(kept).width != 3
            made = {path: width for path, width in made.items() if width != 3}
            assert not done_over or "--overwrite" in arguments, told
        done = int(said.out.split(" of ")[0].rsplit("\n", 1)[-1])
        assert len(made) - len(lights) == done, told
        assert sorted(width for path, width in made.items() if path not in lights) == sorted(set(made.values())), (
            told
        )  # no two of one source
        if status == 0 and "--skip-existing" not in arguments:
            assert done == len(sources), told


@pytest.fixture
def ignoring(monkeypatch):
    """As if every folder ignored case."""
    monkeypatch.setattr(collisions, "ignores_case", lambda folder: True)
    collisions._ignores_case.cache_clear()
    yield
    collisions._ignores_case.cache_clear()


def test_names_that_differ_by_case(tmp_path, ignoring):
    pairs = [(tmp_path / "a.png", tmp_path / "out" / "a.jpg"), (tmp_path / "b.png", tmp_path / "out" / "A.JPG")]
    with pytest.raises(
        ImageError, match=r"a\.png and .*b\.png would both be written to .*a\.jpg and .*A\.JPG, one file"
    ):
        Names(pairs, "hint")
    (tmp_path / "DSC1.JPG").touch()
    with pytest.raises(ImageError, match=r"dsc1\.jpg: is one of the inputs \(.*DSC1\.JPG\) and would be replaced"):
        Names([(tmp_path / "DSC1.JPG", tmp_path / "dsc1.jpg")], "hint")
    for one, other in (("é.png", "e\u0301.png"), ("STRASSE.png", "straße.png"), ("ı.png", "I.png")):
        with pytest.raises(ImageError, match="would both be written"):
            Names([(tmp_path / "a.png", tmp_path / one), (tmp_path / "b.png", tmp_path / other)], "hint")


def test_names_that_differ_by_case_are_two_elsewhere(tmp_path):
    if ignores_case(tmp_path):
        pytest.skip("this file system ignores case")
    (tmp_path / "DSC1.JPG").touch()
    pairs = [(tmp_path / "DSC1.JPG", tmp_path / "dsc1.jpg"), (tmp_path / "b.png", tmp_path / "b.JPG")]
    assert Names([*pairs, (tmp_path / "c.png", tmp_path / "B.JPG")], "hint").count == 3


def test_another_name_of_a_source_is_not_replaced(tmp_path):
    """Hard links, and folders reached by two ways."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").touch()
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(ImageError, match=r"two/a\.png: is one of the inputs \(.*one/a\.png\)|two/a\.png: is one"):
        Names([(tmp_path / "one" / "a.png", tmp_path / "two" / "a.png")], "hint")
    os.link(tmp_path / "one" / "a.png", tmp_path / "linked.png")
    with pytest.raises(ImageError, match=r"linked\.png: is one of the inputs \(.*a\.png\) and would be replaced"):
        Names([(tmp_path / "one" / "a.png", tmp_path / "linked.png")], "hint")
