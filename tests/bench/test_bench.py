"""The comparisons: nothing is timed that is wrong, nothing that happens is lost, every figure is what it says."""

import functools
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.baselines import twelve_pairs
from bench.compare import cases, cli, runner
from bench.measure import clock, memory
from bench.suite import run_all
from model.machine import free_memory
from tests.conftest import ROOT

LOSS_PARTS = ("forward", "backward", "backward illumination", "forward+backward")


@pytest.fixture(autouse=True)
def small_copy(monkeypatch):
    """A copy of little memory, no process for each figure of memory, and no figures that have tests of their own."""
    monkeypatch.setattr(cli, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(runner, "extra_memory", lambda *args: 12345)
    monkeypatch.setattr(runner, "stream_time", lambda *args: {})
    monkeypatch.setattr(runner.Comparison, "count_calls", lambda self: None)


def run(tmp_path, text, expected=0):
    """The command's JSON."""
    file = tmp_path / "rows.json"
    assert cli.main([*text.split(), "--device", "cpu", "--repeats", "3", "--json", str(file)]) == expected
    return json.loads(file.read_text())


def test_every_provider_and_part_is_a_row(tmp_path, capsys):
    content = run(tmp_path, "loss --size 24x16,20x12 --color ycbcr,reference --providers reference,pairs,blocked")
    rows = content["rows"]
    assert content["complete"] and content["device"] == "cpu" and content["environment"]["torch"]
    found = [(row["color"], row["width"], row["height"], row["part"], row["provider"]) for row in rows]
    sizes = ((24, 16), (20, 12))
    providers = ("reference", "pairs", "blocked")
    assert found == [
        (color, *size, part, provider)
        for color, size, part, provider in itertools.product(("ycbcr", "reference"), sizes, LOSS_PARTS, providers)
    ]
    assert all(row["status"] == "ok" and row["repeats"] == 3 for row in rows)
    out = capsys.readouterr().out
    assert "loss ycbcr 24x16 float32" in out and "parity" in out


def test_the_figures_of_a_row_agree(tmp_path):
    rows = run(tmp_path, "retinex --size 32x24 --providers reference,blocked")["rows"]
    moved = {"forward": 60, "backward": 84, "forward+backward": 144}
    for row in rows:
        ms = row["ms"]
        assert 0 < ms["p20"] <= ms["median"] <= ms["p80"] and row["device_ms"] is None
        assert row["gb_per_s"] == pytest.approx(moved[row["part"]] * 32 * 24 / ms["median"] / 1e6)
        assert row["copy_share"] == pytest.approx(row["gb_per_s"])  # the copy moves 1 GB/s here
        (other,) = row["times_faster_than"]
        (theirs,) = (r for r in rows if r["part"] == row["part"] and r["provider"] == other)
        assert row["times_faster_than"][other] == pytest.approx(theirs["ms"]["median"] / ms["median"])
        assert (row["extra_bytes"] == 12345) == (row["part"] == "forward+backward")
    new = {row["provider"]: row["new_size_ratio"] for row in rows if row["part"] == "forward+backward"}
    assert new["reference"] is None and new["blocked"] > 0


@pytest.mark.slow
def test_a_compiled_reference_is_measured_and_a_new_size_compiles_nothing_where_it_is_dynamic(tmp_path, monkeypatch):
    # Half a minute less than with Inductor, which the rehearsal in test_bench_suite.py runs.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    command = "retinex --size 24x16,32x16 --providers reference,compiled,compiled-dynamic --parts forward+backward"
    rows = {(row["provider"], row["width"]): row for row in run(tmp_path, command)["rows"]}
    first = {key: row["first_call_s"] for key, row in rows.items()}
    assert first["compiled", 32] > 20 * first["compiled-dynamic", 32]
    assert rows["compiled", 24]["new_size_s"] is None and rows["compiled-dynamic", 24]["new_size_s"] > 0


def test_bytes_are_those_counted_by_hand():
    case = cases.Case("loss", 10, 10)
    assert [case.moved_bytes(part) for part in LOSS_PARTS] == [2400, 4800, 3600, 7200]
    assert cases.Case("retinex", 10, 10, torch.float16).moved_bytes("backward") == 4200
    assert case.input_bytes == sum(tensor.nbytes for tensor in case.inputs("cpu"))


@pytest.mark.quick(provider=["reference"])
@pytest.mark.parametrize("provider", ["reference", "pairs"])
def test_the_memory_needed_is_estimated_well(provider):
    case = cases.Case("loss", 480, 640)
    used = memory.extra_memory("bench.compare.cases:memory_call", "loss", provider, "ycbcr", 480, 640, "float32")
    assert 0.6 * case.needed_bytes(provider) < used < 1.5 * case.needed_bytes(provider)


@pytest.mark.parametrize("wrong_at", [131, 16], ids=["small size, float64", "measured size"])
@pytest.mark.parametrize("what", ["loss", "one element of a gradient"])
def test_wrong_numbers_are_not_timed(tmp_path, monkeypatch, capsys, wrong_at, what):
    def wrong(input, illumination, *args):
        loss = twelve_pairs(input, illumination, *args)
        if input.shape[2] != wrong_at:
            return loss
        return loss * 1.0001 if what == "loss" else loss + 1e-3 * (illumination[0, 0, -1, -1] - 0.3)

    monkeypatch.setattr(cases, "twelve_pairs", wrong)
    monkeypatch.setattr(runner, "take_turns", lambda *args: pytest.fail("timed without parity"))
    rows = run(tmp_path, "loss --size 24x16 --color rgb --providers blocked,pairs", 1)["rows"]
    assert [row["part"] for row in rows] == [None]
    assert "not timed: parity" in rows[0]["status"] and "pairs" in rows[0]["status"]
    assert "pairs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("dtype", cases.OP_DTYPES["loss"])
@pytest.mark.parametrize("op", ["loss", "retinex"])
def test_parity_of_every_dtype_can_be_checked_alone(tmp_path, monkeypatch, dtype, op):
    monkeypatch.setattr(runner, "take_turns", lambda *args: pytest.fail("timed in a check"))
    providers = ",".join(name for name in ("reference", "pairs", "blocked") if name in cases.PROVIDERS[op])
    content = run(tmp_path, f"{op} --check --size 30x21 --dtype {dtype} --providers {providers}")
    assert content["rows"] == [] and content["complete"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory", 0),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory", 0),
        (ZeroDivisionError("by nothing\nat all"), "failed: ZeroDivisionError: by nothing", 1),
    ],
    ids=["gpu memory", "cpu memory", "other"],
)
def test_a_provider_that_fails_is_a_row_and_the_rest_goes_on(tmp_path, monkeypatch, error, status, code):
    def fail(*args):
        raise error

    monkeypatch.setattr(cases, "twelve_pairs", fail)
    rows = run(tmp_path, "loss --size 24x16 --color rgb --providers pairs,blocked --parts forward", code)["rows"]
    assert [(row["provider"], row["status"]) for row in rows] == [("pairs", status), ("blocked", "ok")]


