"""Everything on one machine: steps that end in time, figures beside their bounds, what a GPU's one command does."""

import math
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import cases, compare, gpu, steps, suite
from bench.__main__ import COMMANDS
from bench.steps import Result, Step


def fused_row(**other):
    row = {"op": "loss", "color": "ycbcr", "part": "forward", "provider": "triton", "status": "ok"}
    row |= {"height": 2160, "width": 3840, "ms": {"median": 0.2}, "device_ms": {"median": 0.1}}
    return row | {"copy_share": 0.5, "times_faster_than": {}} | other


def test_bounds_are_judged_on_the_gpu_they_are_for():
    rows = [
        fused_row(part="forward+backward", times_faster_than={"reference": 59.0}, new_size_ratio=1.5),
        fused_row(part="forward+backward", times_faster_than={"compiled": 7.0}),
        fused_row(),
        fused_row(part="backward", height=1080, width=1920),
        fused_row(part="backward illumination", status="out of memory"),
    ]
    lines = suite.table(rows, "cuda", "nvidia-h200")
    assert len(lines) == 1 + len(suite.BOUNDS)

    def line(text):
        (found,) = (line for line in lines if text in line)
        return found

    assert "0.100 ms" in line("loss ycbcr forward, on") and line("loss ycbcr forward, on").endswith("pass")
    assert "not measured" in line("loss ycbcr backward, on") and "at most 0.250 ms" in line("loss ycbcr backward, on")
    assert "not measured" in line("backward illumination")
    assert line("loss ycbcr forward+backward, faster than reference").endswith("MISS")
    assert line("loss ycbcr forward+backward, faster than compiled").endswith("pass")
    assert line("loss ycbcr forward+backward, first call").endswith("pass")
    elsewhere = "\n".join(suite.table(rows, "cuda", "nvidia-a100-sxm4-80gb"))
    assert "0.100 ms" in elsewhere and not any(word in elsewhere for word in ("pass", "MISS", "at most", "at least"))


def test_every_bound_speaks_of_something_that_is_measured():
    for bound in suite.BOUNDS:
        assert bound.part in cases.VALUES[bound.op]
        known = ("ms", "copy_share", "new_size_ratio", *cases.PROVIDERS[bound.op])
        assert bound.figure in known


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_step_is_a_command_that_parses(monkeypatch, tmp_path, device):
    monkeypatch.setattr(suite, "_target", lambda: "sm_90")
    monkeypatch.setattr(suite, "_kernels_missing", lambda: None)
    planned = suite.steps(device, tmp_path)
    names = {"loss", "retinex", "enhance", "step", "kernels", "loss-compiled", "step-compiled"}
    assert {step.name for step in planned} >= names
    for step in planned:
        python, m, bench, command, *rest = step.command
        assert (m, bench) == ("-m", "bench") and command in COMMANDS and 0 < step.seconds < math.inf
        if command != "kernels":
            args = compare._parse([command, *rest])
            assert args.device == device and args.json == tmp_path / f"{step.name}.json"


@pytest.mark.parametrize(("command", "status"), [("loss --size 24x16 --color ycbcr", 0), ("loss --size 5k", 1)])
def test_all_ends_with_a_table_and_the_steps(monkeypatch, tmp_path, capfd, command, status):
    def planned(device, out):
        arguments = [*command.split(), "--providers", "reference,native,blocked", "--repeats", "1"]
        arguments += ["--parts", "forward", "--device", "cpu", "--json", str(out / "loss.json")]
        return [Step("loss", [sys.executable, "-m", "bench", *arguments], 100)]

    monkeypatch.setattr(suite, "steps", planned)
    monkeypatch.setitem(suite.SIZES, "600x400", (16, 24))
    assert suite.main(["--device", "cpu", "--out", str(tmp_path / "new")]) == status
    out = capfd.readouterr().out
    (line,) = (line for line in out.splitlines() if "loss ycbcr forward, on the device" in line)
    assert line.endswith("not measured") == bool(status)
    assert "FAILED with status 2" in out if status else " s  ok" in out


def test_a_step_whose_time_was_spent_is_shown_and_fails_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(suite, "steps", lambda device, out: [Step("loss", ["no such command"], 100)])
    assert suite.main(["--device", "cpu", "--out", str(tmp_path), "--seconds", "0"]) == 0
    assert "not begun" in capsys.readouterr().out


