"""The C kernels: threads, narrower vectors, extreme numbers, and what happens where C cannot be compiled."""

import hashlib
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import sci_kernels
from sci_kernels import blocked, native

ROOT = Path(__file__).resolve().parent.parent
COMPARE = """
import torch
from sci_kernels import blocked, native
torch.manual_seed(0)
pictures = [torch.rand(2, 3, 7, 41, dtype=torch.float64) for _ in range(5)]
for dtype, bound in ((torch.float32, 5e-6), (torch.float64, 1e-13)):
    tensors = [picture.to(dtype) for picture in pictures]
    calls = [("loss", (*tensors[:2], 0.2, color, 1.5, 1.0, True, True)) for color in ("reference", "ycbcr", "rgb")]
    calls += [("retinex", tensors[:3]), ("retinex_gradient", tensors)]
    weights = torch.linspace(-0.4, 0.5, 252, dtype=torch.float64).view(3, 3, 28)
    calls += [("enhance", (tensors[0], weights, True, torch.tensor([0.0, 7.0], dtype=dtype), True))]
    calls += [("enhance", (tensors[0], weights, True))]
    for name, arguments in calls:
        for a, b in zip(getattr(native, name)(*arguments), getattr(blocked, name)(*arguments), strict=True):
            assert (a is None and b is None) or (a - b).abs().max() <= bound * b.abs().max(), (name, dtype)
"""
WHAT_RUNS = """
import sys, torch, sci_kernels
x = torch.rand(1, 3, 6, 6)
print(sci_kernels.default_impl("cpu"), float(sci_kernels.smooth_loss(x, 1 - x)) > 0)
try:
    sci_kernels.smooth_loss(x, x, impl="native")
except RuntimeError as error:
    print(error)
"""
THE_LOSS = """
import torch
from sci_kernels import blocked, native
torch.manual_seed(0)
arguments = (*torch.rand(2, 1, 3, 9, 41), 0.2, "ycbcr", 1.5, 1.0, True, True)
assert native.compiler_error() is None
for a, b in zip(native.loss(*arguments), blocked.loss(*arguments), strict=True):
    assert (a - b).abs().max() <= 5e-6 * b.abs().max()
"""


@pytest.fixture(autouse=True)
def _compiler():
    if reason := native.compiler_error():
        pytest.skip(reason)


def run(code: str, folder: Path, **environment: str) -> list[str]:
    """Lines printed by a new process that has compiled nothing yet."""
    clean = {key: value for key, value in os.environ.items() if key not in ("CC", "SCI_KERNELS_CFLAGS")}
    clean |= {"XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    x, light, *others = (torch.rand(2, 3, 131, 140) for _ in range(5))
    weights = torch.randn(3, 3, 28, dtype=torch.float64)

    def everything() -> list[torch.Tensor]:
        return [
            *native.loss(x, light, 0.3, "reference", 1.5, 1.0, True, True),
            *native.retinex(x, light, others[0]),
            *native.retinex_gradient(x, light, *others),
            *native.enhance(x, weights, True)[:2],
            *native.enhance(x, weights, True, torch.tensor([0.0, 7.0]), True),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = everything()
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True)), threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of processors are those of x86")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])
def test_narrower_vectors(tmp_path, processor):
    if processor == "x86-64-v3" and "avx2" not in torch.backends.cpu.get_cpu_capability().lower().replace("512", "2"):
        pytest.skip("this processor has no AVX2")
    run(COMPARE, tmp_path, SCI_KERNELS_CFLAGS=f"-march={processor} -Wall -Wextra -Werror")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sigma", [1e-18, 1e-9, 1e9, 1e18, 1e25, 1e170])
def test_any_sigma(dtype, sigma):
    """Neighbours outside the image weigh nothing, even where all others weigh the same."""
    torch.manual_seed(0)
    x, light = (torch.rand(1, 3, 6, 7, dtype=dtype) for _ in range(2))
    for gradients in (True, False):
        arguments = (x, light, sigma, "ycbcr", 0.0, 1.0, gradients, gradients)
        for a, b in zip(native.loss(*arguments), blocked.loss(*arguments), strict=True):
            assert (a is None and b is None) or (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-30


def test_no_compiler_is_no_error(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    runs, refused = run(WHAT_RUNS, tmp_path, PATH=str(empty))
    assert runs == "blocked True"
    assert refused == (
        "impl='native' cannot run here: no C compiler: cc, gcc or clang cannot be found; use impl='blocked'"
    )


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"CC": "no-such-compiler"}, "no C compiler: no-such-compiler (CC) cannot be found"),
        ({"CC": 'gcc "unquoted'}, "cannot be compiled and loaded: No closing quotation"),
        ({"CC": "false"}, "the C compiler failed: false"),
        ({"SCI_KERNELS_CFLAGS": "-Dload=("}, "the C compiler failed: "),
    ],
)
def test_a_compiler_that_fails_is_named(tmp_path, environment, message):
    runs, refused = run(WHAT_RUNS, tmp_path, **environment)
    assert runs == "blocked True" and message in refused
    assert not [path for path in tmp_path.rglob("sci_kernels*/*")]


def test_what_was_compiled_is_kept_and_used_again(tmp_path):
    assert run(WHAT_RUNS, tmp_path) == ["native True"]
    (library,) = tmp_path.rglob("*.so")
    made = library.stat().st_mtime_ns
    assert run(WHAT_RUNS, tmp_path) == ["native True"]
    assert library.stat().st_mtime_ns == made
    assert list((tmp_path / "sci_kernels").iterdir()) == [library]


