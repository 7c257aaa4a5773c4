"""Every command, snippet and link of the README and of docs/*.md is run, or at least parsed; what is unknown fails."""

import argparse
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from model import DEFAULT_WEIGHTS
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = {
    "model.enhance": "model.enhance",
    "model.export": "model.export",
    "train": "train.__main__",
    "train.evaluate": "train.evaluate.__main__",
    "bench": "bench.__main__",
}
_ENHANCE = "python -m model.enhance -i night_photos/ -o bright/"
_TRAIN = "python -m train --data night_photos/ --out runs/mine"

# Commands that are run on tiny input: what is added to them, and what has to be run before.
RUN: dict[str, tuple[str, list[str]]] = {
    _ENHANCE: ("", []),
    f"{_ENHANCE} --gallery page.html": ("", []),
    f"{_ENHANCE} --shard 1/4 --skip-existing": ("", [_ENHANCE]),
    f"{_ENHANCE} --weights SCI/weights/medium.pt --published": ("", []),
    "python -m model.enhance -i night.mp4 -o bright.mp4": ("", []),
    _TRAIN: ("--steps 2", []),
    "python -m train --out runs/mine --resume": ("", [f"{_TRAIN} --steps 2"]),
    "python -m train --data night_photos/ --out runs/tuned --finetune SCI/weights/medium.pt --epochs 10": ("", []),
    "python -m train plan --memory 24GiB": ("", []),
    "python -m train plan --memory 24GiB --amp bf16 --checkpoint block": ("", []),
    "python -m train.evaluate --input night_photos/ --csv scores.csv": ("", []),
    "python -m train.evaluate --pred bright/ --truth truth/ --input night_photos/": ("", [_ENHANCE]),
    "python -m model.export --format official -n weights.safetensors -o weights.pt": ("", []),
}
# Commands that are only parsed, by their own parser, and why.
_LONG, _EXPORT = "takes minutes; tests/bench runs it on tiny images", "takes long; tests/model/test_export.py runs it"
_SEVERAL = "several processes; tests/model/test_enhance_shared.py and tests/train/test_train_distributed.py run them"
PARSED: dict[str, str] = {
    "torchrun --nproc_per_node=4 -m model.enhance -i night_photos/ -o bright/": _SEVERAL,
    "torchrun --standalone --nproc_per_node=2 -m train --data night_photos/ --out runs/mine": _SEVERAL,
    "python -m model.export --format onnx -o sci.onnx": _EXPORT,
    "python -m model.export --format torch -o sci.pt2": _EXPORT,
    "python -m model.export --format html -o enhance.html": "tests/model/page/test_page_export.py runs it",
    "python -m model.export --format onnx -n SCI/weights/medium.pt -o medium.onnx": _EXPORT,
    "python -m bench loss --size 600x400,1080p --plot pictures/": _LONG,
    "python -m bench enhance --folder 12": _LONG,
    "python -m bench step --memory 24GiB": _LONG,
    "python -m bench loss --providers reference,written-out": _LONG,
    "python -m bench loss --providers reference,pairs,blocked,native": _LONG,
    "python -m bench gain": _LONG,
    "python -m bench profile step": _LONG,
    "python -m bench kernels --target sm_90": _LONG,
    "python -m bench all": _LONG,
    "python -m bench page": _LONG,
    "python -m bench page --pictures docs/pictures/page": "writes into the repository",
    "python -m bench quality": _LONG,
    "python -m bench gpu --rehearse": _LONG,
    "python -m bench report": "writes into the repository; tests/bench/test_report.py runs it elsewhere",
    "python -m bench report --check": "another matplotlib draws other bytes; tests/bench/test_report.py compares",
    "python -m bench figures --json bench/results/cpu/figures.json": _LONG,
    "python -m bench gain --json bench/results/cpu/gain.json": _LONG,
    "python -m bench loss --size 600x400,1080p --providers reference,pairs,compiled,blocked,native"
    " --json bench/results/cpu/loss.json": _LONG,
}
# Commands of the official repository: nothing here can check them.
ELSEWHERE = {
    "python test.py --data_path night_photos/ --save_path bright/ --model weights.pt",
    "python finetune.py --data_path night_photos/ --model weights.pt",
}
# Formulas: the blocks that begin so.
FORMULAS = ("G = (c + s) /", "w_o(p) = exp", "dL(p) += k w", "|M^T v|^2 =")

