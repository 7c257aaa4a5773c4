"""What the bounds promise is what the commands try; and what those say where nothing can be fetched or all is wrong."""

import json
import re

import pytest

from bench.versions import environments, tried, tritons
from sci_kernels import versions
from tests.conftest import ROOT
from tests.library.test_kernels import KERNELS


def ends(releases) -> tuple:
    numbers = sorted(versions.release(text) for text in releases)
    return numbers[0], numbers[-1]


def test_the_bounds_are_tried():
    for supported, releases in [
        (versions.TRITON, tried.TRITONS),
        (versions.TRITON, [environment.triton for environment in tried.ENVIRONMENTS]),
        (versions.TORCH, [environment.torch for environment in tried.ENVIRONMENTS]),
    ]:
        assert ends(releases) == (versions.release(supported.oldest), versions.release(supported.newest))
    oldest, _ = ends(environment.python for environment in tried.ENVIRONMENTS)
    assert f'python_requires=">={oldest[0]}.{oldest[1]}"' in (ROOT / "setup.py").read_text()
    assert f'target-version = "py{oldest[0]}{oldest[1]}"' in (ROOT / "pyproject.toml").read_text()
    assert tried.PINNED_TRITON in tried.TRITONS


def test_the_page_names_the_margin_of_instructions():
    page = " ".join((ROOT / "docs/measuring.md").read_text("utf-8").split())
    assert f"over {tritons.CORE_MARGIN:.0%}".replace("%", " % more instructions") in page


def rows(**changes):
    row = {"case": "fp32", "stack": 0, "instructions": 100.0}
    *others, last = sorted(KERNELS | tritons.NVIDIA_ALONE)
    return [row | {"kernel": kernel} for kernel in others] + [row | {"kernel": last} | changes]


RECORDED = {f"{kernel} fp32": 100.0 for kernel in KERNELS}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"instructions": 104.0}, None),
        ({"instructions": None}, None),
        ({"case": "not recorded", "instructions": 200.0}, None),
        ({"instructions": 106.0}, "retinex_fwd fp32 has 106.0 instructions per pixel, recorded are 100.0"),
        ({"instructions": 75.0}, "retinex_fwd fp32 has 75.0 instructions per pixel"),
        ({"stack": 16}, "retinex_fwd fp32 has a stack of 16 bytes"),
        ({"kernel": "loss_fwd"}, "not compiled: retinex_fwd"),
    ],
)
def test_faults_of_compiled_kernels_are_named(changes, found):
    lines = list(tritons.faults(rows(**changes), KERNELS, RECORDED, tritons.CORE_MARGIN))
    assert len(lines) == (found is not None) and all(line.startswith(found) for line in lines)


def test_recorded_are_all_kernels():
    recorded = json.loads(tritons.RECORDED.read_text())
    for target in tritons.COUNTED:
        counted = KERNELS - {"exposure"} | tritons.NVIDIA_ALONE  # all but what has loops that are not counted
        assert {name.split()[0] for name in recorded[target]} == tritons.expected(target, recorded) == counted
        assert all(re.search(tritons.CORE, name.split(" ", 1)[1]) for name in recorded[target])
    assert tritons.expected("gfx942", recorded) == KERNELS - {"exposure"}


def test_without_a_network_compiling_is_skipped_aloud(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert tritons.main(["--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"SKIPPED: Triton ([\d.]+) cannot be fetched", printed) == ["3.4.0", "3.6.0", "3.9.0"]
    assert printed.splitlines()[-1] == "none of these failed; skipped: Triton 3.4.0, 3.6.0, 3.9.0"


def test_a_release_that_does_not_exist_is_no_matter_of_the_network(monkeypatch, tmp_path, capsys):
    def install(*arguments):
        raise RuntimeError("No matching distribution")

    monkeypatch.setattr(tritons, "install", install)
    assert tritons.main(["--folder", str(tmp_path)]) == 1
    assert "FAILED: Triton 3.4.0 cannot be installed: No matching distribution" in capsys.readouterr().out


def test_a_kernel_that_does_not_compile_fails_with_what_triton_says(monkeypatch, tmp_path, capsys):
    def compiled(place, target, only):
        raise RuntimeError("cannot convert")

    monkeypatch.setattr(tritons, "fetch", lambda version, folder: folder / f"triton-{version}")
    monkeypatch.setattr(tritons, "compiled", compiled)
    assert tritons.main(["--folder", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "triton-3.6.0, sm_90: FAILED\ncannot convert" in printed and "5 of these failed" in printed


def test_a_missing_linker_is_skipped_aloud(monkeypatch, tmp_path, capsys):
    def compiled(place, target, only):
        if target == "gfx942":
            raise RuntimeError("color_fwd does not compile: ROCm linker /opt/rocm/llvm/bin/ld.lld not found.")
        return rows()

    monkeypatch.setattr(tritons, "targets_of_versions", lambda everything: [("3.4.0", ("sm_90", "gfx942"))])
    monkeypatch.setattr(tritons, "fetch", lambda version, folder: folder / f"triton-{version}")
    monkeypatch.setattr(tritons, "compiled", compiled)
    assert tritons.main(["--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "gfx942: SKIPPED: it needs an ld.lld" in printed and "TRITON_HIP_LLD_PATH" in printed
    assert printed.splitlines()[-1] == "none of these failed; skipped: Triton 3.4.0 for gfx942"


def test_environments_that_cannot_be_made_are_skipped_aloud(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environments.main(["--folder", str(tmp_path), "--only", "3.10"]) == 0
    printed = capsys.readouterr().out
    assert "Python 3.10, PyTorch 2.8.0" in printed and "SKIPPED: there is no python3.10 on PATH" in printed
    assert "0 passed, 0 failed, 1 skipped" in printed


def test_reasons_for_skipping_are_counted():
    lines = ["SKIPPED [3] tests/conftest.py:9: needs a GPU", "SKIPPED [2] tests/test_ops.py:5: needs a GPU", "1 passed"]
    assert environments.reasons(lines) == ["5 skipped: needs a GPU"]
