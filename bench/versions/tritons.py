"""Compiles the kernels with every supported Triton, without a GPU, and compares the code with the pinned Triton's.

    python -m bench tritons [--all | --record] [--folder DIR]

Each release's wheel is installed into its own folder, without PyTorch, and `python -m bench kernels` runs with that
Triton and the installed PyTorch. By default every kernel is compiled once, in float32 and uint8, for one GPU: by the
oldest Triton, by 3.6 and by the newest, which compiles for two more GPUs. With --all, every launch in
`bench/kernels/launch_cases.py` is compiled for all three GPUs by all of them, the pinned one included.

It fails if a kernel does not compile or has a stack, or if its instructions are a few percent more than those recorded
in instructions.json or, where none are recorded, than the pinned Triton's. --record writes that file, which changes
with the kernels. A release that cannot be fetched is skipped, which is printed; so is an AMD GPU for which Triton 3.4
finds no linker.
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

from ..measure import ROOT, Row, write_json
from .installing import NoNetworkError, install
from .tried import FOLDER, PINNED_TRITON, TRITONS

RECORDED = Path(__file__).with_name("instructions.json")
TARGETS = ("sm_90", "sm_80", "gfx942")
COUNTED = TARGETS[:2]
# Every kernel once. Of the cases with the two color kernels, one channel of `reference` compiles most quickly.
_PICTURES = "(enhance exposed gain|denoise)"
CORE = f"^(fp32 (ycbcr 3 both|reference 1 both|retinex|batch_norm|exposure|conv tf32x3|{_PICTURES})|u8 {_PICTURES})$"
NVIDIA_ALONE = {"conv", "conv_weight_bwd"}  # these use its tensor cores
_NO_LINKER = "ROCm linker"  # in the error of Triton 3.4, which needs one for AMD; 3.6 comes with its own
CORE_MARGIN, MARGIN = 0.06, 0.03  # so many more instructions than recorded are allowed
FAR_BELOW = 0.2  # so many fewer instructions mean a mistake in counting


def targets_of_versions(everything: bool) -> list[tuple[str, tuple[str, ...]]]:
    """The releases of Triton, and the GPUs that each compiles for."""
    if everything:
        return [(version, TARGETS) for version in TRITONS]
    *others, newest = (version for version in TRITONS if version != PINNED_TRITON)
    return [(version, TARGETS[:1]) for version in others] + [(newest, TARGETS)]


def fetch(version: str, folder: Path) -> Path:
    """A folder with that Triton alone. Raises as `install` does."""
    place = folder / f"triton-{version}"
    if not place.is_dir():
        partial = place.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        install(sys.executable, "--no-deps", "--target", partial, f"triton=={version}")
        partial.rename(place)
    return place


def compiled(place: Path, target: str, only: str) -> list[Row]:
    """The rows of `python -m bench kernels` by the Triton in `place`. Raises RuntimeError with its error."""
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
    """The kernels that are compiled for one target, out of all whose instructions are recorded."""
    kernels = {text.split()[0] for recorded in counts.values() for text in recorded}
    return kernels - NVIDIA_ALONE if target.startswith("gfx") else kernels


def faults(rows: list[Row], kernels: set[str], recorded: dict[str, float], margin: float) -> Iterator[str]:
    """A line for everything that is wrong with the rows of one target, which must have all of `kernels`."""
    if missing := kernels - {row["kernel"] for row in rows}:
        yield f"not compiled: {', '.join(sorted(missing))}"
    for row in rows:
        if row["stack"]:
            yield f"{name(row)} has a stack of {row['stack']} bytes"
        change = difference(row, recorded)
        if change is not None and not -FAR_BELOW <= change <= margin:
            yield f"{name(row)} has {row['instructions']} instructions per pixel, recorded are {recorded[name(row)]}"


def name(row: Row) -> str:
    """The key of a row in instructions.json."""
    return f"{row['kernel']} {row['case']}"


def difference(row: Row, recorded: dict[str, float]) -> float | None:
    """The relative difference of the instructions from the recorded ones; None where either is unknown."""
    known = recorded.get(name(row))
    return row["instructions"] / known - 1 if known and row["instructions"] else None


def summary(rows: list[Row], recorded: dict[str, float]) -> str:
    """What was compiled for one target, as a line of text."""
    changes = [change for row in rows if (change := difference(row, recorded)) is not None]
    stacks = sum(row["stack"] > 0 for row in rows)
    text = f"{len(rows)} kernels, {stacks or 'none'} with a stack"
    if changes:
        text += f", instructions {min(changes):+.1%} to {max(changes):+.1%} against those recorded of {len(changes)}"
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench tritons", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="compile every launch with every Triton for all targets")
    what.add_argument("--record", action="store_true", help="write instructions.json with the pinned Triton")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="where to install the wheels")
    args = parser.parse_args(argv)
    if args.record:
        record(args.folder)
        return 0
    counts = json.loads(RECORDED.read_text("utf-8"))
    failed, skipped = 0, []
    for version, targets in targets_of_versions(args.all):
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
    """Writes the instructions of the core set by the pinned Triton, for the targets where they are counted."""
    place = fetch(PINNED_TRITON, folder)
    write_json(RECORDED, {target: instructions(compiled(place, target, CORE)) for target in COUNTED})


def instructions(rows: list[Row]) -> dict[str, float]:
    return {name(row): row["instructions"] for row in rows if row["instructions"]}


def tried(place: Path, target: str, counts: dict[str, dict[str, float]], everything: bool) -> bool | None:
    """Compiles for one target, prints how that went, and returns whether all is well; None if that cannot be told."""
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