_FORK = """
import functools, sys, torch, sci_kernels, forks
torch.manual_seed(0)
torch.compile = functools.partial(torch.compile, backend="eager")  # whether it is one graph; no C++ compiler
images = torch.rand(1, 3, 12, 13) * 0.3
image, illumination = torch.rand(1, 3, 12, 13), torch.rand(1, 3, 12, 13, requires_grad=True)
class Network(torch.nn.Module):
    def __init__(self, stage):
        super().__init__()
        self._criterion = forks.LossFunction()
        self.light = torch.nn.Conv2d(3, 3, 1)
    def _loss(self, images):
        return self._criterion(images, self.light(images).sigmoid())
your_network = Network(3)
"""
# Python blocks by a line of theirs: what runs before, and what must hold after; None: run elsewhere, by the test named.
PYTHON: dict[str, tuple[str, str] | str] = {
    "print(sci_kernels.accelerate(your_network))": (
        _FORK,
        "assert isinstance(your_network._criterion, sci_kernels.LossFunction) and callable(loss)",
    ),
    "loss.backward()": ("", "assert illumination.grad.abs().sum() > 0"),
    "sci_kernels.restore(model)": (_FORK, "assert type(model._criterion) is forks.LossFunction"),
    "criterion = sci_kernels.LossFunction()": "tests/library/test_readme_recipe.py",
    "loss = step(image, illumination)": (_FORK, "loss.backward(); assert illumination.grad.abs().sum() > 0"),
    "e = Enhancer()": ("", "assert bright.size == (32, 24)"),
}


class Block(NamedTuple):
    """A block of code on a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Fenced blocks, and those indented by four spaces after an empty line."""
    found, lines = [], page.read_text("utf-8").splitlines()
    index = 0
    while index < len(lines):
        start, language, inside = index, "", []
        if lines[index].startswith("```"):
            language = lines[index][3:].strip()
            index += 1
            while not lines[index].startswith("```"):
                inside.append(lines[index])
                index += 1
        elif lines[index].startswith("    ") and not lines[index - 1].strip():
            while index < len(lines) and (lines[index].startswith("    ") or not lines[index].strip()):
                inside.append(lines[index][4:])
                index += 1
        if inside:
            found.append(Block(page, start + 1, language, "\n".join(inside).rstrip()))
        index += 1
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
SNIPPETS = [block for block in BLOCKS if block.language == "python"]


