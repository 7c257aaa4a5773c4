"""Where the compiled C kernels are kept, and what of it is never loaded."""

import contextlib
import functools
import hashlib
import os
import stat
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sci_kernels import native
from sci_kernels.native import cache
from tests import native_runs
from tests.native_runs import THE_LOSS, WHAT_RUNS, Forked

QUICKLY = {"SCI_KERNELS_CFLAGS": "-O0"}  # compiled again in most tests, where no faster code is needed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with contextlib.closing(Forked(tmp_path_factory.mktemp("said"))) as forked:
        yield functools.partial(forked.run, **QUICKLY)


@pytest.fixture(autouse=True)
def _compiler():
    if reason := native.compiler_error():
        pytest.skip(reason)


def test_what_was_compiled_is_kept_and_used_again(run, tmp_path):
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
def compiled(run, tmp_path_factory):
    """The one library of a cache."""
    if reason := native.compiler_error():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("compiled")
    run(THE_LOSS, folder)
    (library,) = folder.rglob("*.so")
    return library


DAMAGES = [cut, zero_a_page, flip_a_bit, empty, give_another_hash, put_a_folder_there, put_a_pipe_there]


@pytest.mark.parametrize("damage", [*DAMAGES, take_the_hash_away], ids=lambda damage: damage.__name__)
def test_a_damaged_library_is_made_again(run, tmp_path, compiled, damage):
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


def test_a_cache_that_cannot_be_mended_is_done_without(run, tmp_path, compiled):
    """A full folder stands in the place of the library, and stays."""
    place = tmp_path / "sci_kernels" / compiled.name
    (place / "kept").mkdir(parents=True)
    run(THE_LOSS, tmp_path)
    assert list(place.parent.rglob("*")) == [place, place / "kept"]


@pytest.mark.skipif(hasattr(os, "getuid") and os.getuid() == 0, reason="root may write everywhere")
def test_a_damaged_library_in_a_cache_that_is_read_only(run, tmp_path, compiled):
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


@pytest.mark.slow
def test_many_processes_share_a_damaged_cache(tmp_path, compiled):
    library = tmp_path / "sci_kernels" / compiled.name
    library.parent.mkdir()
    library.write_bytes(b"damaged")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: native_runs.run(THE_LOSS, tmp_path, **QUICKLY), range(4)))
    assert list(library.parent.iterdir()) == [library]


def test_a_cache_that_cannot_be_made_is_replaced_and_removed(run, tmp_path):
    assert run(WHAT_RUNS, tmp_path, XDG_CACHE_HOME=os.devnull) == ["native True"]
    assert not list(tmp_path.rglob("sci_kernels*"))


def open_to_the_group(path: Path) -> None:
    path.chmod(0o770)


def open_to_all(path: Path) -> None:
    path.chmod(0o777)


ANOTHER_OWNER = """
import os, types
from sci_kernels.native import cache
real = os.fstat
def fstat(descriptor):
    status = real(descriptor)
    if os.readlink(f"/proc/self/fd/{descriptor}") == KIND:
        return types.SimpleNamespace(st_uid=os.getuid() + 1, st_mode=status.st_mode)
    return status
cache.os = types.SimpleNamespace(**vars(os) | {"fstat": fstat})
"""


@pytest.fixture
def kept(tmp_path, compiled) -> Path:
    """The compiled library in a cache of its own."""
    library = tmp_path / "sci_kernels" / compiled.name
    library.parent.mkdir(mode=0o700)
    library.write_bytes(compiled.read_bytes())
    library.chmod(0o700)
    return library


WATCHED = """
import warnings
warnings.simplefilter("ignore")
warnings.simplefilter("always", RuntimeWarning)
warnings.showwarning = lambda message, category, *rest, **named: print(category.__name__)
"""
WHERE = """
lines = [line.rstrip() for line in open("/proc/self/maps") if "smooth_loss" in line]
print({line[line.index("/"):] for line in lines})
"""


@pytest.fixture
def loaded_from(run):
    """The warnings of a new process that computes the loss, and where it loaded the library from."""
    return lambda folder, before="": run(WATCHED + before + THE_LOSS + WHERE, folder)


