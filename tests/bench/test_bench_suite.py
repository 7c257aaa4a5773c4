"""Everything on one machine: steps that end in time, figures beside their bounds, what a GPU's one command does."""

import json
import math
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.__main__ import COMMANDS
from bench.compare import cases, cli, recorded_step
from bench.measure import SIZES, subprocesses
from bench.measure.subprocesses import Command, CommandResult
from bench.networks import exposure_cost
from bench.profile import convolutions
from bench.report import gpu_bounds
from bench.suite import run_all, run_gpu, smoke
from model import EnhanceNetwork, fold, load_weights
from sci_kernels import ops


def fused_row(**other):
    row = {"op": "loss", "color": "ycbcr", "part": "forward", "provider": "triton", "status": "ok", "dtype": "float32"}
    row |= {"height": 2160, "width": 3840, "ms": {"median": 0.2}, "device_ms": {"median": 0.1}, "extra_bytes": None}
    return row | {"gb_per_s": 1990.0, "copy_share": 0.66, "times_faster_than": {}} | other


def card(rows, multiprocessors=132):
    return [{"environment": {"multiprocessors": multiprocessors, "clock_ghz": 1.98}, "rows": rows}]


def test_bounds_are_judged_on_the_gpus_they_are_for():
    rows = [
        fused_row(part="forward+backward", times_faster_than={"reference": 99.0}, new_size_ratio=1.5),
        fused_row(part="forward+backward", times_faster_than={"compiled": 9.0}),
        fused_row(),
        fused_row(part="backward", height=1080, width=1920),
        fused_row(part="backward illumination", status="out of memory"),
        fused_row(op="step", color=None, part="step", provider="ours", height=1080, width=1920, extra_bytes=10),
        fused_row(op="step", color=None, part="step", provider="reference", height=1080, width=1920, extra_bytes=55),
    ]
    lines = run_all.table(card(rows), "cuda", "nvidia-h200")
    assert len(lines) == 1 + len(gpu_bounds.BOUNDS)

    def line(text):
        (found,) = (line for line in lines if text in line)
        return found

    assert "66%" in line("loss ycbcr forward 4k, share") and "MISS" in line("loss ycbcr forward 4k, share")
    assert "0.100 ms on the device; floors: issue 0.05" in line("loss ycbcr forward 4k, share")
    assert "not measured" in line("loss ycbcr backward 4k") and "at least 67%" in line("loss ycbcr backward 4k")
    assert "not measured" in line("backward illumination")
    assert "MISS" in line("loss ycbcr forward+backward 4k, faster than reference")
    assert "pass" in line("loss ycbcr forward+backward 4k, faster than compiled")
    assert "pass" in line("loss ycbcr forward+backward 4k, first call")
    assert "5.5x" in line("less memory than the reference") and "pass" in line("less memory than the reference")
    elsewhere = "\n".join(run_all.table(card(rows), "cuda", "nvidia-a100-sxm4-80gb"))
    assert "0.100 ms" in elsewhere and not any(word in elsewhere for word in ("pass", "MISS", "at most", "at least"))


def test_a_share_is_of_the_larger_floor():
    """Of a card with half the multiprocessors issuing takes twice as long, and becomes what bounds the kernel."""
    bound = gpu_bounds.BOUNDS[0]
    row = fused_row()
    shares = []
    for (content,) in (card([row]), card([row], 66)):
        issue, memory = gpu_bounds.floors_ms(row, content["environment"])
        shares.append(gpu_bounds.measured(bound, row, [row], content["environment"]))
        assert shares[-1] == pytest.approx(max(issue, memory) / 0.1)
    assert shares[0] == pytest.approx(0.66) and shares[1] > 0.9


def test_every_bound_speaks_of_something_that_is_measured():
    texts = [step.text for step in run_all.speeds("cuda") + run_all.compilations("cuda")]
    for bound in gpu_bounds.BOUNDS:
        known = ("share", "copy_share", "device_ms", "latency_ms", "memory", "new_size_ratio")
        assert bound.quantity in (*known, *cases.PROVIDERS[bound.op]) and bound.dtype in cases.OP_DTYPES[bound.op]
        assert any(text.startswith(bound.op) and bound.size in text for text in texts)
        if bound.provider == "ours --graph":
            assert bound.provider in recorded_step.KINDS and bound.part == "step of 8" and bound.quantity == "ours"
            assert f"step --graph --batch 8 --size {bound.size}" in texts
        else:
            assert bound.part in cases.VALUES[bound.op]
            assert any((bound.provider or "") in text and bound.size in text for text in texts)


