"""A row of a comparison as a line of text."""

from ..measure import Row

STRAW_MAN = 0.15  # the reference's time may differ by so much from that of its operations written out


def straw_man(times_faster: float) -> str:
    """Says whether the reference, so many times faster than its operations written out, is a fair baseline."""
    return "within 15 %" if abs(1 / times_faster - 1) <= STRAW_MAN else "NOT within 15 %"


def row_text(row: Row) -> str:
    """A row as a line of the table."""
    start = f"{row['part'] or '':22} {row['provider'] or '':17}"
    if row["status"] != "ok":
        return f"{start} {row['status']}"
    ms, device, memory = row["ms"], row["device_ms"], row["extra_bytes"]
    words = [
        start,
        f"{ms['median']:9.3f} ms [{ms['p20']:.3f}, {ms['p80']:.3f}]",
        f"device {device['median']:.3f} ms" if device else "",
        f"{row['gb_per_s']:.0f} GB/s, {row['copy_share']:.0%} of a copy" if row["gb_per_s"] else "",
        f"{memory / 1e6:.0f} MB" if memory is not None else "",
        f"a new size {row['new_size_ratio']:.1f}x" if row.get("new_size_ratio") else "",
    ]
    if row.get("beyond_kernel_ms") is not None:
        words.append(f"{row['beyond_kernel_ms']:.3f} ms beyond the kernel")
    if row.get("stream_ms"):
        words.append(f"20 sizes {row['stream_ms']:.0f} ms")
    if breakdown := row.get("breakdown_ms"):
        words.append(", ".join(f"{part} {value:.3f}" for part, value in breakdown.items()) + " ms")
    if largest := row.get("largest_planned"):
        words.append(f"planned for {largest['memory_bytes'] / 2**30:g} GiB: {largest['width']}x{largest['height']}")
    written = row["times_faster_than"].get("written-out")
    if written and row["provider"] == "reference":
        words.append(f"{1 / written:.2f}x of its operations written out, {straw_man(written)}")
    return "  ".join(word for word in words if word)
