"""Calls that are counted, streams of sizes, traces, and what is printed of them."""

import contextlib
import json
import os
import re

import pytest
import torch

from bench import baselines
from bench.compare import cases, mixed_sizes, printed_row, runner
from bench.compare import cli as compare
from bench.measure import profiler
from bench.profile import cli as profile
from bench.profile import convolutions, ncu
from bench.report import call_tables
from bench.versions.tritons import NVIDIA_ALONE
from sci_kernels import default_impl, smooth_loss
from tests.conftest import interpreter_fault
from tests.library.test_kernels import KERNELS


@pytest.fixture(autouse=True)
def small_copy(monkeypatch):
    """A copy of little memory, no process for memory, a small size for float64, and no compiler to prepare."""
    monkeypatch.setattr(compare, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(runner, "extra_memory", lambda *args: 12345)
    monkeypatch.setattr(cases.Case, "small", lambda self: cases.replace(self, height=13, width=18))
    monkeypatch.setattr(compare, "fresh_compilers", lambda torch_compile, keep: contextlib.nullcontext())


def run(tmp_path, text, expected=0):
    """The command's rows."""
    file = tmp_path / "rows.json"
    assert compare.main([*text.split(), "--device", "cpu", "--repeats", "1", "--json", str(file)]) == expected
    return json.loads(file.read_text())["rows"]


def test_operators_are_counted_without_those_that_only_call_others():
    x = torch.rand(4, 4, requires_grad=True)
    with torch.no_grad():
        assert profiler.count_calls(profiler.profiled(lambda: (x * x, x.exp()), "cpu"), "cpu") == 2
    twice = profiler.profiled(lambda: torch.autograd.grad((x * x).exp().sum(), x), "cpu")
    once = profiler.profiled(lambda: torch.autograd.grad(x.exp().sum(), x), "cpu")
    assert profiler.count_calls(twice, "cpu") > profiler.count_calls(once, "cpu") > 3


def test_kernels_are_counted_without_copies_and_marks():
    class Event:
        def __init__(self, name, device, microseconds, mark=False):
            self.name, self.device_time_total, self.is_user_annotation = name, microseconds, mark
            self.device_type = getattr(profiler.DeviceType, device)

    class Result:
        def events(self):
            return [
                Event("aten::mul", "CPU", 9),
                Event("fwd_kernel", "CUDA", 3000),
                Event("Memset (Device)", "CUDA", 1),
                Event("sum_kernel", "CUDA", 500),
                Event("fwd_kernel", "CUDA", 1000),
                Event("Optimizer.step", "CUDA", 9000, mark=True),
            ]

    assert profiler.count_calls(Result(), "cuda") == 3
    assert profiler.most_expensive(Result(), "cuda") == [("fwd_kernel", 2, 4.0), ("sum_kernel", 1, 0.5)]


def test_rows_have_their_calls_and_their_stream(tmp_path, monkeypatch):
    found = run(
        tmp_path, "loss --size 24x16 --color rgb --providers reference,blocked --parts forward,forward+backward"
    )
    calls = {(row["provider"], row["part"]): row["operator_calls"] for row in found}
    assert calls["reference", "forward"] > 24 * 5
    assert calls["reference", "forward+backward"] > calls["reference", "forward"]
    for row in found:
        assert ("stream_ms" in row) == (row["part"] == "forward+backward")
        assert row.get("stream_ms", 1) > 0 and row.get("stream_status", "ok") == "ok"


@pytest.mark.parametrize("size", [(400, 600), (2160, 3840), (3, 3)])
def test_a_stream_is_of_different_sizes_the_same_ones_each_time(size):
    case = cases.Case("loss", *size)
    found = mixed_sizes.stream_cases(case)
    assert len({(image.height, image.width) for image in found}) == mixed_sizes.IMAGES == len(found)
    assert found == mixed_sizes.stream_cases(case)
    assert min(min(image.height, image.width) for image in found) >= 3
    if size != (3, 3):
        assert sum(image.pixels for image in found) < 4 * case.pixels


def test_a_stream_that_takes_too_long_is_refused_by_what_is_known_of_it():
    case = cases.Case("loss", 400, 600)
    for seconds in ((100.0, 0.0, 1e9), (0.01, 10.0, 1e9), (0.1, 0.0, 0.05)):
        figures = mixed_sizes.stream_time(lambda *_: pytest.fail("run"), case, "cpu", *seconds)
        assert figures["stream_ms"] is None and figures["stream_status"].startswith("refused: takes about")


@pytest.mark.parametrize("color", ["reference", "ycbcr", "rgb"])
def test_the_operations_written_out_are_the_reference(color):
    for case in (cases.Case("loss", 9, 14, torch.float64), cases.Case("loss", 3, 4, torch.float64)):
        inputs, cotangents = case.inputs("cpu"), case.cotangents("cpu")
        for sigma in (10.0, 0.1):
            got, expected = (
                cases.evaluate(lambda a, b, f=f, sigma=sigma: f(a, b, sigma, color), inputs, cotangents)
                for f in (baselines.written_out, lambda *args: smooth_loss(*args, impl="reference"))
            )
            assert cases.worst_error(got, expected) < 1e-13


def test_the_reference_is_judged_beside_its_operations_written_out(tmp_path, capsys):
    found = run(tmp_path, "loss --size 24x16 --color rgb --providers reference,written-out --parts forward")
    assert [row["provider"] for row in found] == ["reference", "written-out"]
    assert "of its operations written out" in capsys.readouterr().out
    assert printed_row.straw_man(1.1) == printed_row.straw_man(0.9) == "within 15 %"
    assert printed_row.straw_man(0.8) == printed_row.straw_man(1.3) == "NOT within 15 %"
    default = run(tmp_path, "loss --size 24x16 --color rgb --seconds 0")
    assert [row["provider"] for row in default] == [
        "reference",
        "pairs",
        "blocked",
        "native",
        "compiled",
        "compiled-dynamic",
    ]


def test_rows_are_drawn_where_they_are_to_be(tmp_path, monkeypatch, capsys):
    seen = []

    def draw(found, environment, folder):
        seen.append((len(found), environment["gpu"], folder))
        return [folder / "time.svg"]

    monkeypatch.setattr("bench.report.draw", draw)
    run(tmp_path, f"retinex --size 24x16 --providers reference --parts forward --plot {tmp_path}")
    assert seen == [(1, None, tmp_path)] and "time.svg" in capsys.readouterr().out

    def fail(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bench.report.draw", fail)
    run(tmp_path, f"retinex --size 24x16 --providers reference --parts forward --plot {tmp_path}", 2)
    assert "--plot" in capsys.readouterr().err


def test_traces_of_both_are_written_and_the_most_expensive_calls_printed(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert profile.main(["loss", "--size", "24x16", "--device", "cpu", "--out", str(out)]) == 0
    names = [f"loss-ycbcr-24x16-float32-cpu-{provider}.json" for provider in (default_impl("cpu"), "reference")]
    assert sorted(path.name for path in out.iterdir()) == names
    for name, operator in zip(names, ("sci::illumination_loss_fwd", "aten::exp"), strict=True):
        events = json.loads((out / name).read_text())["traceEvents"]
        assert any(operator in event.get("name", "") for event in events)
    head, *lines = capsys.readouterr().out.splitlines()[2:]
    assert head.split("  ")[0] == f"{default_impl('cpu')}, ten most expensive"
    assert head.endswith("reference, ten most expensive")
    assert sum(" ms " in line for line in lines) == 10


@pytest.mark.parametrize(
    ("arguments", "known"), [("lost", "loss, retinex, enhance, step"), ("loss --size 5k", "1080p")]
)
def test_an_unknown_case_lists_the_known_ones(capsys, arguments, known):
    with pytest.raises(SystemExit) as stop:
        profile.main(arguments.split())
    assert stop.value.code == 2 and known in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("loss --size 99999x99999", "GB are free"), ("step --size 24x16 --dtype float16", "float32 or float64")],
)
def test_what_cannot_be_run_is_refused_before_it_is_tried(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(cases.Case, "inputs", lambda *args: pytest.fail("tried"))
    assert profile.main([*arguments.split(), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert profile.main(["loss", "--size", "24x16", "--device", "cpu", "--out", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert "--out" in error and error.count("\n") == 1


STALLED = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
NCU = f"""==PROF== Connected to process 7
"ID","Kernel Name","gpu__time_duration.sum","sm__throughput.avg.pct_of_peak_sustained_elapsed",\
"{STALLED.format("wait")}","{STALLED.format("long_scoreboard")}"
"","","us","%","",""
"0","_loss_forward_kernel","1,052.1","81.0","0.5","2.0"
"1","sum","0.3","n/a","0","0"
"""


def test_what_ncu_reports_is_printed_and_a_missing_ncu_is_said(tmp_path, monkeypatch, capsys):
    tool = tmp_path / "ncu"
    (tmp_path / "figures").write_text(NCU)
    figures = f'while IFS= read -r line; do echo "$line"; done < {tmp_path}/figures'
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n{figures}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/bin")
    assert profile._run_ncu(["loss"], "cuda") == 0
    program, first, second = capsys.readouterr().out.splitlines()
    arguments = (tmp_path / "arguments").read_text()
    assert "--profile-from-start off" in arguments and arguments.endswith("bench profile loss --under-ncu\n")
    assert program.endswith("bench profile loss --under-ncu")
    assert first.split(None, 1) == [
        "loss_forward", "time_us 1052.1, compute 81; waits for long_scoreboard 2.00, wait 0.50"
    ]  # fmt: skip
    assert second.split(None, 1) == ["sum", "time_us 0.3; waits for nothing that it names"]
    assert profile._run_ncu(["loss"], "cpu") == 0 and "not run" in capsys.readouterr().out
    (tmp_path / "figures").write_text("==ERROR== no permission\n")
    assert profile._run_ncu(["loss"], "cuda") == 1 and "no permission" in capsys.readouterr().out
    monkeypatch.setattr(ncu, "find_tool", lambda name: None)
    monkeypatch.setattr(profile, "find_tool", lambda name: None)
    assert profile._run_ncu(["loss"], "cuda") == 0 and "not on PATH" in capsys.readouterr().out


def test_every_rank_is_a_line_even_where_one_has_fewer():
    costs = [profiler.Cost(f"name{rank}" * 12, rank, 1.0) for rank in range(3)]
    lines = profile.side_by_side({"blocked": costs[:1], "reference": costs})
    assert len(lines) == 4 and all("..." in line for line in lines[1:])
    assert [line.count(" ms ") for line in lines[1:]] == [2, 1, 1]


def test_ncu_is_shown_every_kernel(monkeypatch):
    """What the operations do not launch, the other calls do."""
    if reason := interpreter_fault():
        pytest.skip(reason)
    from sci_kernels.triton import launcher

    launch, launched = launcher.Launcher.__call__, set()

    def noted(self, *arguments):
        launched.add(self._kernel.__name__)
        launch(self, *arguments)

    monkeypatch.setattr(launcher.Launcher, "__call__", noted)
    for call in ncu.picture_calls((6, 12), "cpu") + ncu.layer_calls((6, 12), "cpu"):
        call()
    assert all(re.search(ncu.KERNELS, name) for name in launched)
    others = {name for name in KERNELS | NVIDIA_ALONE if not name.startswith(("loss", "color", "retinex"))}
    assert {name.strip("_").removesuffix("_kernel") for name in launched} == others


def test_convolutions_go_on_after_one_that_fails_or_is_wrong(monkeypatch, tmp_path, capsys):
    exact = convolutions.call_of

    def ours(part, x, weight, grad):
        if part == "input gradient":
            raise RuntimeError("no such instruction\nand more")
        call = exact(part, x, weight, grad)
        return (lambda: 1.01 * convolutions._tensor(call())) if part == "weight gradient" else call

    monkeypatch.setattr(convolutions.convolution, "takes", lambda x, weight: x.dtype == torch.float32)
    monkeypatch.setattr(convolutions, "ours", ours)
    file = tmp_path / "convolutions.json"
    assert convolutions.main(["--device", "cpu", "--size", "12x9", "--json", str(file)]) == 1
    rows = json.loads(file.read_text())["rows"]
    status = {row["part"]: row["status"] for row in rows if row["provider"] == "triton"}
    assert status.pop("forward") == "ok" and status.pop("input gradient") == "failed: RuntimeError: no such instruction"
    assert status.pop("weight gradient").startswith("not timed: error ") and not status
    assert len(rows) == 2 * 2 * 3 + 3 and sum(row["status"] == "ok" for row in rows) == len(rows) - 2
    table, lines = call_tables.convolutions_table(rows), capsys.readouterr().out
    assert "failed: RuntimeError: no such instruction" in table and "no such instruction" in lines
