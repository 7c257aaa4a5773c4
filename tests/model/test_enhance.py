"""`python -m model.enhance` as a user runs it: names, formats, failures in one line, nothing lost."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from model import FinetuneNetwork, enhance_checks, enhance_image, quantize, read_image, save_weights
from model.enhance import main
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Every test works in its own folder, with weights in w.pt: relative paths, as typed."""
    torch.manual_seed(3)
    monkeypatch.chdir(tmp_path)
    save_weights(FinetuneNetwork(), tmp_path / "w.pt")


def make_picture(name: str, size=(8, 6), mode="RGB", **options) -> str:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 100, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(name, **options)
    return name


def files_below(folder: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(top, name), folder) for top, _, names in os.walk(folder) for name in names
    )


def run(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit status, standard output, lines of standard error."""
    try:
        status = main([*arguments, "-n", "w.pt", "--device", "cpu"])
    except SystemExit as stop:  # argparse
        status = stop.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, summary_of(captured.out), captured.err.splitlines()


def summary_of(out: str) -> str:
    """Standard output without the line for each picture."""
    return "".join(line for line in out.splitlines(keepends=True) if ": brightness " not in line)


def test_folder_and_file_with_relative_names(capsys):
    for name in ("in/a.png", "in/b.v2.jpg", "in/deep/a.png", "single.bmp"):
        make_picture(name)
    assert run(capsys, "-i", "in", "single.bmp", "-o", "out/new") == (0, "4 of 4 pictures enhanced, in out/new\n", [])
    assert files_below("out/new") == ["a.png", "b.v2.png", "deep/a.png", "single.png"]


def test_the_published_result_is_the_truncated_reflectance(capsys):
    make_picture("a.png", (40, 30))
    network = FinetuneNetwork()
    network.load_state_dict(torch.load("w.pt", weights_only=True))
    illumination, reflectance = enhance_image(network, read_image("a.png").tensor()[None])
    assert run(capsys, "-i", "a.png", "-o", "out", "--illumination", "--published")[0] == 0
    assert np.array_equal(read_image("out/a.png").pixels, quantize(reflectance[0]))
    assert np.array_equal(read_image("out/a_illumination.png").pixels, quantize(illumination[0]))
    assert files_below("out") == ["a.png", "a_illumination.png"]


def test_modes_are_kept(capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    make_picture("gray.png", mode="L")
    make_picture("alpha.png", mode="RGBA")
    make_picture("cmyk.jpg", mode="CMYK")
    make_picture("palette.png", mode="P", transparency=3)
    make_picture("turned.jpg", exif=exif)
    make_picture("profile.png", icc_profile=b"profile")
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 99).save("deep.png")
    assert run(capsys, "-i", ".", "-o", "out")[0] == 0
    assert read_image("out/gray.png").gray and read_image("out/deep.png").gray
    for name in ("alpha.png", "palette.png"):
        assert np.array_equal(read_image(f"out/{name}").alpha, read_image(name).alpha)
    assert read_image("out/turned.png").pixels.shape == (8, 6, 3)
    assert read_image("out/profile.png").metadata.icc_profile == b"profile"
    assert read_image("out/cmyk.png").pixels.shape == (6, 8, 3)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7)])
def test_tiny_pictures(capsys, size):
    make_picture("a.png", size)
    assert run(capsys, "-i", "a.png", "-o", "out")[0] == 0
    assert read_image("out/a.png").pixels.shape == (size[1], size[0], 3)


def test_suffix_and_extensions(capsys):
    for name in ("in/a.png", "in/b.jpg", "in/c.gif"):
        make_picture(name)
    assert run(capsys, "-i", "in", "-o", "one", "--suffix", "_sci", "--ext", ".JPG")[0] == 0
    assert files_below("one") == ["a_sci.jpg", "b_sci.jpg", "c_sci.jpg"]
    assert run(capsys, "-i", "in", "-o", "two", "--ext", "auto")[0] == 0
    assert files_below("two") == ["a.png", "b.jpg", "c.png"]


def test_brightness_is_said_and_bright_pictures_are_left_alone(capsys):
    make_picture("dark.png", (9, 70))
    Image.new("RGB", (9, 9), (110, 105, 112)).save("bright.png")
    assert main(["-i", "dark.png", "bright.png", "-o", "out", "-n", "w.pt", "--device", "cpu"]) == 0
    dark, bright, summary = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"dark.png: brightness 0.\d\d to 0.[34]\d, exposure \d+.\d\d", dark)
    assert bright == "bright.png: brightness 0.42, left as it was"
    assert summary == "2 of 2 pictures enhanced, 1 of them left as it was, in out"
    assert np.array_equal(read_image("out/bright.png").pixels, read_image("bright.png").pixels)
    more = ("-i", "bright.png", "-o", "more", "--exposure", "2.5")
    assert run(capsys, *more) == (0, "1 of 1 pictures enhanced, in more\n", [])
    assert (read_image("more/bright.png").pixels > 112).all()


def test_strength_and_tiles(capsys):
    make_picture("dark.png", (9, 70))
    assert run(capsys, "-i", "dark.png", "-o", "out")[0] == 0
    assert run(capsys, "-i", "dark.png", "-o", "tiled", "--tile", "5")[0] == 0
    assert np.array_equal(read_image("tiled/dark.png").pixels, read_image("out/dark.png").pixels)
    for option in ("--strength", "--exposure"):
        assert run(capsys, "-i", "dark.png", "-o", "none", option, "0", "--overwrite")[0] == 0
        assert np.array_equal(read_image("none/dark.png").pixels, read_image("dark.png").pixels)
    assert run(capsys, "-i", "dark.png", "-o", "half", "--strength", "0.5", "--denoise", "0")[0] == 0
    less, whole = (read_image(f"{name}/dark.png").pixels.mean() for name in ("half", "out"))
    assert read_image("dark.png").pixels.mean() + 5 < less < whole - 5


def test_the_guard_says_what_took_its_place(capsys):
    make_picture("a.png")
    for flag, word in (("--guard", "--exposure auto"), ("--no-guard", "treated as --published")):
        status, _, lines = run(capsys, "-i", "a.png", "-o", "out", flag, "--overwrite")
        assert status == 0 and len(lines) == 1 and lines[0].startswith(f"note: {flag}: this rule was removed; {word}")
    assert run(capsys, "-i", "a.png", "-o", "published", "--published")[0] == 0
    assert np.array_equal(read_image("out/a.png").pixels, read_image("published/a.png").pixels)


def test_more_pixels_than_pillow_allows(capsys, monkeypatch):
    make_picture("a.png", (10, 9))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 44)
    status, _, lines = run(capsys, "-i", "a.png", "-o", "out")
    assert status == 1 and lines[1].startswith("  a.png: more than 88 pixels; allow them with --max-pixels, scale")
    assert run(capsys, "-i", "a.png", "-o", "out", "--max-pixels", "89")[0] == 1
    assert run(capsys, "-i", "a.png", "-o", "out", "--max-pixels", "90")[0] == 0


def test_the_official_flags(capsys):
    make_picture("in/a.png")
    assert run(capsys, "--data_path", "in", "--save_path", "out", "--model", "w.pt")[0] == 0
    assert run(capsys, "--input", "in", "--output", "out", "--model_path", "w.pt", "--overwrite")[0] == 0
    assert main(["--data_path", "in", "--save_path", "theirs", "--model", "w.pt", "--gpu", "0", "--seed", "2"]) == 0
    note = "note: --gpu: there is no GPU that PyTorch can use; enhancing on the CPU\n"
    assert capsys.readouterr().err == ("" if torch.cuda.is_available() else note)
    assert files_below("theirs") == ["a.png"]


def test_a_gpu_by_its_number(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert enhance_checks.device_of("auto", 1) == torch.device("cuda:1")
    make_picture("a.png")
    assert main(["-i", "a.png", "-o", "out", "--gpu", "2"]) == 2
    assert capsys.readouterr().err == "error: --gpu 2: this PyTorch finds 2 GPUs; use --device cpu, or auto\n"


def test_existing_results_are_left_alone(capsys):
    make_picture("in/a.png")
    make_picture("in/b.png")
    os.makedirs("out")
    with open("out/a.png", "w") as file:
        file.write("precious")
    status, out, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 1 and out == "1 of 2 pictures enhanced, in out\n"
    assert lines == [
        "1 failed:",
        "  out/a.png: exists and was left alone; use --overwrite, --skip-existing, or --suffix for another name",
    ]
    with open("out/a.png") as file:
        assert file.read() == "precious"
    assert run(capsys, "-i", "in", "-o", "out", "--overwrite")[0] == 0
    assert read_image("out/a.png").pixels.shape == (6, 8, 3)


def test_transparency_in_a_format_without_it(capsys):
    make_picture("a.png", mode="RGBA")
    status, _, lines = run(capsys, "-i", "a.png", "-o", "out", "--ext", "jpg")
    assert status == 1 and lines[1] == "  out/a.jpg: the picture has transparency, which JPEG cannot hold; use .png"


def test_notes_name_the_file(capsys):
    Image.new("RGB", (4, 4)).save("a.tif", save_all=True, append_images=[Image.new("RGB", (4, 4), "red")])
    status, _, lines = run(capsys, "-i", "a.tif", "-o", "out")
    assert status == 0 and lines == ["note: a.tif: 2 frames, of which the first is read"]


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["-i", "missing", "-o", "out"], "error: missing: no such file or folder, or not readable; check the path"),
        (
            ["-i", "empty", "-o", "out"],
            "error: empty: no pictures or videos in this folder or below it; looked for .png",
        ),
        (["-i", "a.png", "-o", "w.pt"], "error: w.pt: cannot write there (it is a file); choose another folder"),
        (["-i", "a.png", "-o", "w.pt/sub"], "error: w.pt/sub: cannot write there (Not a directory)"),
        (["-i", "a.png", "-o", "out", "--weights", "none.pt"], "error: none.pt: no such file; name a weight file"),
        (["-i", "a.png", "-o", "out", "--weights", "a.png"], "error: a.png: truncated, or no weight file at all"),
        (["-i", "a.png", "-o", "out", "--ext", "gif"], "error: argument --ext: expected auto or one of png jpg"),
        (["-i", "a.png", "-o", "out", "--suffix", "a/b"], "error: argument --suffix: expected part of a file name"),
        (
            ["-i", "a.png", "-o", "out", "--device", "tpu"],
            "error: argument --device: expected auto, cpu, cuda or cuda:N",
        ),
        (["-i", "a.png", "-o", "out", "--gpu", "-1"], "error: argument --gpu: expected the number of a GPU, from 0"),
        (["-i", "a.png", "-o", "out", "--gpu", "0"], "error: argument --device: not allowed with argument --gpu"),
        (["-i", "a.png", "-o", "out", "--device", "cuda:99"], "error: --device cuda:99: this PyTorch finds"),
        (
            ["-i", "a.png", "-o", "out", "--strength", "1.5"],
            "error: argument --strength: expected a number from 0 to 1",
        ),
        (
            ["-i", "a.png", "-o", "out", "--exposure", "bright"],
            "error: argument --exposure: expected auto, published or a number from 0 to 20; got 'bright'",
        ),
        (["-i", "a.png", "-o", "out", "--exposure", "-1"], "error: argument --exposure: expected"),
        (["-i", "a.png", "-o", "out", "--exposure", "20.5"], "error: argument --exposure: expected auto, published or"),
        (["-i", "a.png", "-o", "out", "--exposure", "nan"], "error: argument --exposure: expected auto, published or"),
        (
            ["-i", "a.png", "-o", "out", "--exposure", "3", "--published"],
            "error: argument --published: not allowed with argument --exposure",
        ),
        (
            ["-i", "a.png", "-o", "out", "--denoise", "2", "--published"],
            "error: --denoise 2: the published division has no filter; leave one of them out",
        ),
        (["-i", "a.png", "-o", "out", "--denoise", "5"], "error: argument --denoise: expected a number from 0 to 4"),
        (["-i", "a.png", "-o", "out", "--tile", "0"], "error: argument -t/--tile: expected a whole number, at least 1"),
        (["-i", "", "-o", "out"], "error: argument -i/--input/--data_path: expected a path; got an empty one"),
        (["-i", "a.png", "-o", ""], "error: argument -o/--output/--save_path: expected a path; got an empty one"),
        (["-i", "a.png"], "error: the following arguments are required: -o"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_done(capsys, arguments, line):
    make_picture("a.png")
    os.makedirs("empty")
    # Ahead of those that `run` would add, which must not win over the ones under test.
    arguments = [*arguments, *([] if "--device" in arguments else ["--device", "cpu"])]
    try:
        status = main(arguments if "--weights" in arguments else [*arguments, "-n", "w.pt"])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert captured.err.startswith(line) and captured.err.count("\n") == 1
    assert not os.path.exists("out") or not os.listdir("out")


def test_two_sources_with_one_result(capsys):
    make_picture("in/a.png")
    make_picture("in/a.jpg")
    status, _, lines = run(capsys, "-i", "in", "-o", "out")
    assert status == 2 and len(lines) == 1 and not os.path.exists("out")
    assert lines[0].startswith("error: in/a.jpg and in/a.png would both be written to out/a.png; use --ext auto")
    assert run(capsys, "-i", "in", "-o", "out", "--ext", "auto")[0] == 0
    assert files_below("out") == ["a.jpg", "a.png"]
    make_picture("other/a.png")
    assert run(capsys, "-i", "in/a.png", "other/a.png", "-o", "new")[0] == 2
    assert run(capsys, "-i", "in/a.png", "in/a.png", "in/../in/a.png", "-o", "new")[0] == 0


def test_an_illumination_map_counts_as_a_result(capsys):
    make_picture("in/a.png")
    make_picture("in/a_illumination.png")
    status, _, lines = run(capsys, "-i", "in", "-o", "out", "--illumination")
    assert status == 2 and "would both be written to out/a_illumination.png" in lines[0]


@pytest.mark.parametrize("folder", ["in", "in/../in", "link"])
def test_inputs_are_never_replaced(capsys, folder):
    make_picture("in/a.png")
    os.symlink("in", "link")
    with open("in/a.png", "rb") as file:
        before = file.read()
    status, _, lines = run(capsys, "-i", "in", "-o", folder, "--overwrite")
    assert status == 2 and "is one of the inputs and would be replaced" in lines[0]
    with open("in/a.png", "rb") as file:
        assert file.read() == before
    assert run(capsys, "-i", "in", "-o", folder, "--suffix", "_sci")[0] == 0
    assert files_below("in") == ["a.png", "a_sci.png"]


def test_results_inside_the_input_are_not_enhanced_again(capsys):
    make_picture("in/a.png")
    for _ in range(2):
        assert run(capsys, "-i", "in", "-o", "in/out", "--overwrite")[0] == 0
    assert files_below("in") == ["a.png", "out/a.png"]
    os.remove("in/a.png")
    status, _, lines = run(capsys, "-i", "in", "-o", "in/out", "--overwrite")
    assert status == 2 and "nothing to enhance here except in the output folder" in lines[0]


def test_as_a_user_runs_it():
    make_picture("in/deep/a.png")
    open("in/broken.png", "w").close()
    command = [sys.executable, "-m", "model.enhance", "-i", "in", "-o", "out", "--weights", "w.pt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 1
    assert summary_of(result.stdout) == "1 of 2 pictures enhanced, in out\n"
    assert result.stderr == "1 failed:\n  in/broken.png: the file is empty (0 bytes); replace it with a whole copy\n"
    assert files_below("out") == ["deep/a.png"]


def test_pixels_that_cannot_be_written_to_cause_no_warning():
    """Those of JPEG XL are the decoder's own bytes. In a process of its own: PyTorch warns once."""
    code = (
        "import numpy as np; from model import Enhancer; from model.images.picture import Picture\n"
        "pixels = np.full((6, 8, 3), 40, np.uint8); pixels.flags.writeable = False\n"
        "print(Enhancer(device='cpu', strength=0.0).picture(Picture(pixels)).pixels.sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{40 * 6 * 8 * 3}\n" and done.stderr == ""
