"""The performance page and the README's chart: every number comes from a file; what no file has is "not measured"."""

import json
import re
import sys
from pathlib import Path

import pytest

from bench.__main__ import main as bench
from bench.report import gain_chart, kernel_drawings, performance_page, performance_text, tables
from bench.report import results as sources
from tests.conftest import ROOT

ENVIRONMENT = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789" * 4 + " with changes",
    "system": "Linux x86_64",
    "cpu": "Some(R) Processor",
    "threads": 2,
    "gpu": None,
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "triton": None,
}
TEXT = "# Title\n\nbefore\n\n<!-- gain -->\nold\n<!-- /gain -->\n\n## After\n"


def row(provider: str | None, part: str | None, size=(60, 40), status="ok", op="loss", median=12.5, **more) -> dict:
    found = {"op": op, "width": size[0], "height": size[1], "dtype": "float32", "color": "ycbcr"}
    found |= {"provider": provider, "part": part, "status": status}
    if status == "ok":
        found["ms"] = {"median": median, "p20": 0.9 * median, "p80": 1.1 * median}
        found |= {"device_ms": None, "gb_per_s": 3.21, "copy_share": 0.25, "extra_bytes": None}
        found["times_faster_than"] = {} if provider == "reference" else {"reference": 41.26}
    return found | more


def results(rows: list[dict], **more) -> dict:
    return {"environment": ENVIRONMENT, "device": "cpu", "complete": True, "rows": rows} | more


