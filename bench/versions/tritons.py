"""Every supported Triton compiles the kernels, for GPUs that need not be present, to the code of the pinned one.

    python -m bench tritons [--all | --record] [--folder DIR]

Each release's wheel is put into a folder of its own, without its PyTorch, and `python -m bench kernels` runs with it
and with the PyTorch at hand. By default every kernel is compiled once, in float32 and uint8, for one GPU by the oldest,
by 3.6 and by the newest Triton, and for two more by the newest; with --all every launch that `bench.kernels` records,
by the pinned one too, for all three. It fails where a kernel does not compile or has a stack, and where its
instructions are a few percent more than recorded in instructions.json or, where they are not recorded, than the pinned
Triton's. --record writes that file, which changes with the kernels. A release that cannot be fetched is skipped, in so
many words; so is an AMD GPU where Triton 3.4 finds no linker for it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..measure import ROOT, write_json
from .installing import NoNetworkError, install
from .tried import FOLDER, PINNED_TRITON, TRITONS

RECORDED = Path(__file__).with_name("instructions.json")
TARGETS = ("sm_90", "sm_80", "gfx942")
COUNTED = TARGETS[:2]
# Every kernel once; one channel of reference colours is the quickest to compile that has the two colour kernels.
_PICTURES = "(enhance exposed gain|denoise)"
CORE = f"^(fp32 (ycbcr 3 both|reference 1 both|retinex|batch_norm|exposure|conv tf32x3|{_PICTURES})|u8 {_PICTURES})$"
NVIDIA_ALONE = {"conv", "conv_weight_bwd"}  # have its tensor cores
_NO_LINKER = "ROCm linker"  # is not found, says Triton 3.4 of code for AMD; 3.6 brings its own
CORE_MARGIN, MARGIN = 0.06, 0.03  # more instructions than recorded
FAR_BELOW = 0.2  # fewer by so much are a mistake in counting


def plan(everything: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Releases of Triton, and the GPUs that each compiles for."""
    if everything:
        return [(version, TARGETS) for version in TRITONS]
    *others, newest = (version for version in TRITONS if version != PINNED_TRITON)
    return [(version, TARGETS[:1]) for version in others] + [(newest, TARGETS)]


def fetch(version: str, folder: Path) -> Path:
    """A folder with that Triton alone. Raises what `install` does."""
    place = folder / f"triton-{version}"
    if not place.is_dir():
        partial = place.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        install(sys.executable, "--no-deps", "--target", partial, f"triton=={version}")
        partial.rename(place)
    return place


def compiled(place: Path, target: str, only: str) -> list[dict]:
    """The rows of `python -m bench kernels` by the Triton in `place`. Raises RuntimeError with its last words."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(place), str(ROOT)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "bench", "kernels", "--target", target, "--only", only, "--json", str(path)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if not path.is_file():
            raise RuntimeError(done.stderr.strip().rpartition("\nRuntimeError: ")[2][-1500:])
        content = json.loads(path.read_text())
    used = content["environment"]["triton"]
    if not place.name.endswith(used):
        raise RuntimeError(f"Triton {used} was imported instead of the one in {place}")
    return content["rows"]


def expected(target: str, counts: dict[str, dict[str, float]]) -> set[str]:
    """The kernels that one target has, of all whose instructions are recorded."""
    kernels = {text.split()[0] for recorded in counts.values() for text in recorded}
    return kernels - NVIDIA_ALONE if target.startswith("gfx") else kernels


def faults(rows: list[dict], kernels: set[str], recorded: dict[str, float], margin: float) -> Iterator[str]:
    """What is wrong with one target's kernels, which must be `kernels`; a line each."""
    if missing := kernels - {row["kernel"] for row in rows}:
        yield f"not compiled: {', '.join(sorted(missing))}"
    for row in rows:
        if row["stack"]:
            yield f"{name(row)} has a stack of {row['stack']} bytes"
        change = difference(row, recorded)
        if change is not None and not -FAR_BELOW <= change <= margin:
            yield f"{name(row)} has {row['instructions']} instructions a pixel, recorded are {recorded[name(row)]}"


def name(row: dict) -> str:
    return f"{row['kernel']} {row['case']}"


def difference(row: dict, recorded: dict[str, float]) -> float | None:
    """By what share the instructions differ from the recorded ones; None where either was not counted."""
    known = recorded.get(name(row))
    return row["instructions"] / known - 1 if known and row["instructions"] else None


def summary(rows: list[dict], recorded: dict[str, float]) -> str:
    """One line of what was compiled for one target."""
    changes = [change for row in rows if (change := difference(row, recorded)) is not None]
    stacks = sum(row["stack"] > 0 for row in rows)
    text = f"{len(rows)} kernels, {stacks or 'none'} with a stack"
    if changes:
        text += f", instructions {min(changes):+.1%} to {max(changes):+.1%} against those recorded of {len(changes)}"
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench tritons", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="every launch, by every Triton, for all targets")
    what.add_argument("--record", action="store_true", help="write the core set's instructions by the pinned Triton")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="where the wheels are put")
    args = parser.parse_args(argv)
    if args.record:
        record(args.folder)
        return 0
    counts = json.loads(RECORDED.read_text("utf-8"))
    failed, skipped = 0, []
    for version, targets in plan(args.all):
        try:
            place = fetch(version, args.folder)
        except NoNetworkError as error:
            print(f"SKIPPED: Triton {version} cannot be fetched: {error}", flush=True)
            skipped.append(version)
            continue
        except RuntimeError as error:
            print(f"FAILED: Triton {version} cannot be installed: {error}", flush=True)
            failed += 1
            continue
        for target in targets:
            passed = tried(place, target, counts, args.all)
            failed += passed is False
            skipped += [f"{version} for {target}"] * (passed is None)
    print(f"{failed or 'none'} of these failed" + (f"; skipped: Triton {', '.join(skipped)}" if skipped else ""))
    return 1 if failed else 0


def record(folder: Path) -> None:
    """Writes what the core set needs by the pinned Triton, where instructions are counted."""
    place = fetch(PINNED_TRITON, folder)
    write_json(RECORDED, {target: instructions(compiled(place, target, CORE)) for target in COUNTED})


def instructions(rows: list[dict]) -> dict[str, float]:
    return {name(row): row["instructions"] for row in rows if row["instructions"]}


def tried(place: Path, target: str, counts: dict[str, dict[str, float]], everything: bool) -> bool | None:
    """Compiles for one target, says what came of it, and tells whether it is as it must be; None if it cannot tell."""
    print(f"{place.name}, {target}: ", end="", flush=True)
    try:
        rows = compiled(place, target, "" if everything else CORE)
    except RuntimeError as error:
        if _NO_LINKER in str(error):
            print("SKIPPED: it needs an ld.lld in TRITON_HIP_LLD_PATH (LLVM 22's works, 14's does not)", flush=True)
            return None
        print(f"FAILED\n{error}", flush=True)
        return False
    recorded = counts.setdefault(target, {})
    wrong = list(faults(rows, expected(target, counts), recorded, MARGIN if everything else CORE_MARGIN))
    if place.name == f"triton-{PINNED_TRITON}":
        counts[target] = instructions(rows) | recorded
    print("\n  FAILED: ".join([summary(rows, recorded), *wrong]), flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
