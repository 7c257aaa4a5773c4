"""What mypy says of a user's file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def mypy_says(path: Path) -> dict[int, str]:
    """The first thing that is said of a line, "error: ..." or "note: ...", by the line's number.

    The file has mistakes, made on purpose, so that mypy ends with status 1. It is read with the project's settings
    and cache: reading all of torch takes half a minute, once.
    """
    pytest.importorskip("mypy", reason="mypy is not installed: pip install mypy")
    command = [sys.executable, "-m", "mypy", "--no-pretty", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1 and not done.stderr, done.stdout + done.stderr
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        # By name alone: of a file that did not change, mypy repeats what it said of it elsewhere.
        if match := re.search(rf"{re.escape(path.name)}:(\d+): (.*)", line):
            found.setdefault(int(match[1]), match[2])
    return found