def commands(block: Block) -> list[str]:
    """A block's commands, without comments; lines that go on, indented, in one."""
    if block.language == "python" or block.text.startswith(FORMULAS):
        return []
    joined = re.sub(r"\n +", " ", block.text)
    lines = [" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in joined.splitlines()]
    return [line for line in lines if line]


COMMANDS = list(dict.fromkeys(command for block in BLOCKS for command in commands(block)))
SYNOPSES = [command for command in COMMANDS if "..." in command]


def test_nothing_on_the_pages_is_unknown():
    """A command, snippet or language that no table here has needs a line in one; a line that no page has, none."""
    assert {block.language for block in BLOCKS} <= {"python", "sh", ""}
    shell = {command for command in COMMANDS if command not in SYNOPSES and command.split()[0] not in ("make", "pip")}
    assert shell == RUN.keys() | PARSED.keys() | ELSEWHERE
    assert [str(block) for block in SNIPPETS if sum(line in block.text for line in PYTHON) != 1] == []
    assert all(any(line in block.text for block in SNIPPETS) for line in PYTHON)


class _Parsed(BaseException):
    """Raised in place of what a command would do."""


def call(command: str) -> int:
    """`python -m ...` or `torchrun ... -m ...` in this process; its exit status."""
    words = shlex.split(command)
    words = words[words.index("-m") + 1 :]
    sys.argv = words
    main = importlib.import_module(MODULES[words[0]]).main
    return main() if words[0] == "bench" else main(words[1:])


@pytest.fixture
def parse_only(monkeypatch):
    """Parsers parse, and then nothing happens."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self, *arguments, **values):
        parse(self, *arguments, **values)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.mark.parametrize("command", PARSED)
def test_a_command_is_understood(command, parse_only, capsys):
    with pytest.raises(_Parsed):
        call(command)


@pytest.mark.parametrize("synopsis", SYNOPSES)
def test_the_options_of_a_synopsis_exist(synopsis, capsys):
    with pytest.raises(SystemExit) as stop:
        call(f"{synopsis.split(' -', 2)[0]} -m {synopsis.split()[2]} --help")
    known = capsys.readouterr().out
    options = re.findall(r"(?<![\w-])--?[a-z][\w-]*", synopsis.split(maxsplit=3)[3])
    assert stop.value.code == 0 and options
    assert [option for option in options if not re.search(rf"(?<![\w-]){option}\b", known)] == []


def prepare(folder: Path) -> None:
    """What the pages take for granted: dark photographs, bright ones of the same names, weights."""
    random = np.random.default_rng(0)
    for name in ("night_photos", "truth", "SCI/weights"):
        (folder / name).mkdir(parents=True)
    for name in ("a.png", "b.jpg"):
        pixels = random.integers(10, 60, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "night_photos" / name)
        Image.fromarray(3 * pixels).save(folder / "truth" / name)
    Image.fromarray(pixels).save(folder / "night.jpg")
    shutil.copy(DEFAULT_WEIGHTS, folder / "weights.safetensors")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("command", RUN)
def test_a_command_runs(command, tmp_path, monkeypatch, capsys):
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    if "medium.pt" in command:  # a stand-in, in the official format
        assert call("python -m model.export --format official -n weights.safetensors -o SCI/weights/medium.pt") == 0
    if "night.mp4" in command:
        pytest.importorskip("av")
        from tests.videos import scene, write

        write("night.mp4", scene(3))
    more, before = RUN[command]
    for line in [*before, f"{command} {more}"]:
        assert call(line) == 0, capsys.readouterr()
    # What the command is told to write is there.
    for written in re.findall(r"(?:-o|--out|--csv|--gallery) (\S+)", command):
        assert Path(written).exists() and (Path(written).is_file() or any(Path(written).iterdir()))


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_a_snippet_runs(snippet, tmp_path):
    (how,) = [how for line, how in PYTHON.items() if line in snippet.text]
    if isinstance(how, str):
        assert (ROOT / how).is_file()
        return
    prepare(tmp_path)
    (tmp_path / "snippet.py").write_text("\n".join([how[0], snippet.text, how[1], "print('done')"]), "utf-8")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True,
        text=True, timeout=250,
    )  # fmt: skip
    assert done.stdout.endswith("done\n"), done.stderr[-3000:]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_a_make_target_exists(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert command.split()[1] in targets


def test_make_targets_and_commands_in_the_prose_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for page in PAGES:
        prose = page.read_text("utf-8")
        assert set(re.findall(r"`make ([a-z-]+)", prose)) <= {*targets}, page
        modules = {name for name in re.findall(r"`python -m ([a-z.]+)", prose) if name != "pytest"}
        assert modules <= MODULES.keys(), page


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("pip ")])
def test_an_extra_exists(command):
    setup = (ROOT / "setup.py").read_text("utf-8").partition("extras_require=")[2]
    *words, place = shlex.split(command)
    name, _, extras = place.rstrip("]").partition("[")
    assert words in (["pip", "install"], ["pip", "install", "-e"]) and name == "."
    assert set(filter(None, extras.split(","))) <= set(re.findall(r'"(\w+)": [A-Z]+', setup))


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```|^    .*?$|`[^`]*`", "", page.read_text("utf-8"), flags=re.S | re.M)
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_reached_from_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []
    assert len(readme.splitlines()) <= 150