def cut(library: Path) -> None:
    os.truncate(library, library.stat().st_size // 2)


def zero_a_page(library: Path) -> None:
    overwrite(library, bytes(4096))


def flip_a_bit(library: Path) -> None:
    overwrite(library, bytes([library.read_bytes()[library.stat().st_size // 3] ^ 4]))


def overwrite(library: Path, data: bytes) -> None:
    """A third into the file, where its code lies."""
    with library.open("rb+") as file:
        file.seek(library.stat().st_size // 3)
        file.write(data)


def empty(library: Path) -> None:
    library.write_bytes(b"")


def take_the_hash_away(library: Path) -> None:
    library.rename(library.with_name(library.name.rpartition("-")[0] + ".so"))


def give_another_hash(library: Path) -> None:
    library.rename(library.with_name(f"{library.name.rpartition('-')[0]}-{64 * '0'}.so"))


def put_a_folder_there(library: Path) -> None:
    library.unlink()
    library.mkdir()


def put_a_pipe_there(library: Path) -> None:
    library.unlink()
    os.mkfifo(library)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The one library of a cache."""
    if reason := native.compiler_error():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("compiled")
    run(THE_LOSS, folder)
    (library,) = folder.rglob("*.so")
    return library


DAMAGES = [cut, zero_a_page, flip_a_bit, empty, give_another_hash, put_a_folder_there, put_a_pipe_there]


@pytest.mark.parametrize("damage", [*DAMAGES, take_the_hash_away], ids=lambda damage: damage.__name__)
def test_a_damaged_library_is_made_again(tmp_path, compiled, damage):
    """What is not to the bit what was compiled is never loaded: it may end the process, or compute something else."""
    folder = tmp_path / "sci_kernels"
    folder.mkdir()
    library = folder / compiled.name
    library.write_bytes(compiled.read_bytes())
    damage(library)
    run(THE_LOSS, tmp_path)
    kept = library.read_bytes()
    assert library.name.endswith(f"-{hashlib.sha256(kept).hexdigest()}.so")
    others = [path for path in folder.iterdir() if path != library]
    assert len(others) == (damage is take_the_hash_away)  # which an earlier version left; it is never loaded


def test_a_cache_that_cannot_be_mended_is_done_without(tmp_path, compiled):
    """A full folder stands in the place of the library, and stays."""
    place = tmp_path / "sci_kernels" / compiled.name
    (place / "kept").mkdir(parents=True)
    run(THE_LOSS, tmp_path)
    assert list(place.parent.rglob("*")) == [place, place / "kept"]


@pytest.mark.skipif(hasattr(os, "getuid") and os.getuid() == 0, reason="root may write everywhere")
def test_a_damaged_library_in_a_cache_that_is_read_only(tmp_path, compiled):
    folder = tmp_path / "sci_kernels"
    folder.mkdir()
    library = folder / compiled.name
    library.write_bytes(compiled.read_bytes())
    cut(library)
    damaged = library.read_bytes()
    folder.chmod(0o500)
    run(THE_LOSS, tmp_path)
    folder.chmod(0o700)
    assert list(folder.iterdir()) == [library] and library.read_bytes() == damaged


def test_many_processes_share_a_damaged_cache(tmp_path, compiled):
    library = tmp_path / "sci_kernels" / compiled.name
    library.parent.mkdir()
    library.write_bytes(b"damaged")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: run(THE_LOSS, tmp_path), range(4)))
    assert list(library.parent.iterdir()) == [library]


@pytest.mark.parametrize("pattern", [0x7FFFFFFF, 0x7FC00001, -1])
def test_nan_of_any_bits(pattern):
    x = torch.rand(1, 3, 9, 9)
    x.view(torch.int32)[0, 1, 4, 4] = pattern
    weights = torch.linspace(-0.4, 0.5, 252, dtype=torch.float64).view(3, 3, 28)
    assert native.enhance(x, weights, False)[0].isnan().sum() == 3 * 49
    assert native.loss(x, x, 0.3, "rgb", 0.0, 1.0, False, False)[0].isnan()
    assert native.loss(x, torch.ones_like(x), 0.3, "rgb", 0.0, 1.0, False, False)[0].isnan()


def test_an_interrupted_call_keeps_what_its_threads_write_to():
    """The tensors hang on the problem, and the problem on each thread."""
    from sci_kernels.native import threads

    problems = []
    real = threads.Thread

    class Thread(real):
        def __init__(self, target, args):
            problems.append(target.__closure__)
            super().__init__(target=target, args=args)

    before = torch.get_num_threads()
    x = torch.rand(1, 3, 300, 300)
    try:
        torch.set_num_threads(2)
        threads.Thread = Thread
        native.loss(x, x, 0.3, "rgb", 0.0, 1.0, True, True)
    finally:
        threads.Thread = real
        torch.set_num_threads(before)
    (closure,) = problems
    assert any(len(getattr(cell.cell_contents, "tensors", ())) == 5 for cell in closure)


def test_a_cache_that_cannot_be_made_is_replaced_and_removed(tmp_path):
    assert run(WHAT_RUNS, tmp_path, XDG_CACHE_HOME=os.devnull) == ["native True"]
    assert not list(tmp_path.rglob("sci_kernels*"))


def test_public_name():
    assert sci_kernels.default_impl("cpu") == "native"