def test_a_bound_of_another_provider_is_compared_with_its_row():
    step = {"op": "step", "color": None, "width": 256, "height": 256, "part": "step of 8"}
    rows = [fused_row(**step, provider=name, times_faster_than={}) for name in recorded_step.KINDS]
    rows[0]["times_faster_than"]["ours --graph"], rows[1]["times_faster_than"]["ours"] = 0.4, 2.5
    lines = run_all.table(card(rows), "cuda", "nvidia-h100")
    (line,) = (line for line in lines if "step of 8 256x256 by `ours --graph`, faster than ours" in line)
    assert "2.5x" in line and "pass" in line
    (line,) = (line for line in lines if "by `ours-convolutions`" in line)
    assert line.startswith("  step 1080p by") and "not measured" in line


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_step_is_a_command_that_parses(monkeypatch, tmp_path, device):
    monkeypatch.setattr(run_all, "_target", lambda: "sm_90")
    monkeypatch.setattr(run_all, "_kernels_missing", lambda: None)
    planned = run_all.planned_commands(device, tmp_path)
    names = {"loss", "retinex", "enhance", "step", "kernels", "loss-compiled", "step-compiled"}
    names |= {"graph", "convolutions", "exposing"} if device == "cuda" else {"folder"}
    assert {step.name for step in planned} >= names
    for step in planned:
        python, m, bench, command, *rest = step.command
        assert (m, bench) == ("-m", "bench") and command in COMMANDS and 0 < step.seconds < math.inf
        if command != "kernels":
            parsers = {"convolutions": convolutions.parse, "exposing": exposure_cost.parse}
            args = parsers[command](rest) if command in parsers else cli._parse([command, *rest])
            assert args.device == device and args.json == tmp_path / f"{step.name}.json"


@pytest.mark.quick(every=2)
@pytest.mark.parametrize(("command", "status"), [("loss --size 24x16 --color ycbcr", 0), ("loss --size 5k", 1)])
def test_all_ends_with_a_table_and_the_steps(monkeypatch, tmp_path, capfd, command, status):
    def planned(device, out):
        arguments = [*command.split(), "--providers", "reference,native,blocked", "--repeats", "1"]
        arguments += ["--parts", "forward", "--device", "cpu", "--json", str(out / "loss.json")]
        return [Command("loss", [sys.executable, "-m", "bench", *arguments], 100)]

    monkeypatch.setattr(run_all, "planned_commands", planned)
    monkeypatch.setitem(SIZES, "4k", (16, 24))
    assert run_all.main(["--device", "cpu", "--out", str(tmp_path / "new")]) == status
    out = capfd.readouterr().out
    (line,) = (line for line in out.splitlines() if "loss ycbcr forward 4k, share" in line)
    assert line.endswith("not measured") == bool(status)
    assert "FAILED with status 2" in out if status else " s  ok" in out


def test_a_step_whose_time_was_spent_is_shown_and_fails_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run_all, "planned_commands", lambda device, out: [Command("loss", ["no such command"], 100)])
    assert run_all.main(["--device", "cpu", "--out", str(tmp_path), "--seconds", "0"]) == 0
    assert "not started" in capsys.readouterr().out


def test_what_is_not_begun_on_a_cpu_is_compilation_alone():
    """Six minutes, the grace of the last step included, hold everything else even if it takes all it may."""
    total = run_all._TOTAL_SECONDS["cpu"]
    assert total + subprocesses._GRACE_SECONDS < 360
    planned = run_all.planned_commands("cpu", Path("none"))
    certain = [step for step in planned if not step.name.endswith("-compiled")]
    assert certain == planned[: len(certain)]
    assert sum(step.seconds for step in certain) <= total


def test_networks_whose_packages_are_missing_are_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run_all, "missing_package", lambda op: "safetensors")
    names = {step.name for step in run_all.planned_commands("cpu", tmp_path)}
    assert "loss" in names and not names & {"enhance", "step", "step-compiled"}
    out = capsys.readouterr().out
    assert "enhance: skipped" in out and "step: skipped" in out and "safetensors" in out


def test_kernels_that_cannot_be_imported_are_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "bench.kernels.cli", None)
    assert "kernels" not in {step.name for step in run_all.planned_commands("cpu", tmp_path)}
    assert "kernels: skipped" in capsys.readouterr().out