FIGURES = {
    "environment": ENVIRONMENT,
    "figures": [
        {"what": "a | figure", "bound": ">= 3x", "measured": "5.6x", "passed": True},
        {"what": "another", "bound": ">= 4x", "measured": "2.2x", "passed": False},
        {"what": "a third", "bound": "1e-9", "measured": "skipped: no folder /somewhere", "passed": None},
    ],
}
KERNELS = [
    {"target": "sm_90", "kernel": kernel, "case": f"fp32 {case}", "registers": 125, "stack": stack}
    | {"instructions": 212.4, "bytes": 24.0}
    for kernel, case, stack in (("loss_fwd", "ycbcr 3 both", 0), ("retinex_fwd", "retinex", 8))
]
LOSS = [
    row("reference", "forward+backward", median=515.0, first_call_s=0.6, extra_bytes=240_000_000),
    row("blocked", "forward+backward", first_call_s=0.02, new_size_ratio=1.04, launches=None),
    row("reference", "forward+backward", (600, 400), "out of memory"),
    row("blocked", "forward+backward", (600, 400), median=1250.0),
    row("blocked", "forward"),
]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A README and folders of pages, results and pictures, where the command looks for them."""
    monkeypatch.setattr(performance_page, "README", tmp_path / "README.md")
    monkeypatch.setattr(performance_page, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(performance_page, "PICTURES", tmp_path / "pictures")
    performance_page.README.write_text(TEXT, "utf-8")
    (tmp_path / "results" / "cpu").mkdir(parents=True)
    return tmp_path


def run(place: Path, *options: str, **files: object) -> tuple[int, str]:
    """Exit status, and the performance page afterwards; `files` are contents of results by name."""
    for name, content in files.items():
        (place / "results" / "cpu" / f"{name}.json").write_text(json.dumps(content), "utf-8")
    status = performance_page.main(["--results", str(place / "results"), *options])
    page = place / "docs" / "performance.md"
    return status, page.read_text("utf-8") if page.exists() else ""


def line(text: str, start: str) -> list[str]:
    """The cells of a table's line."""
    (found,) = [each for each in text.splitlines() if each.startswith(f"| {start} |")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", found)[2:-1]]


def test_without_results_everything_is_not_measured(place):
    status, text = run(place)
    assert status == 0
    assert "Not yet measured on a GPU" in text
    for op in ("loss", "retinex", "step", "enhance"):
        assert f"Not measured: no file of `python -m bench {op}`." in text
    assert text.startswith("# Performance\n")
    readme = performance_page.README.read_text("utf-8")
    assert readme.startswith("# Title\n\nbefore\n\n<!-- gain -->\nNot measured: ")
    assert readme.endswith("<!-- /gain -->\n\n## After\n") and "\nold\n" not in readme
    assert not (place / "docs" / "pictures" / "gain.svg").exists()
    assert (place / "docs" / "pictures" / "kernels" / "pairs.svg").is_file()


def test_figures_missed_and_not_measured(place):
    second = FIGURES | {"figures": [FIGURES["figures"][1] | {"bound": ">= 9x"}]}
    _, text = run(place, **{"figures": FIGURES, "figures-other": second})
    assert line(text, "a \\| figure") == [">= 3x", "5.6x", "not measured"]
    assert line(text, "another") == [">= 4x", "**missed:** 2.2x", "**missed:** 2.2x (its bound was >= 9x)"]
    assert line(text, "a third") == ["1e-9", "not measured", "not measured"]
    assert "/somewhere" not in text


def test_a_table_says_where_it_comes_from(place):
    _, text = run(place, loss=results(LOSS))
    command = "python -m bench loss --device cpu --size 60x40,600x400 --color ycbcr --providers reference,blocked"
    for fact in ("Some Processor, 2 threads", "torch 2.13.0+cpu", "`0123456 with changes`", "2026-01-02", command):
        assert fact in text
    _, text = run(place, loss=results(LOSS, command="python -m bench loss --as-recorded"))
    assert "by `python -m bench loss --as-recorded`" in text


def test_numbers_ratios_and_reasons(place):
    _, text = run(place, loss=results(LOSS))
    assert [cells for cells in text.splitlines() if cells.startswith("| `blocked`")][0] == (
        "| `blocked` | 12.5 ms (41.3x) | 1.25 s (41.3x) |"
    )
    assert "| `reference` | 515 ms | out of memory |" in text
    details = text.split("everything measured at 60x40")[1]
    head = line(details, "provider")
    assert head[:2] == ["forward and backward", "forward"] and "launches" not in head
    cells = dict(zip(head, line(details, "`reference`"), strict=True))
    assert cells["forward"] == "not measured" and cells["forward and backward"] == "515 ms [464 ms, 566 ms]"
    assert (
        cells["peak memory"] == "240 MB" and cells["first call"] == "600 ms" and cells["a new size"] == "not measured"
    )
    assert cells["GB/s (of a copy)"] == "3.21 (25%)"


def test_failed_parity_is_said_and_nothing_else(place):
    _, text = run(place, loss=results([row(None, None, status="not timed: parity above 1e-05 of blocked 2e-02")]))
    assert "Not measured: not timed: parity above 1e-05 of blocked 2e-02." in text
    partly = [*LOSS[:2], row(None, None, (600, 400), "not timed: parity above 1e-05")]
    _, text = run(place, loss=results(partly, complete=False))
    assert "| `blocked` | 12.5 ms (41.3x) | not timed: parity above 1e-05 |" in text
    assert "stopped before its end" in text


def test_a_folder_beside_its_coding(place):
    _, text = run(place)
    assert "Not measured here: `python -m bench enhance --folder 12` measures it." in text
    about = {"op": "folder", "width": 1920, "height": 1080, "dtype": "uint8", "provider": "ours", "pictures": 12}
    rate = {"median": 1.234, "p20": 1.2, "p80": 1.3}
    measured = about | {"status": "ok", "made": True, "pictures_per_s": rate, "coding_per_s": rate | {"median": 1.5}}
    png, jpg = (
        measured | {"part": "png", "share": 0.82, "must": 0.8},
        measured | {"part": "jpg", "share": 0.4, "must": None},
    )
    _, text = run(place, folder=results([png, jpg]))
    assert "by `python -m bench enhance --device cpu --folder 12`" in text
    rates = ["1.23/s [1.2, 1.3]", "1.5/s [1.2, 1.3]"]
    assert line(text, "12 JPEGs of 1920x1080 to PNG") == [*rates, "82%", ">= 80%"]
    assert line(text, "12 JPEGs of 1920x1080 to JPG") == [*rates, "40%", "no bound"]
    wrong = about | {
        "part": "jpg",
        "made": False,
        "status": "not timed: 1.jpg differs from the picture enhanced by itself",
    }
    _, text = run(place, folder=results([png | {"share": 0.79, "made": False}, wrong]))
    assert "--folder DIR`" in text and line(text, "12 JPEGs of 1920x1080 to PNG")[2] == "**missed:** 79%"
    assert line(text, "12 JPEGs of 1920x1080 to JPG")[0] == wrong["status"]


def test_steps_show_their_parts(place):
    parts = {"network": 100.0, "loss": 20.0, "backward": 150.0}
    largest = {"memory_bytes": 24 << 30, "width": 7000, "height": 4000}
    more = {"gb_per_s": None, "copy_share": None, "largest_planned": largest}
    _, text = run(place, step=results([row("ours", "step", op="step", breakdown_ms=parts, **more)]))
    assert "| 7000x4000 in 24 GiB |" in text and "GB/s (of" not in text
    assert "| `ours` | 100 ms | 20.0 ms | 150 ms | not measured |" in text
    assert "](../bench/pictures/cpu/step/step-ycbcr-float32-breakdown.svg)" in text
    assert (performance_page.PICTURES / "cpu" / "step" / "step-ycbcr-float32-breakdown.svg").is_file()


@pytest.mark.parametrize("content", [KERNELS, {"environment": ENVIRONMENT, "rows": KERNELS}])
def test_kernels_are_counted_not_measured(place, content):
    _, text = run(place, kernels=content)
    assert line(text, "loss, forward, ycbcr") == ["125", "212", "24", "0.053", "0.041"]
    assert "Of the 2 kernels in that file, 1 spilled" in text and "Counted, not measured" in text
    assert "python -m bench kernels --target sm_90 --only '^fp32'" in text
    assert ("versions not recorded" in text) is isinstance(content, list)


def test_with_a_gpu_it_is_no_longer_unmeasured(place):
    gpu = ENVIRONMENT | {"gpu": "NVIDIA H200", "runtime": "CUDA 13.0"}
    timed = row("triton", "forward", (3840, 2160), median=0.08, device_ms={"median": 0.071}, color="ycbcr")
    _, text = run(place, loss=results([timed], device="cuda", environment=gpu), kernels=KERNELS)
    assert "Not yet measured on a GPU" not in text and "On NVIDIA H200" in text and "CUDA 13.0" in text
    on_gpu = text.split("## On a GPU")[1]
    assert "71.0 µs" in on_gpu and "no file of `python -m bench retinex`" in on_gpu
    drawing = (performance_page.PICTURES / "cpu" / "kernels" / "roofline-sm_90.svg").read_text("utf-8")
    assert "Filled: measured" in drawing


def test_memory_of_the_operation_is_shown_beside_its_first_part(place):
    """As of enhancing, whose first part is timed alone."""
    rows = [
        row(
            "ours",
            part,
            size,
            op="enhance",
            color=None,
            extra_bytes=memory,
            first_call_s=None if memory is None else 2.0,
        )
        for size in ((60, 40), (600, 400))
        for part, memory in (("reflectance", None), ("forward", size[0] * 100_000))
    ]
    _, text = run(place, enhance=results(rows))
    assert "60.0 MB" in text and "2.00 s" in text
    assert "](../bench/pictures/cpu/enhance/enhance-float32-memory.svg)" in text


def test_a_processor_has_its_vectors_beside_its_name(place):
    _, text = run(place, loss=results(LOSS, environment=ENVIRONMENT | {"vectors": "AVX2"}))
    assert "On Some Processor (AVX2), 2 threads, " in text


def test_a_gpu_has_its_convolutions_exposing_and_graphs(place):
    gpu = {"device": "cuda", "environment": ENVIRONMENT | {"gpu": "NVIDIA H200"}}
    graph = [
        row(name, "step of 8", op="step", color=None, batch=8, times_faster_than={other: ratio})
        for name, other, ratio in (("ours", "ours --graph", 0.4), ("ours --graph", "ours", 2.5))
    ]
    layer = {"part": "forward", "precision": "TF32", "ms": 0.42, "gb_per_s": 1.0, "kernels": []}
    layers = [layer | {"layout": "NCHW"}, layer | {"provider": "triton", "layout": "NCHW", "ms": 0.2}]
    call = {"call": "denoise", "width": 60, "height": 40, "status": "ok", "error": 0.0, "must": None}
    call |= {"ms": {"median": 0.3, "p20": 0.3, "p80": 0.3}, "device_ms": {"median": 0.2, "p20": 0.2, "p80": 0.2}}
    convolutions = results(layers, kind="convolutions", **gpu)
    exposing = results([call], kind="exposing", command="python -m bench exposing --device cuda", **gpu)
    _, text = run(place, graph=results(graph, **gpu), convolutions=convolutions, exposing=exposing)
    on_cpu, on_gpu = text.split("## On a GPU")
    assert "`python -m bench step --graph --batch 8 --device cuda --size 60x40`" in on_gpu
    assert "part of a step" not in text  # which nobody measured
    assert "| TF32, forward | 420 µs | not measured | 200 µs |" in on_gpu
    assert "| `denoise`, 60x40 | 300 µs [300 µs, 300 µs] | 200 µs | no bound |" in on_gpu
    assert "no file of `python -m bench exposing`" in on_cpu


def test_a_cpu_beside_a_gpu_is_not_called_one(place):
    _, text = run(place, loss=results(LOSS, environment=ENVIRONMENT | {"gpu": "NVIDIA H200"}))
    (picture,) = performance_page.PICTURES.rglob("*.svg")
    assert "H200" not in text.split("## On a GPU")[0] and "H200" not in picture.read_text("utf-8")


def test_a_refusal_stands_where_its_numbers_would(place):
    refused = row("reference", None, status="refused: needs about 8.0 GB, 4.0 GB are free")
    _, text = run(place, loss=results([refused, *LOSS[1:2]]))
    assert text.count("| refused: needs about 8.0 GB, 4.0 GB are free |") == 2  # in the table and in the details


def test_check_sees_a_hand_edit_and_writes_nothing(place, capsys):
    assert run(place, "--check", loss=results(LOSS))[0] == 1
    assert performance_page.README.read_text("utf-8") == TEXT and not performance_page.PICTURES.exists()
    assert run(place)[0] == 0 and run(place, "--check")[0] == 0
    page = place / "docs" / "performance.md"
    good = page.read_text("utf-8")
    assert "12.5 ms" in good
    page.write_text(good.replace("12.5 ms", "11.5 ms"), "utf-8")
    capsys.readouterr()
    assert run(place, "--check")[0] == 1
    assert "performance.md: differs" in capsys.readouterr().out
    page.write_text(good, "utf-8")
    # Outside the markers the README is its author's.
    readme = performance_page.README.read_text("utf-8")
    performance_page.README.write_text(readme.replace("## After", "## Afterwards"), "utf-8")
    assert run(place, "--check")[0] == 0
    performance_page.README.write_text(readme.replace("Not measured", "A million times faster"), "utf-8")
    assert run(place, "--check")[0] == 1


def test_check_sees_changed_and_stale_pictures(place, capsys):
    run(place, loss=results(LOSS))
    (picture,) = performance_page.PICTURES.rglob("*.svg")
    whole = picture.read_text("utf-8")
    picture.write_text(whole.replace("1.25 s", "1.15 s"), "utf-8")
    stale = performance_page.PICTURES / "cpu" / "gone" / "loss-rgb-float32-time.svg"
    stale.parent.mkdir()
    stale.write_text("<svg/>")
    kept = performance_page.PICTURES / "before-after.svg"  # not in a folder of results: somebody else's
    kept.write_text("<svg/>")
    capsys.readouterr()
    assert run(place, "--check")[0] == 1
    assert {text.split(":")[0].rsplit("/", 1)[1] for text in capsys.readouterr().out.splitlines()} == {
        picture.name,
        stale.name,
    }
    assert run(place)[0] == 0 and picture.read_text("utf-8") == whole and not stale.exists() and kept.exists()


@pytest.mark.parametrize(
    ("readme", "name", "content", "says"),
    [
        ("no markers", "loss", results(LOSS), "README.md: expected one <!-- gain -->"),
        (TEXT + TEXT, "loss", results(LOSS), "README.md: expected one <!-- gain -->"),
        (TEXT, "loss", "nonsense", "loss.json: not a result"),
        (TEXT, "loss", {"something": 1}, "loss.json: not a result"),
        (TEXT, "loss", results([{"op": "loss"}]), "loss.json: a row has no 'width'"),
    ],
)
def test_bad_input_is_one_line(place, capsys, readme, name, content, says):
    performance_page.README.write_text(readme, "utf-8")
    assert run(place, **{name: content})[0] == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert says in error and performance_page.README.read_text("utf-8") == readme


def test_without_matplotlib_it_says_so_in_one_line(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(place, loss=results(LOSS))[0] == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "matplotlib is not installed" in error and performance_page.README.read_text("utf-8") == TEXT


def test_no_folder_is_one_line(place, capsys):
    assert performance_page.main(["--results", str(place / "nowhere")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "nowhere: no such folder" in error


def test_registered(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "report", "--results", "/nowhere/at/all"])
    assert bench() == 2 and "/nowhere/at/all" in capsys.readouterr().err


GAIN = [
    row("reference", "forward+backward", (1920, 1080), median=4000.0, color="reference", extra_bytes=2_000_000_000),
    row("pairs", "forward+backward", (1920, 1080), median=400.0, color="reference"),
    row("native", "forward+backward", (1920, 1080), median=20.0, color="reference", extra_bytes=100_000_000),
]


def test_the_chart_and_its_numbers(place):
    run(place, loss=results(GAIN))
    text = performance_page.README.read_text("utf-8")
    cells = ["4.00 s, 2.00 GB", "20.0 ms, 100 MB", "200x"]
    assert line(text, "the loss as a drop-in, 1920x1080, Some Processor, 2 threads") == cells
    assert "](docs/pictures/gain.svg)" in text and (place / "docs" / "pictures" / "gain.svg").is_file()
    panels = gain_chart.panels(sources.read_sources(place / "results"))
    assert [(bar.label, bar.faster) for bar in panels[0].bars] == [
        ("SCI's code", 1), ("12-pair rewrite", 10), ("this library, drop-in", 200),
    ]  # fmt: skip


def test_on_a_gpu_the_chart_has_the_time_on_the_device(place):
    gpu = ENVIRONMENT | {"gpu": "NVIDIA H200"}
    both = [("reference", 50.0, 48.0), ("triton", 1.0, 0.5)]
    size = {"size": (3840, 2160), "color": "reference"}
    rows = [row(name, "forward+backward", median=ms, device_ms={"median": own}, **size) for name, ms, own in both]
    run(place, loss=results(rows, device="cuda", environment=gpu))
    cells = ["48.0 ms", "500 µs", "96x on the device (as a call from Python: 1.00 ms, 50x)"]
    text = performance_page.README.read_text("utf-8")
    assert line(text, "the loss as a drop-in, 3840x2160, NVIDIA H200") == cells


def test_a_chart_needs_both_the_official_code_and_this_library(place):
    run(place, loss=results(GAIN[:2]))
    text = performance_page.README.read_text("utf-8")
    assert "Not measured: no file" in text and "gain.svg" not in text


def test_the_pages_say_what_the_committed_results_say(tmp_path):
    """The text alone: another version of matplotlib may draw the same picture in other bytes."""
    results = ROOT / "bench" / "results"
    found = sources.read_sources(results)
    drawn = performance_page.draw_all(found, results, tmp_path)
    readme, page = ((ROOT / path).read_text("utf-8") for path in ("README.md", "docs/performance.md"))
    assert performance_text.page(found, drawn) == page, "run python -m bench report"
    content = gain_chart.gain_text(found, bool(gain_chart.panels(found)))
    assert performance_page.with_section(readme, content) == readme, "run python -m bench report"
    assert all((ROOT / "bench" / "pictures" / path).is_file() for paths in drawn.values() for path in paths)
    assert (ROOT / "docs" / "pictures" / "gain.svg").is_file()
    assert {
        path.name for path in (ROOT / "docs" / "pictures" / "kernels").iterdir()
    } == kernel_drawings.drawings().keys()


def test_ratios_below_one_keep_a_digit():
    rows = [row("blocked", "forward", times_faster_than={"reference": 0.0234})]
    assert "(0.02x)" in tables.sizes_table(rows)