LINUX = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is loaded is read as Linux lists it")


@LINUX
def test_a_private_library_is_loaded_from_its_place(loaded_from, tmp_path, kept):
    made = kept.stat().st_ino
    assert loaded_from(tmp_path) == [str({str(kept)})]
    assert kept.stat().st_ino == made


@LINUX
@pytest.mark.parametrize("open_to", [open_to_the_group, open_to_all])
def test_a_folder_that_others_may_write_to_is_not_used(loaded_from, tmp_path, kept, open_to):
    """Neither read nor written."""
    kept.write_bytes(b"what another user put there")
    open_to(kept.parent)
    *warnings, path = loaded_from(tmp_path)
    assert set(warnings) == {"RuntimeWarning"} and str(kept.parent) + "/" not in path
    assert list(kept.parent.iterdir()) == [kept] and kept.read_bytes() == b"what another user put there"
    assert not list(tmp_path.glob("sci_kernels-*"))  # the temporary folder


@LINUX
def test_a_folder_of_another_user_is_not_used(loaded_from, tmp_path, kept):
    *warnings, path = loaded_from(tmp_path, ANOTHER_OWNER.replace("KIND", repr(str(kept.parent))))
    assert set(warnings) == {"RuntimeWarning"} and str(kept.parent) + "/" not in path


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("open_to", [open_to_the_group, open_to_all])
def test_a_library_that_others_may_write_to_is_made_again(loaded_from, tmp_path, kept, open_to):
    open_to(kept)
    made = kept.stat().st_ino
    loaded_from(tmp_path)
    (new,) = kept.parent.iterdir()
    assert new.stat().st_ino != made and stat.S_IMODE(new.stat().st_mode) == 0o700


@LINUX
def test_a_library_of_another_user_is_made_again(loaded_from, tmp_path, kept):
    made = kept.stat().st_ino
    loaded_from(tmp_path, ANOTHER_OWNER.replace("KIND", repr(str(kept))))
    (new,) = kept.parent.iterdir()
    assert new.stat().st_ino != made


def test_a_link_to_a_library_is_not_followed(run, tmp_path, kept):
    elsewhere = kept.rename(tmp_path / "elsewhere.so")
    kept.symlink_to(elsewhere)
    run(THE_LOSS, tmp_path)
    assert all(not path.is_symlink() for path in kept.parent.iterdir()) and elsewhere.exists()


@LINUX
def test_a_link_to_the_folder_is(loaded_from, tmp_path, kept):
    folder = kept.parent.rename(tmp_path / "elsewhere")
    kept.parent.symlink_to(folder)
    assert loaded_from(tmp_path) == [str({str(folder / kept.name)})]


def test_what_fits_its_name_but_is_no_library_is_made_again(run, tmp_path, kept):
    """As of another architecture, or of another system, with the same compiler."""
    garbage = b"\x7fELF" + bytes(100)
    wrong = kept.with_name(f"{kept.name.rpartition('-')[0]}-{hashlib.sha256(garbage).hexdigest()}.so")
    kept.rename(wrong).write_bytes(garbage)
    run(THE_LOSS, tmp_path)
    (new,) = kept.parent.iterdir()
    assert new.name.endswith(f"-{hashlib.sha256(new.read_bytes()).hexdigest()}.so") and new != wrong


@LINUX
def test_a_folder_that_is_exchanged_after_the_check_is_not_used(tmp_path, kept, monkeypatch):
    """What was checked goes on to be used, under whatever name it lies now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checked, moved, paths = cache._is_private, tmp_path / "moved", []

    def exchanged(status):
        if not moved.exists():
            kept.parent.rename(moved)
            kept.parent.mkdir()
            kept.write_bytes(b"what another user put there")
        return checked(status)

    monkeypatch.setattr(cache, "_is_private", exchanged)
    monkeypatch.setattr(cache, "ctypes", types.SimpleNamespace(CDLL=lambda path: paths.append(Path(path).resolve())))
    cache.find(kept.name.rpartition("-")[0])
    assert paths == [moved / kept.name]
