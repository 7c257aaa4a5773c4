"""Tables with a line for each call, of commands that do not compare providers; no cell is left blank."""

from .svg_card import memory_text, milliseconds_text
from .tables import NOT_MEASURED, has, markdown, reason, timing

_STEP_NAMES = {
    "official": "the official code",
    "accelerate": "`sci_kernels.accelerate(network)`, nothing else",
    "network": "this project's `Network` and `LossFunction` in the same loop",
    "trainer": "`python -m train`",
}


def gain_table(rows: list[dict]) -> str:
    """A training step in each of the ways from the official script to the trainer."""
    lines = []
    for row in rows:
        name = _STEP_NAMES[row["way"]] + (f", {row['width']}x{row['height']}" if row["way"] == "official" else "")
        cells = [reason(row), NOT_MEASURED, NOT_MEASURED]
        if row["status"] == "ok":
            missed = "**missed:** " if row["bound"] and row["faster"] < row["bound"] else ""
            peak = NOT_MEASURED if row["extra_bytes"] is None else memory_text(row["extra_bytes"])
            cells = [timing(row), f"{missed}{row['faster']:.1f}x", peak]
        lines.append([name, *cells, f">= {row['bound']:g}x" if row.get("bound") else "no bound"])
    return markdown(["a training step by", "time", "faster", "memory", "bound"], lines)


_CALL_NAMES = {
    "division": "the published division",
    "exposure": "with an exposure",
    "with gain": "with an exposure, and the gain written",
    "denoise": "`denoise`",
    "bilateralFilter": "OpenCV's `bilateralFilter(5, ...)`",
    "finding": "finding the exposure, one thread",
}


def exposing_table(rows: list[dict]) -> str:
    """The time of each call and its bound."""
    lines, on_gpu = [], any(has(row, "device_ms") for row in rows)
    for row in rows:
        name, must = f"{_CALL_NAMES[row['call']]}, {row['width']}x{row['height']}", row["must"]
        missed = "**missed:** " if must and row["status"] == "ok" and row["ms"]["median"] > must else ""
        time = f"{missed}{timing(row)}" if row["status"] == "ok" else reason(row)
        queued = row.get("device_ms")
        cells = [milliseconds_text(queued["median"]) if queued else NOT_MEASURED] if on_gpu else []
        lines.append([name, time, *cells, f"<= {must:.1f} ms" if must else "no bound"])
    return markdown(["call", "time", *(["on the device"] if on_gpu else []), "bound"], lines)


_PAGE_CALLS = {
    "decode": "reading the JPEG",
    "enhance": "enhancing",
    "png": "writing PNG",
    "jpeg": "writing JPEG",
    "memory": "memory, from choosing to saving",
}


def browser_table(rows: list[dict]) -> str:
    """Seconds of each call by each engine of the page, and its memory."""
    lines = []
    for row in rows:
        name, must = f"{_PAGE_CALLS[row['call']]}, {row['width']}x{row['height']}, {row['engine']}", row.get("must")
        in_bytes = "bytes" in row
        measured = reason(row)
        if row["status"] == "ok":
            value = row["bytes"] if in_bytes else row["seconds"]["median"]
            missed = "**missed:** " if must and value > must else ""
            spread = "" if in_bytes else f" [{row['seconds']['p20']:.2f}, {row['seconds']['p80']:.2f}]"
            measured = f"{missed}{value / 1e6:.0f} MB" if in_bytes else f"{missed}{value:.2f} s{spread}"
        bound = f"<= {must / 1e6:.0f} MB" if must and in_bytes else f"<= {must:g} s" if must else "no bound"
        lines.append([name, measured, bound])
    return markdown(["call", "measured", "bound"], lines)


def folder_table(rows: list[dict]) -> str:
    """Pictures per second of the command, and of decoding and encoding alone."""
    lines = []
    for row in rows:
        name = f"{row['pictures']} JPEGs of {row['width']}x{row['height']} to {row['part'].upper()}"
        cells = [reason(row)] * 2 + [NOT_MEASURED]
        if row["status"] == "ok":
            missed = "**missed:** " if row["must"] and row["share"] < row["must"] else ""
            cells = [_rate(row["pictures_per_s"]), _rate(row["coding_per_s"]), f"{missed}{row['share']:.0%}"]
        lines.append([name, *cells, f">= {row['must']:.0%}" if row.get("must") else "no bound"])
    return markdown(["folder", "the command", "coding alone", "share of coding", "bound"], lines)


def _rate(value: dict) -> str:
    return f"{value['median']:.3g}/s [{value['p20']:.3g}, {value['p80']:.3g}]"


_CONVOLUTIONS = {
    ("library", "NCHW"): "cuDNN, NCHW",
    ("library", "channels last"): "cuDNN, channels last",
    ("triton", "NCHW"): "this library, NCHW",
}


def convolutions_table(rows: list[dict]) -> str:
    """The time of each part of a convolution in each precision, by cuDNN and by this library."""
    times: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for row in rows:
        way = row.get("provider", "library"), row["layout"]
        text = milliseconds_text(row["ms"]) if row.get("status", "ok") == "ok" else row["status"]
        times.setdefault((row["precision"], row["part"]), {})[way] = text
    lines = [
        [f"{precision}, {part}", *(found.get(way, NOT_MEASURED) for way in _CONVOLUTIONS)]
        for (precision, part), found in times.items()
    ]
    return markdown(["part", *_CONVOLUTIONS.values()], lines)
