"""The wheel, and what a project that installs it gets."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sci_kernels import versions

pytestmark = pytest.mark.xdist_group("packaging")  # the wheel and its environment are made once
ROOT = Path(__file__).resolve().parent.parent

USE = """
import torch, sci_kernels
x = torch.rand(1, 3, 9, 10, dtype=torch.float64, requires_grad=True)
light = torch.rand(1, 3, 9, 10, dtype=torch.float64, requires_grad=True)
loss = sci_kernels.LossFunction()(x, light)
loss.backward()
reference = sci_kernels.illumination_loss(x, light, impl="reference")
assert torch.allclose(loss, reference, rtol=1e-12), (loss, reference)
assert x.grad.abs().sum() > 0 and light.grad.abs().sum() > 0
print(sci_kernels.__file__)
"""

ABSENT = """
import importlib.util
print([name for name in ("model", "train", "bench", "tests") if importlib.util.find_spec(name)])
"""


def run(command: list, cwd: Path) -> str:
    # Neither the clone nor pip's own settings may help: no module from outside, nothing from an index.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    command = [str(part) for part in command]
    environment = clean | {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the working tree, built from a copy so that no older build folder can add to it."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "build", "dist", "demo", "runs")
    shutil.copytree(ROOT, source, ignore=ignore, dirs_exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "out"]
    run(command, source)
    (path,) = (source / "out").iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an empty environment with the wheel in it; torch comes by a .pth file from this one."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", folder], ROOT)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder))
    run([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel], folder)
    # Entries of a .pth file come after site-packages itself. The paths are added without running the .pth files
    # found there, so that an editable installation of this project does not come along.
    (site / "torch-from-outside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_wheel_is_pure_and_holds_the_library_alone(wheel):
    assert wheel.name.startswith("sci_kernels-") and wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sci_kernels"}
    code = {name for name in names if name.startswith("sci_kernels/")}
    there = [path for suffix in ("py", "c", "h", "typed") for path in (ROOT / "sci_kernels").rglob(f"*.{suffix}")]
    assert code == {path.relative_to(ROOT).as_posix() for path in there}
    assert {"sci_kernels/py.typed", "sci_kernels/native/csrc/smooth_loss.c"} <= code


def test_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    lines = archive.read(name).decode().split("\n\n")[0].splitlines()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "sci_kernels" / "__init__.py").read_text()).group(1)
    assert "Name: sci-kernels" in lines and f"Version: {version}" in lines
    assert "Requires-Python: >=3.10" in lines and "License-Expression: MIT" in lines
    needs = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    always = [need for need in needs if "extra ==" not in need]
    assert [re.match(r"[\w-]+", need).group() for need in always] == ["torch", "numpy", "triton"]
    assert 'platform_system == "Linux"' in always[2]
    assert f"torch>={versions.TORCH.oldest}" in always and always[2].startswith(f"triton>={versions.TRITON.oldest};")
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if line.startswith("Provides-Extra: ")}
    assert extras == {"model", "train", "evaluate", "niqe", "bench", "video", "formats", "onnx", "page", "dev"}
    # No release that is new enough supports Python 3.10, on which the tests run without them.
    dev = [need for need in needs if re.match("(av|onnxruntime)>", need) and need.endswith('extra == "dev"')]
    assert len(dev) == 2 and all('python_version >= "3.11"' in need for need in dev)


def test_installed_library_works_from_another_folder(python, tmp_path):
    place = Path(run([python, "-c", USE], tmp_path))
    assert python.parent.parent in place.parents and ROOT not in place.parents


def test_nothing_but_the_library_is_installed(python, tmp_path):
    assert run([python, "-c", ABSENT], tmp_path) == "[]"


@pytest.mark.slow
def test_installed_library_is_typed(python, tmp_path):
    init = run([python, "-c", "import importlib.util; print(importlib.util.find_spec('sci_kernels').origin)"], tmp_path)
    assert Path(init).with_name("py.typed").is_file()


def test_every_requirement_is_pinned_exactly():
    """So that nothing looser is ever asked for, however deep it is needed."""
    from packaging.requirements import Requirement

    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), line
            pins[requirement.name.lower().replace("_", "-")] = requirement
    assert str(pins["torch"]) == "torch==2.13.0"
    text = (ROOT / "constraints.txt").read_text() + (ROOT / "setup.py").read_text() + (ROOT / "Makefile").read_text()
    assert "index-url" not in text and "find-links" not in text
    missing = {name for name in needed("torch", "triton", *dev_requirements()) if name not in pins}
    assert not missing


def dev_requirements() -> list[str]:
    """Names of what `pip install .[dev]` asks for itself, but for PyTorch and Triton."""
    quoted = re.findall(r'"([a-z][\w-]*)>=[\d.]+', (ROOT / "setup.py").read_text())
    assert {"numpy", "pytest", "pillow"} <= set(quoted)
    return quoted


def needed(*names: str) -> set[str]:
    """The given distributions and, through what is installed here, all they need."""
    from importlib import metadata

    from packaging.requirements import Requirement

    found, todo = set(), list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        todo += [need.name for need in requirements if not need.marker or need.marker.evaluate({"extra": ""})]
    return found
