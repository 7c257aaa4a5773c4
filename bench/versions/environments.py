"""Runs the core tests in whole environments, from the oldest supported releases to the newest.

    python -m bench environments [--only REGEX] [--folder DIR] [--keep]

Each environment of `tried.py` is made by the Python of that version on PATH, filled by pip, used and removed. If that
Python is missing or packages cannot be fetched, the environment is skipped, which is printed. Where pip finds no other
build of PyTorch, it installs the one with CUDA: several gigabytes for each environment.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ..measure import ROOT
from .installing import NoNetworkError, install
from .tried import ENVIRONMENTS, FOLDER, Environment

CORE = (
    *("loss", "ops", "retinex", "enhance_op", "batch_norm", "native", "networks", "fused", "step"),
    *("accelerate", "accelerate_forks", "accelerate_verify", "stand_in", "tracing"),
)
TESTING = ("pytest", "pytest-timeout", "pytest-xdist")


class Outcome(NamedTuple):
    """How the tests ended."""

    passed: bool
    counts: str  # pytest's last line
    reasons: list[str]  # for skipping tests


def interpreter(version: str) -> str | None:
    """The Python of that version on PATH, or None. A name on PATH alone may not run, or run another version."""
    found = shutil.which(f"python{version}")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([found, "-c", code], capture_output=True, text=True) if found else None
    return found if done and done.stdout.strip() == version else None


def fill(environment: Environment, python: str, folder: Path) -> Path:
    """The interpreter of the environment in `folder`, which is made unless it was kept. Raises as `install` does."""
    inside, stamp = folder / "bin" / "python", folder / "filled"
    if not stamp.is_file() or stamp.read_text() != str(environment):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        pins = [f"{package}=={getattr(environment, package)}" for package in ("torch", "triton", "numpy")]
        install(inside, *pins, "-e", f"{ROOT}[train]", *TESTING)
        stamp.write_text(str(environment))
    return inside


def core_tests(python: Path, log: Path) -> Outcome:
    """Runs the core tests with that Python; their output goes to `log`, and failures are printed as well."""
    files = sorted(str(path) for name in CORE for path in (ROOT / "tests").rglob(f"test_{name}.py"))
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "TRITON"))}
    with log.open("w") as output:
        done = subprocess.run(
            [python, "-m", "pytest", "-n", "auto", "-q", *files],
            cwd=ROOT, env=clean | {"OMP_WAIT_POLICY": "passive"}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    lines = log.read_text().strip().splitlines()
    shown = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    print("".join(f"\n  {line}" for line in shown), end="\n" * bool(shown))
    return Outcome(done.returncode == 0, lines[-1].strip("= ") if lines else "no output", reasons(lines))


def reasons(lines: list[str]) -> list[str]:
    """The reasons why tests were skipped, each with their number, from pytest's summary."""
    counts: dict[str, int] = {}
    for line in lines:
        if found := re.match(r"SKIPPED \[(\d+)\] [^ ]+: (.*)", line):
            counts[found[2]] = counts.get(found[2], 0) + int(found[1])
    return [f"{count} skipped: {reason}" for reason, count in counts.items()]


def tried(environment: Environment, folder: Path, keep: bool) -> bool | None:
    """Whether the tests passed in an environment; None where they could not be run."""
    print(f"{environment}: ", end="", flush=True)
    python = interpreter(environment.python)
    if python is None:
        print(f"SKIPPED: there is no python{environment.python} on PATH", flush=True)
        return None
    place = folder / f"python-{environment.python}"
    start = time.monotonic()
    try:
        outcome = core_tests(fill(environment, python, place), place.with_name(f"{place.name}.log"))
    except NoNetworkError as error:
        print(f"SKIPPED: {error}", flush=True)
        return None
    except RuntimeError as error:
        print(f"FAILED: {error}", flush=True)
        return False
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    verdict = outcome.counts if outcome.passed else f"FAILED: {outcome.counts}"
    print("\n  ".join([f"{verdict}; {time.monotonic() - start:.0f} s in all", *outcome.reasons]), flush=True)
    return outcome.passed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench environments", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="try only the environments whose line matches")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="where to make them")
    parser.add_argument("--keep", action="store_true", help="do not remove them, and use those that were kept before")
    args = parser.parse_args(argv)
    chosen = [environment for environment in ENVIRONMENTS if re.search(args.only, str(environment))]
    if not chosen:
        parser.error(f"--only: {args.only!r} matches none of them")
    results = [tried(environment, args.folder, args.keep) for environment in chosen]
    print(f"{results.count(True)} passed, {results.count(False)} failed, {results.count(None)} skipped")
    return 1 if False in results else 0


if __name__ == "__main__":
    sys.exit(main())