def test_what_is_not_begun_on_a_cpu_is_compilation_alone():
    """Six minutes, the grace of the last step included, hold everything else even if it takes all it may."""
    total = suite._TOTAL_SECONDS["cpu"]
    assert total + steps._GRACE_SECONDS < 360
    planned = suite.steps("cpu", Path("none"))
    certain = [step for step in planned if not step.name.endswith("-compiled")]
    assert certain == planned[: len(certain)]
    assert sum(step.seconds for step in certain) <= total


def test_networks_whose_packages_are_missing_are_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(suite, "missing_package", lambda op: "safetensors")
    names = {step.name for step in suite.steps("cpu", tmp_path)}
    assert "loss" in names and not names & {"enhance", "step", "step-compiled"}
    out = capsys.readouterr().out
    assert "enhance: skipped" in out and "step: skipped" in out and "safetensors" in out


def test_kernels_that_cannot_be_imported_are_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "bench.kernels", None)
    assert "kernels" not in {step.name for step in suite.steps("cpu", tmp_path)}
    assert "kernels: skipped" in capsys.readouterr().out


def test_a_step_out_of_time_is_stopped_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_GRACE_SECONDS", 1)
    child = "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(os.getpid(), flush=True)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child + '; time.sleep(60)'!r}])"
    log = tmp_path / "log"
    start = time.monotonic()
    result = steps.run_step(Step("slow", [sys.executable, "-c", parent], 2, log))
    assert result.status is None and time.monotonic() - start < 20
    assert "stopped" in steps.status_text(result)
    pid = int(log.read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        for _ in range(50):  # until its new parent has noticed
            os.kill(pid, 0)
            time.sleep(0.1)


def test_an_interrupted_step_may_write_what_it_has(tmp_path):
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('kept')"
    result = steps.run_step(Step("slow", [sys.executable, "-c", code], 1, tmp_path / "log"))
    assert result.status is None and (tmp_path / "log").read_text() == "kept\n"


def test_steps_side_by_side_and_one_without_time(tmp_path):
    code = "import os, sys; print(os.environ['WORD']); sys.exit(3)"
    ran, skipped = steps.run_together(
        [
            Step("a", [sys.executable, "-c", code], 60, tmp_path / "a", {"WORD": "seen"}),
            Step("b", [sys.executable, "-c", code], 0),
        ]
    )
    assert (
        ran.status == 3
        and (tmp_path / "a").read_text() == "seen\n"
        and "FAILED with status 3" in steps.status_text(ran)
    )
    assert skipped == Result("b", None, 0.0) and "not begun" in steps.status_text(skipped)


def test_gpu_without_one_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_files_with_tests_for_a_gpu_are_found():
    names = {Path(path).name for path in gpu.gpu_tests()}
    assert {"test_loss.py", "test_ops.py", "test_retinex.py"} <= names
    assert not {"test_weights.py", "test_images.py", "test_demo.py"} & names


def test_memory_checks_run_beside_the_tests_where_their_tool_is(monkeypatch, tmp_path, capsys):
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    tests, *checks = gpu.check_steps(tmp_path)
    assert tests.command[1:5] == ["-m", "pytest", "-m", "gpu"]
    assert [check.command[:3] for check in checks] == [
        [str(tool), "--tool", name] for name in ("memcheck", "racecheck")
    ]
    for case in gpu._CASES:
        assert compare._parse(case.split()).check
    monkeypatch.setattr(gpu, "find_sanitizer", lambda: None)
    assert [step.name for step in gpu.check_steps(tmp_path)] == ["tests"]
    assert "racecheck: skipped" in capsys.readouterr().out


@pytest.mark.parametrize(("tests", "bench", "status"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_gpu_checks_measures_and_copies(monkeypatch, tmp_path, capsys, tests, bench, status):
    def check_steps(logs):
        code = f"print('error one\\n7 passed in 1 s'); raise SystemExit({tests})"
        return [Step("tests", [sys.executable, "-c", code], 60, logs / "tests.log")]

    def everything(arguments):
        out = Path(arguments[arguments.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "loss.json").write_text("{}")
        return bench

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "device_name", lambda device: "fake")
    monkeypatch.setattr(gpu, "check_steps", check_steps)
    monkeypatch.setattr(suite, "main", everything)
    monkeypatch.setenv("OUT", str(tmp_path / "copies"))
    assert gpu.main([]) == status
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {"loss.json", "tests.log"}
    out = capsys.readouterr().out
    assert "7 passed" in out and ("error one" in out) == bool(tests)