def test_what_does_not_fit_is_refused_before_it_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "free_memory", lambda device: 24 * 16 * 700)
    functions = {name: cases.function_of("loss", name, "rgb") for name in ("pairs", "blocked")}
    monkeypatch.setattr(runner, "function_of", lambda op, provider, color: functions[provider])
    monkeypatch.setattr(runner, "small_error", lambda *args: 0.0)
    command = "loss --size 24x16 --color rgb --providers reference,blocked --parts forward"
    refused, measured = run(tmp_path, command)["rows"]
    assert refused["status"].startswith("refused: needs about") and measured["status"] == "ok"


def test_time_that_is_spent_is_said(tmp_path):
    rows = run(tmp_path, "loss --size 24x16 --color rgb --providers pairs,blocked --seconds 0")["rows"]
    assert [row["provider"] for row in rows] == ["pairs", "blocked"]
    assert all("--seconds is up" in row["status"] for row in rows)


def test_an_interrupt_leaves_the_rows_so_far(tmp_path, monkeypatch, capsys):
    parts = iter("ab")

    def take_turns(*args):
        if next(parts) == "b":
            raise KeyboardInterrupt
        return clock.take_turns(*args)

    monkeypatch.setattr(runner, "take_turns", take_turns)
    content = run(tmp_path, "loss --size 24x16 --color rgb --providers pairs,blocked", 130)
    assert [row["part"] for row in content["rows"]] == ["forward", "forward"] and not content["complete"]
    assert "2 rows kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        ("--size 5k", "600x400, 1080p, 4k, 8k"),
        ("--size 2x9", "at least 3x3"),
        ("--size 64x", "WIDTHxHEIGHT"),
        ("--providers cuda", "reference, pairs, blocked, native, triton, compiled, compiled-dynamic, written-out"),
        ("--color yuv", "reference, ycbcr, rgb"),
        ("--parts back", "forward, backward, backward illumination, forward+backward"),
    ],
)
def test_unknown_words_name_the_known_ones(capsys, arguments, known):
    with pytest.raises(SystemExit) as stop:
        cli.main(["loss", *arguments.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and known in error and repr(arguments.split()[1]) in error


@pytest.mark.parametrize(("main", "op"), [(cli.main, ["loss"]), (run_all.main, [])], ids=["loss", "all"])
def test_no_gpu_is_one_line(monkeypatch, capsys, main, op):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        main([*op, "--device", "cuda"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "--device cuda" in error


def test_triton_is_not_timed_interpreted(capsys):
    assert cli.main(["loss", "--device", "cpu", "--providers", "triton"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "needs a GPU" in error and "blocked" in error


def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "Comparison", lambda *args: pytest.fail("measured"))
    assert cli.main(["loss", "--device", "cpu", "--json", str(tmp_path / "none" / "rows.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_anywhere_counts():
    good = torch.ones(50, 50)
    border, missing = good.clone(), good.clone()
    border[0, 49], missing[3, 3] = 1.25, math.nan
    assert cases.worst_error([good], [good]) == 0
    assert cases.worst_error([good, border], [good, good]) == 0.25
    assert cases.worst_error([missing, good], [good, good]) == math.inf
    assert cases.worst_error([good], [torch.zeros(50, 50)]) == math.inf


def test_retinex_inputs_reach_every_clamp_but_stay_off_the_edge_that_rounding_decides():
    residual, stage_input, image = cases.Case("retinex", 60, 80).inputs("cpu")
    total = residual + stage_input
    quotient = image / total.clamp(1e-4, 1)
    assert (total > 1).any() and (quotient > 1).any() and (quotient < 1).any()
    assert (quotient - 1).abs().min() > 0.04


def test_a_small_case_and_another_size_keep_the_alignment():
    for width in (3, 600, 639, 3840):
        case = cases.Case("loss", 400, width)
        assert case.small().width % 4 == case.another_size().width % 4 == width % 4
    assert cases.Case("loss", 400, 600).another_size() != cases.Case("loss", 400, 600)


class FakeGpu:
    """A clock that advances by what is called, and the launches it has seen."""

    def __init__(self, monkeypatch):
        self.now, self.slept, self.indices = 0.0, [], []
        gpu = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = gpu.now

            def synchronize(self):
                pass

            def elapsed_time(self, end):
                return 1e3 * (end.at - self.at)

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "_sleep", self.slept.append)
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def call(self, index):
        self.indices.append(index)
        self.now += 1e-4


def test_a_gpu_is_timed_in_batches_on_rotating_inputs(monkeypatch):
    fake = FakeGpu(monkeypatch)
    calls = {"a": clock.Repeated(fake.call, 3, "cuda")}
    warm = len(fake.indices)
    called, queued = clock.take_turns(calls, 5, "cuda")["a"]
    assert called.median == pytest.approx(1e-4) and queued.median == pytest.approx(1e-4)
    assert called.repeats == queued.repeats == 5
    batch = 20  # of 0.1 ms, to fill 2 ms
    assert len(fake.indices) - warm == 10 * batch
    assert fake.indices == [index % 3 for index in range(len(fake.indices))]
    assert fake.slept == [int(1.5 * batch * 1e-4 * 2e9)] * 5  # before the queued ones alone


def test_inputs_exceed_twice_the_cache(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda: SimpleNamespace(L2_cache_size=60_000_000), raising=True
    )
    assert clock.sets_needed(1, "cpu") == 1
    assert clock.sets_needed(200_000_000, "cuda") == 2
    assert clock.sets_needed(5_760_000, "cuda") * 5_760_000 > 120_000_000
    assert clock.sets_needed(1000, "cuda") == clock.MAX_SETS


def test_compilers_start_with_empty_caches_and_get_theirs_back(monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "mine")
    with clock.fresh_compilers(False):
        folder = Path(os.environ["TRITON_CACHE_DIR"])
        assert folder.parent.is_dir() and not folder.exists()
        assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == folder.parent
    assert os.environ["TRITON_CACHE_DIR"] == "mine" and not folder.parent.exists()


def test_a_copy_has_a_bandwidth_and_a_system_free_memory():
    assert 1e8 < clock.copy_bandwidth("cpu") < 1e13
    free = free_memory("cpu")
    assert free is None or free > 1e6


def test_what_the_comparisons_need_is_torch_and_the_library():
    code = (
        "import sys\n"
        "for name in ('PIL', 'safetensors', 'tqdm', 'tensorboard', 'skimage', 'matplotlib', 'pytest'):\n"
        "    sys.modules[name] = None\n"
        "import bench.compare.cli, bench.suite.run_all, bench.suite.run_gpu, bench.promises, bench.kernels"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
