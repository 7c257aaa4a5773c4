"""Golden vectors, implementations under test, and the optional folder of official photographs and weights."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

# Before OpenMP is loaded: on processors shared with other tests, threads that spin while they wait cost seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import torch  # noqa: E402

# Before anything imports Triton: without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import sci_kernels  # noqa: E402
from sci_kernels import native, versions  # noqa: E402
from tests import interpreted  # noqa: E402
from tests.ptx.process import Executor  # noqa: E402

if os.environ.get("TRITON_INTERPRET") == "1":
    interpreted.patch_once()

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"
OFFICIAL = Path(os.environ.get("SCI_OFFICIAL", ROOT.parent / "shared" / "sci-official"))


# Architectures whose compiled code is executed on the CPU (tests/ptx), for tests marked `ptx`.
TARGETS = ("sm_90", "sm_80")


def pytest_addoption(parser):
    parser.addoption(
        "--ptx", action="store_true", help="tests marked ptx or interpreted: all their cases and targets (takes long)"
    )


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config, items):
    """Leaves out what the marks `ptx` and `interpreted` do; marks as slow what the marks `quick` leave out."""
    chosen = [item for item in items if is_chosen(item, way_of(item), config.getoption("--ptx"))]
    config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
    items[:] = chosen
    for item in items:
        if not is_quick(item):
            item.add_marker(pytest.mark.slow)


def way_of(item) -> str | None:
    """What computes in a test of each implementation: "native-cpu", "triton-cpu", a target whose code is executed..."""
    if "fused" not in getattr(item, "fixturenames", ()):
        return None
    impl, device = item.callspec.params["fused"]
    return device if device in TARGETS else f"{impl}-{device}"


def is_chosen(item, way: str | None, all_cases: bool) -> bool:
    """What takes seconds a case is done in the cases that a mark names, unless all are asked for.

    @pytest.mark.ptx(*targets, **values): compiled code is executed; for sm_90, unless other targets are named.
    @pytest.mark.interpreted(**values): kernels are interpreted; without the mark, in all cases.
    """
    compiled = way in TARGETS
    if not compiled and way != "triton-cpu":
        return True
    mark = item.get_closest_marker("ptx" if compiled else "interpreted")
    if mark is None or all_cases:
        return mark is not None or not compiled
    return (not compiled or way in (mark.args or TARGETS[:1])) and holds(item, **mark.kwargs)


def is_quick(item) -> bool:
    """@pytest.mark.quick(*ways, **values): by these ways (all that are not on a GPU), the other cases are slow."""
    way = way_of(item)
    marks = [mark for mark in item.iter_markers("quick") if way in mark.args or not mark.args]
    return way in ("blocked-cuda", "triton-cuda") or all(holds(item, **mark.kwargs) for mark in marks)


def holds(item, every: int = 1, **values) -> bool:
    """Of each parameter, the values named; and one case in `every`, so that any two values of two parameters meet.

    With every=0 none holds.
    """
    if every == 0:
        return False
    if any(item.callspec.params[name] not in allowed for name, allowed in values.items()):
        return False
    return every == 1 or sum(map(functools.partial(place_in, item), item.iter_markers("parametrize"))) % every == 0


def place_in(item, mark) -> int:
    """Which of the values of a @pytest.mark.parametrize a test has."""
    names, cases = mark.args
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    own = tuple(item.callspec.params[name] for name in names)
    for place, case in enumerate(cases):
        if isinstance(case, type(pytest.param())):
            case = case.values
        elif len(names) == 1:
            case = (case,)
        if own == tuple(case):
            return place
    raise ValueError(f"{item.nodeid}: {own} is none of its parameters")


def load_golden(name: str, folder: Path = GOLDEN) -> dict[str, torch.Tensor]:
    """The arrays of one golden file as tensors."""
    with np.load(folder / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key].copy()) for key in arrays.files}


def interpreter_fault() -> str | None:
    """Why Triton's interpreter cannot run the kernels in this process, or None."""
    if torch.cuda.is_available():
        return "with a GPU present, Triton compiles its kernels instead of interpreting them"
    try:
        import triton
    except ImportError:
        return "needs Triton"
    if versions.release(triton.__version__) < (3, 7) and versions.release(np.__version__) >= (2, 4):
        return f"the interpreter of Triton {triton.__version__} takes int() of arrays, which NumPy refuses from 2.4 on"
    return None


@pytest.fixture
def golden():
    return load_golden


@pytest.fixture(
    params=[
        ("native", "cpu"),
        ("blocked", "cpu"),
        ("triton", "cpu"),
        ("triton", "sm_90"),
        ("triton", "sm_80"),
        pytest.param(("blocked", "cuda"), marks=pytest.mark.gpu),
        pytest.param(("triton", "cuda"), marks=pytest.mark.gpu),
    ],
    ids="-".join,
)
def fused(request, monkeypatch) -> tuple[str, str]:
    """(implementation, device) of everything that has to agree with the reference."""
    impl, device = request.param
    if device in TARGETS:
        executor = request.getfixturevalue("executor")
        monkeypatch.setattr(sci_kernels, "triton", executor.launchers(device), raising=False)
        return impl, "cpu"
    if impl == "native" and (reason := native.compiler_error()):
        pytest.skip(reason)
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use")
    if (impl, device) == ("triton", "cpu") and (reason := interpreter_fault()):
        pytest.skip(reason)
    return impl, device


@pytest.fixture(scope="session")
def executor(request):
    """The process that compiles kernels and executes their PTX."""
    triton = pytest.importorskip("triton")
    if versions.release(triton.__version__) < (3, 6):
        pytest.skip(f"compiled code is executed from Triton 3.6 on; this is {triton.__version__}")
    executor = Executor(request.config.cache.mkdir("ptx"))
    yield executor
    executor.close()


@pytest.fixture(params=["native", "blocked"])
def host(request) -> str:
    """Every implementation for the CPU but the reference."""
    if request.param == "native" and (reason := native.compiler_error()):
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="session")
def libraries(tmp_path_factory) -> Path:
    """A cache for processes that need the compiled C kernels, whoever made them."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture
def poisoned():
    """Memory from torch.empty is filled with NaN, so that an element nobody writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def one_thread():
    """Pictures as small as most tests' are slower on several threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def official() -> Path:
    """The folder of official weights, photographs and published outputs, or a skip that says so."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"official photographs and weights not found at {OFFICIAL}; set SCI_OFFICIAL to their folder")
    return OFFICIAL


@pytest.fixture
def folder(tmp_path):
    """Three small dark photographs."""
    from tests.training_runs import photographs

    return photographs(tmp_path / "photos", {"a.png": (16, 14), "b.png": (15, 17), "c.jpg": (18, 13)})


@pytest.fixture
def command(folder, tmp_path, capsys):
    """Runs the trainer; returns its exit status, the lines of stdout and those of stderr."""
    from train.__main__ import main

    def run(*arguments, out=tmp_path / "out"):
        capsys.readouterr()
        try:
            status = main(["--data", str(folder), "--out", str(out), *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run
