"""`make bench`: what it saves, that parity comes before time, and that `make test` leaves it alone."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT

# The loss off by a hundredth wherever it is not the reference's.
RUN = """
import sys, pytest
from bench import compare
right = compare.function_of
def wrong(op, provider, color):
    function = right(op, provider, color)
    return function if op != "loss" or provider == "reference" else lambda *inputs: 1.01 * function(*inputs)
compare.function_of = wrong
sys.exit(pytest.main(sys.argv[1:]))
"""
TESTS = ("test_retinex[reference-forward]", "test_loss[pairs-ycbcr-forward]")  # on any device


def test_parity_first_then_time_and_bandwidth(tmp_path):
    file = tmp_path / "run.json"
    names = [f"bench/test_speed.py::{name}" for name in TESTS]
    command = [sys.executable, "-c", RUN, "-p", "no:cacheprovider", f"--benchmark-json={file}", *names]
    # Where tests run in several processes, pytest-benchmark would take this run for one of them, and measure nothing.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "not timed: parity" in done.stdout
    (saved,) = json.loads(file.read_text())["benchmarks"]  # nothing of the loss
    assert saved["name"] == TESTS[0]
    facts = saved["extra_info"]
    assert facts["parity"] <= 1e-5 and facts["bytes"] == 15 * 4 * facts["height"] * facts["width"]
    assert abs(facts["gb_per_s"] * saved["stats"]["median"] * 1e9 / facts["bytes"] - 1) < 1e-9


def test_make_test_does_not_collect_it():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    assert 'testpaths = ["tests"]' in lines and (ROOT / "bench" / "test_speed.py").is_file()
