"""The pictures: drawn where there are rows for them, the same bytes each time, nothing where there are none."""

import xml.etree.ElementTree as ElementTree

import pytest

from bench.report import roofline, svg_card
from bench.report.plots import draw

ENVIRONMENT = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789" * 4,
    "cpu": "Intel(R) Some Processor",
    "threads": 2,
    "gpu": None,
    "torch": "2.13.0",
    "triton": "3.7.1",
}


def timed(provider: str, width: int, height: int, median: float, **more) -> dict:
    row = {"op": "loss", "width": width, "height": height, "dtype": "float32", "color": "ycbcr", "provider": provider}
    row |= {"part": "forward+backward", "status": "ok", "device_ms": None, "extra_bytes": 100 * width * height}
    return row | {"ms": {"median": median, "p20": 0.9 * median, "p80": 1.2 * median}} | more


def counted(kernel: str, case: str, instructions: float | None, moved: float) -> dict:
    return {"target": "sm_90", "kernel": kernel, "case": case, "instructions": instructions, "bytes": moved}


SIZES = ((60, 40), (192, 108), (384, 216))
LINES = [timed(name, w, h, k * w * h) for name, k in (("reference", 1e-2), ("blocked", 1e-4)) for w, h in SIZES]
STEPS = [
    timed(
        name, 60, 40, total, op="step", color=None, part="step", breakdown_ms={"network": total / 3, "loss": total / 2}
    )
    for name, total in (("reference", 90.0), ("ours", 30.0))
]
KERNELS = [counted("loss_fwd", "fp32 ycbcr 3 both", 212.0, 24.0), counted("retinex_fwd", "fp32 retinex", 39.0, 60.0)]


def comments(path) -> str:
    """What the picture says: matplotlib notes each text beside the paths of its letters."""
    text = path.read_text("utf-8")
    return "\n".join(part.split("-->")[0].strip() for part in text.split("<!--")[1:])


def test_one_picture_where_its_rows_are(tmp_path):
    paths = draw(LINES + STEPS + KERNELS, ENVIRONMENT, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "loss-ycbcr-float32-time.svg",
        "loss-ycbcr-float32-memory.svg",
        "step-float32-breakdown.svg",
        "roofline-sm_90.svg",
    ]
    for path in paths:
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg") and path.stat().st_size < 150_000
        assert "<text" not in path.read_text("utf-8")  # letters are paths: the same whatever fonts a reader has


def test_every_picture_says_what_it_depends_on(tmp_path):
    time, memory, step, roof = (comments(path) for path in draw(LINES + STEPS + KERNELS, ENVIRONMENT, tmp_path))
    for text in (time, memory, step):
        assert "Intel Some Processor, 2 threads" in text and "0123456" in text and "2026-01-02" in text
    assert "blocked  8.29 ms" in time and "reference  829 ms" in time and "384×216" in time
    assert "blocked  8.29 MB" in memory
    assert "30.0 ms   3.0×" in step and "network" in step and "one graph" not in step
    assert "Counted, not measured" in roof and "H200" in roof and "triton 3.7.1" in roof


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first, second = (draw(LINES, ENVIRONMENT, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_line_that_ends_early_says_why(tmp_path):
    gone = {"status": "out of memory", "ms": None}
    rows = [row | gone if row["provider"] == "reference" and row["width"] == 384 else row for row in LINES]
    time, _ = draw(rows, ENVIRONMENT, tmp_path)
    assert "reference  207 ms, then out of memory" in comments(time)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        LINES[:1],  # one size makes no line
        [row | {"status": "refused: too large", "ms": None} for row in LINES],
        [row | {"breakdown_ms": None} for row in STEPS],
        [counted("loss_fwd", "fp32 ycbcr 3 both", None, 24.0)],  # instructions are not counted on AMD
        [counted("loss_fwd", "fp16 rgb 1 input", 80.0, 6.0)],
    ],
)
def test_nothing_is_drawn_of_nothing(tmp_path, rows):
    assert draw(rows, ENVIRONMENT, tmp_path) == [] and not list(tmp_path.glob("*.svg"))


def test_a_compiled_step_has_no_parts(tmp_path):
    compiled = timed("compiled", 60, 40, 45.0, op="step", color=None, part="step", breakdown_ms=None)
    (path,) = draw([*STEPS, compiled], ENVIRONMENT, tmp_path)
    assert "one graph" in comments(path) and "45.0 ms   2.0×" in comments(path)


def test_kernels_that_were_timed_stand_below_their_roof(tmp_path):
    rows = [
        timed(
            "triton", 3840, 2160, 0.08, part="forward", device_ms={"median": 0.0712}, gb_per_s=3000.0, copy_share=0.75
        )
    ]
    assert roofline.reached(KERNELS, rows) == {0: 0.0712}
    assert roofline.reached(KERNELS, [rows[0] | {"color": "reference"}]) == {}
    (path,) = draw(KERNELS + rows, ENVIRONMENT | {"gpu": "NVIDIA H200"}, tmp_path)
    assert "\n0.071\n" in comments(path) and "Filled: measured" in comments(path)
    assert "a copy, measured: 4.00 TB/s" in comments(path)


def test_the_transform_of_one_channel_is_that_of_three():
    row = counted("color_fwd", "fp32 reference 1 both", 9.9, 8.0)
    (found,) = roofline.shown([row], "sm_90")
    assert found["instructions"] == pytest.approx(29.7) and found["bytes"] == 24
    assert roofline.kernel_name(found) == "color transform, reference"


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5], [0.9, 0.1, 0.12, 0.11], [0.3, 0.2, 0.1]])
def test_labels_keep_apart_and_in_order(values):
    placed = svg_card.spread(values, 0.1)
    order = sorted(range(len(values)), key=lambda index: values[index])
    gaps = [placed[b] - placed[a] for a, b in zip(order, order[1:], strict=False)]
    assert all(gap >= 0.1 - 1e-12 for gap in gaps)
    assert sum(placed) == pytest.approx(sum(values))


@pytest.mark.parametrize(
    ("value", "text"), [(0.0042, "4.20 µs"), (0.5, "500 µs"), (12.34, "12.3 ms"), (999.96, "1000 ms"), (1234, "1.23 s")]
)
def test_milliseconds(value, text):
    assert svg_card.milliseconds_text(value) == text
