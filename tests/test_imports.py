"""The direction of imports, and what importing the library needs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What each package never imports: everything that is built on it.
ABOVE = {
    "sci_kernels": {"model", "train", "bench", "tests"},
    "model": {"train", "bench", "tests"},
    "train": {"bench", "tests"},
    "bench": {"tests"},
}


def imports(source: str, package: str) -> set[str]:
    """Absolute dotted names of everything a module of `package` imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def imported_by(path: Path) -> set[str]:
    return imports(path.read_text("utf-8"), ".".join(path.relative_to(ROOT).parent.parts))


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean | environment, capture_output=True, text=True, timeout=200
    )


@pytest.mark.parametrize("package", ABOVE)
def test_imports_point_in_one_direction(package):
    files = modules(package)
    assert files
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported_by(path)
        if name.split(".")[0] in ABOVE[package]
    }
    assert not wrong


def test_reference_stands_on_constants_alone():
    """The oracle shares no code with what it judges."""
    names = imported_by(ROOT / "sci_kernels" / "reference.py")
    ours = {name for name in names if name.startswith("sci_kernels")}
    assert all(name.startswith("sci_kernels.constants") for name in ours)
    assert not any(name.split(".")[0] == "triton" for name in names)


def test_only_the_triton_folder_imports_triton():
    for path in modules("sci_kernels"):
        if (ROOT / "sci_kernels" / "triton") not in path.parents:
            assert not any(name.split(".")[0] == "triton" for name in imported_by(path)), path


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import train.step", "train.step"),
        ("def f():\n    from train import step", "train.step"),
        ("from .. import reference", "sci_kernels.reference"),
        ("from ..ops import x", "sci_kernels.ops.x"),
        ("from . import config", "sci_kernels.triton.config"),
    ],
)
def test_the_walk_sees_every_form(source, found):
    assert found in imports(source, "sci_kernels.triton")


def test_importing_the_library_imports_no_triton_and_asks_no_gpu():
    """Also not by way of torch: the check is for what our import adds."""
    done = run(
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import sci_kernels\n"
        "new = set(sys.modules) - before\n"
        "print([name for name in new if name.split('.')[0] == 'triton' or name.startswith('sci_kernels.triton')])\n"
        "print(torch.cuda.is_initialized())"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]", "False"]


BLOCKED = "import sys\nsys.modules['triton'] = None\nimport torch, sci_kernels\nx = torch.rand(1, 3, 6, 6)\n"


def test_without_triton_the_library_imports_and_runs():
    done = run(
        BLOCKED + "x.requires_grad_()\n"
        "for impl in ('auto', 'native', 'blocked', 'reference'):\n"
        "    sci_kernels.smooth_loss(x, 1 - x, impl=impl).backward()\n"
        "print(bool(x.grad.abs().sum() > 0))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"]


@pytest.mark.parametrize("interpret", [{}, {"TRITON_INTERPRET": "1"}])
def test_without_triton_asking_for_it_says_so_in_one_line(interpret):
    done = run(
        BLOCKED
        + "try:\n    sci_kernels.smooth_loss(x, x, impl='triton')\nexcept RuntimeError as error:\n    print(error)",
        **interpret,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    assert "impl='triton'" in line and "blocked" in line and "triton" in line.split(";")[0]


def test_public_names_exist():
    import sci_kernels

    assert all(hasattr(sci_kernels, name) for name in sci_kernels.__all__)
