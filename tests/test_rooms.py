"""The house: small folders with doors, no circles, files and functions that can be read in one sitting."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_imports import imported_by, modules

PACKAGES = ("sci_kernels", "model", "train", "bench")
FILES, LINES, FUNCTION, KERNEL = 12, 300, 60, 90
# Modules that are public by themselves: of the library, and the commands of a package.
PUBLIC = {f"sci_kernels.{name}" for name in ("batch_norm", "constants", "convolution", "reference")}
PUBLIC |= {"model.enhance", "model.export"}


def files() -> list[Path]:
    return [path for package in PACKAGES for path in modules(package)]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in files()}


def imported(path: Path) -> Iterator[str]:
    """The modules of this project that a module imports, also in functions."""
    for name in imported_by(path):
        while name and name not in NAMES:
            name = name.rpartition(".")[0]
        if name:
            yield name


def room_of(name: str) -> str:
    """The folder of a module; of a door the folder itself."""
    return name if NAMES[name].name == "__init__.py" else name.rpartition(".")[0]


def past_the_door(importer: str, name: str) -> bool:
    """Whether a module is reached inside a room that the importer is not in."""
    inside, target = room_of(importer), room_of(name)
    if target == name:  # a door
        target = name.rpartition(".")[0]
        # The rooms of a package are open to the other packages: `model` itself is a list of public names.
        return bool(target) and target not in PACKAGES and not (inside + ".").startswith(target + ".")
    return name not in PUBLIC and not (inside + ".").startswith(target + ".")


def test_no_folder_is_crowded():
    counts = {}
    for path in files():
        counts[path.parent] = counts.get(path.parent, 0) + 1
    assert not {str(folder): count for folder, count in counts.items() if count > FILES}


def test_files_and_functions_are_short():
    long = []
    for path in files():
        text, name = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
        if len(text.splitlines()) > LINES:
            long.append(f"{name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = node.end_lineno - node.lineno + 1
                is_kernel = any("jit" in ast.unparse(decorator) for decorator in node.decorator_list)
                if count > (KERNEL if is_kernel else FUNCTION):
                    long.append(f"{name}: {node.name} has {count} lines")
    assert not long


def test_a_room_is_entered_by_its_door():
    wrong = [
        f"{importer} imports {name}"
        for importer, path in NAMES.items()
        for name in imported(path)
        if past_the_door(importer, name)
    ]
    assert not sorted(set(wrong))


@pytest.mark.parametrize(
    ("importer", "name", "past"),
    [
        ("bench.demo", "bench.measure", False),
        ("bench.demo", "bench.measure.clock", True),
        ("bench.measure.memory", "bench.measure.clock", False),
        ("bench.measure.memory", "bench.low_light_photos", False),
        ("train.loop", "model.files", False),
        ("train.loop", "model.files.atomic_files", True),
        ("train.loop", "model.images.readers", True),
        ("model.images.readers.png", "model.images.picture", False),
        ("model.images.readers.png", "model.images.writers.png", True),
        ("bench.demo", "train.loop", True),
        ("bench.demo", "sci_kernels.constants", False),
        ("bench.demo", "sci_kernels.functional", True),
    ],
)
def test_the_rule_of_doors(importer, name, past):
    assert past_the_door(importer, name) is past


@pytest.mark.parametrize("folder", sorted({room_of(name) for name in NAMES}))
def test_rooms_do_not_import_each_other_in_a_circle(folder):
    """Among what lies in a folder, files and rooms: imports in functions count, too, those of a door itself do not."""
    graph: dict[str, set[str]] = {}
    prefix = folder + "."
    for importer, path in NAMES.items():
        if importer.startswith(prefix):
            one = importer.removeprefix(prefix).split(".")[0]
            others = {name.removeprefix(prefix).split(".")[0] for name in imported(path) if name.startswith(prefix)}
            graph.setdefault(one, set()).update(others - {one})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{folder}: {' -> '.join(error.args[1])}")


# What would be slow to load or may not be installed, and what a door therefore does not need.
LIGHT = {
    "model": "torch PIL av tqdm safetensors",
    "train": "torch PIL tensorboard",
    "model.streams": "torch PIL",
    "sci_kernels": "triton PIL matplotlib",
    "model.files": "PIL av safetensors torchvision",
    "model.machine": "PIL av safetensors",
    "model.network": "PIL av",
    "model.images": "av imagecodecs pillow_heif rawpy onnx",
    "model.video": "av",
    "model.gallery": "av",
    "model.page": "av playwright minify",
    "model.web": "torch PIL",
    "model.command_line": "PIL av",
    "model.enhance": "av matplotlib onnx skimage tensorboard",
    "model.export": "av matplotlib onnx onnxruntime tensorboard",
    "train.step": "PIL tensorboard",
    "train.loop": "av tensorboard matplotlib skimage",
    "train.evaluate": "skimage pyiqa",
    "bench.measure": "PIL safetensors matplotlib triton",
    "bench.compare": "PIL safetensors matplotlib",
    "bench.report": "matplotlib PIL triton",
    "bench.networks": "matplotlib skimage av triton",
    "bench.kernels": "triton",
    "bench.suite": "triton PIL",
}
# Each module is imported by a process of its own, forked from one that has loaded PyTorch where that may be loaded.
LOADING = """
import json, os, sys
for module, heavy in json.loads(sys.argv[1]).items():
    if "torch" not in heavy.split():
        import torch  # it loads some of them itself
    before = set(sys.modules)
    if os.fork() == 0:
        __import__(module)
        print(module, *{name.split(".")[0] for name in set(sys.modules) - before}, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What each module of LIGHT brings with it."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    command = [sys.executable, "-c", LOADING, json.dumps(LIGHT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: set(line.split()[1:]) for line in done.stdout.splitlines()}


@pytest.mark.parametrize("module", LIGHT)
def test_a_door_is_light(loaded, module):
    assert not loaded[module] & set(LIGHT[module].split())