def test_a_step_out_of_time_is_stopped_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocesses, "_GRACE_SECONDS", 1)
    child = "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(os.getpid(), flush=True)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child + '; time.sleep(60)'!r}])"
    log = tmp_path / "log"
    start = time.monotonic()
    result = subprocesses.run_command(Command("slow", [sys.executable, "-c", parent], 2, log))
    assert result.status is None and time.monotonic() - start < 20
    assert "stopped" in subprocesses.status_text(result)
    pid = int(log.read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        for _ in range(50):  # until its new parent has noticed
            os.kill(pid, 0)
            time.sleep(0.1)


def test_an_interrupted_step_may_write_what_it_has(tmp_path):
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('kept')"
    result = subprocesses.run_command(Command("slow", [sys.executable, "-c", code], 1, tmp_path / "log"))
    assert result.status is None and (tmp_path / "log").read_text() == "kept\n"


def test_steps_side_by_side_and_one_without_time(tmp_path):
    code = "import os, sys; print(os.environ['WORD']); sys.exit(3)"
    ran, skipped = subprocesses.run_together(
        [
            Command("a", [sys.executable, "-c", code], 60, tmp_path / "a", {"WORD": "seen"}),
            Command("b", [sys.executable, "-c", code], 0),
        ]
    )
    assert (
        ran.status == 3
        and (tmp_path / "a").read_text() == "seen\n"
        and "FAILED with status 3" in subprocesses.status_text(ran)
    )
    assert skipped == CommandResult("b", None, 0.0) and "not started" in subprocesses.status_text(skipped)


def test_gpu_without_one_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_gpu.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_files_with_tests_for_a_gpu_are_found():
    names = {Path(path).name for path in run_gpu.gpu_tests()}
    assert {"test_loss.py", "test_ops.py", "test_retinex.py"} <= names
    assert not {"test_weights.py", "test_images.py", "test_demo.py"} & names


def stay(tmp_path, device="cuda"):
    (tmp_path / "results").mkdir()
    return run_gpu.GpuRun(device, tmp_path / "results", tmp_path, tmp_path / "copies")


def test_memory_checks_run_where_their_tool_is(monkeypatch, tmp_path, capsys):
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    here = stay(tmp_path)
    (checks,) = run_gpu.sanitizer_stage(here)
    assert [check.command[:3] for check in checks] == [
        [str(tool), "--tool", name] for name in ("memcheck", "racecheck")
    ]
    for case in smoke.SMALL:
        assert cli._parse([*case.format(fused="triton").split(), "--check"]).check
    monkeypatch.setattr(run_gpu, "find_tool", lambda name: None)
    assert run_gpu.sanitizer_stage(here) == run_gpu.ncu_stage(here) == []
    assert "racecheck: skipped" in capsys.readouterr().out


def test_every_stage_is_commands_with_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(run_gpu, "find_tool", lambda name: name)
    here = stay(tmp_path)
    for stage, steps_of in run_gpu.STAGES.items():
        groups = steps_of(here)
        assert groups and all(0 < step.seconds <= 180 for group in groups for step in group), stage


@pytest.mark.parametrize("status", [0, 1])
def test_a_stage_leaves_its_results_and_what_it_said_at_once(tmp_path, capsys, status):
    here = stay(tmp_path)
    (here.results / "loss.json").write_text("{}")
    (here.logs / "tests.log").write_text("error one\n7 passed in 1 s\n")
    here.finish("tests", [CommandResult("tests", status, 1.0)])
    assert here.failed == bool(status)
    assert {path.name for path in here.out.iterdir()} == {"loss.json", "checks.json"}
    (row,) = json.loads((here.out / "checks.json").read_text())["rows"]
    assert (row["stage"], row["status"]) == ("tests", status)
    out = capsys.readouterr().out
    assert "7 passed" in out and ("error one" in out) == bool(status)


def test_files_that_compare_no_providers_are_not_judged(tmp_path):
    rows = {"convolutions": {"kind": "convolutions", "rows": [{"part": "forward"}]}, "loss": {"rows": []}}
    for name, content in rows.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert run_all.read_contents(tmp_path, ["convolutions", "exposing", "loss"]) == [{"rows": []}]


def test_the_compiled_baselines_become_one_file(tmp_path):
    for name, op in (("loss-compiled", "loss"), ("step-compiled", "step")):
        content = {"environment": {}, "device": "cuda", "complete": op == "loss", "rows": [{"op": op}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    run_gpu.merge_compiled(tmp_path, tmp_path / "compiled.json")
    content = json.loads((tmp_path / "compiled.json").read_text())
    assert [row["op"] for row in content["rows"]] == ["loss", "step"] and not content["complete"]


def test_what_exposing_times_was_compiled_ahead(monkeypatch):
    """Weights, and what is computed from them, are part of a kernel's code: with others it would compile again."""
    pytest.importorskip("triton")
    import sci_kernels.triton
    from bench.kernels import compile_ahead

    network, passed = EnhanceNetwork(), []
    load_weights(network)
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)

    def launch(given, numbers, illumination, exposure, black, gain):
        passed.append((given.dtype, numbers, illumination, exposure.dtype, black, gain))
        return given.clone(), None, torch.zeros(1, 1, 4, 4) if gain else None

    monkeypatch.setattr(sci_kernels.triton, "launch_enhance", launch)
    monkeypatch.setattr(ops.enhancing_ops, "triton_launchers", lambda device: sci_kernels.triton)
    cases = compile_ahead.cases_to_compile()
    for gain in (False, True):
        sci_kernels.enhance(image, fold(network), exposure=8.0, return_gain=gain, impl="triton")
        with FakeTensorMode():
            cases[f"enhance, default weights, exposed, gain {gain}"].call()
        called, ahead = passed[-2:]
        assert called == ahead and ahead[-1] == gain


@pytest.mark.slow
def test_a_rehearsal_runs_the_stages_on_a_cpu(tmp_path, capfd):
    assert run_gpu.main(["--rehearse", "--stages", "tests,compiled,sanitizer,ncu", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"checks.json", "compiled.json"}
    rows = json.loads((tmp_path / "checks.json").read_text())["rows"]
    assert [(row["step"], row["status"]) for row in rows] == [("tests", 0), ("loss-compiled", 0)]
    out = capfd.readouterr().out
    assert "everything" in out and "ncu: skipped" in out
