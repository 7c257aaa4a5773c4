"""The page that enhances pictures, in a headless Chromium: seconds for a picture by each engine, and memory.

    python -m bench page [--size 4000x3000] [--repeats 5] [--json FILE]
    python -m bench page --pictures docs/pictures/page

The page of `python -m model.export --format html` runs with the default weights and settings: plain JavaScript in
workers, and WebGL2, which SwiftShader computes on the processor. WebGPU is left out: in software it says nothing about
a device that has it. Each engine's result is first compared with `model.Enhancer`; one that differs is not timed.
`decode` reads a JPEG, `enhance` finds the exposure and brightens, `png` and `jpeg` write the result. Memory is that of
all of Chromium's processes together, less what they had with the empty page, at its highest while a picture of 24
megapixels is chosen, shown and saved. Exits with status 1 if a result is wrong or misses its bound.
"""

import argparse
import base64
import contextlib
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.network import DEFAULT_WEIGHTS
from model.page import NoBrowser, chromium, compare, driver, page

from ..measure import Row, environment, size_of, write_json
from .exposure_cost import picture
from .page_pictures import write_pictures

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIZE, LARGE = "4000x3000", (4000, 6000)
# Seconds for 12 megapixels, and bytes for 24.
BOUNDS, MOST_BYTES = {"JavaScript": 4.0, "WebGL2": 6.0}, 1e9
_TIMEOUT = 300_000  # milliseconds
_COMPARED = (601, 803)

_TIMED = """async ([data, repeats]) => {
  const file = new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type: "image/jpeg" });
  const times = { decode: [], enhance: [], png: [], jpeg: [] };
  const timed = async (name, call) => {
    const start = performance.now(), result = await call();
    times[name].push((performance.now() - start) / 1000);
    return result;
  };
  let engine;
  for (let n = 0; n <= repeats; n++) {
    const picture = await timed("decode", () => sciKernels.decode(file));
    const settings = { exposure: "auto", strength: 1, denoise: 1 };
    const done = await timed("enhance", () => sciKernels.enhance(picture, settings));
    engine = done.engine;
    await timed("png", () => sciKernels.encode(done.picture, "image/png"));
    await timed("jpeg", () => sciKernels.encode(done.picture, "image/jpeg"));
  }
  for (const name in times) times[name].shift(); // the first is slower: scripts are compiled
  return [engine, times];
}"""


def photograph(height: int, width: int) -> Image.Image:
    """A dark scene with noise, made of a piece that is repeated."""
    piece = picture(500, 500, "cpu")[0].permute(1, 2, 0).numpy()
    return Image.fromarray(np.tile(piece, (-(-height // 500), -(-width // 500), 1))[:height, :width])


def measure(size: tuple[int, int], repeats: int) -> Iterator[Row]:
    """A row for each engine and call, then one for memory.

    Raises NoBrowser: there is no Chromium, or no Playwright.
    """
    with tempfile.TemporaryDirectory(prefix="sci-page-") as folder:
        place, text = Path(folder), page()
        (place / "page.html").write_text(text, "utf-8")
        files = {name: place / f"{name}.jpg" for name in ("compared", "timed", "large")}
        for file, (height, width) in zip(files.values(), (_COMPARED, size, LARGE), strict=True):
            photograph(height, width).save(file, quality=92)
        good = {one.engine for one in compare(text, [files["compared"]], DEFAULT_WEIGHTS) if one.agrees}
        address = (place / "page.html").as_uri()
        with driver() as playwright:
            with chromium(playwright) as browser:
                for engine in BOUNDS:
                    about = {"width": size[1], "height": size[0], "engine": engine}
                    if engine in good:
                        yield from _timed(browser, address, files["timed"], about, repeats)
                    else:
                        yield about | {"call": "enhance", "status": "not timed: missing, or differs from Enhancer"}
            with chromium(playwright) as browser:
                yield _memory(browser, address, files["large"])


def _timed(browser: "Browser", address: str, file: Path, about: Row, repeats: int) -> Iterator[Row]:
    tab = browser.new_page()
    tab.set_default_timeout(_TIMEOUT)
    tab.goto(f"{address}#engine={about['engine']}")
    engine, times = tab.evaluate(_TIMED, [base64.b64encode(file.read_bytes()).decode(), repeats])
    tab.close()
    for call, seconds in times.items():
        low, high = np.percentile(seconds, (20, 80)).tolist()
        row = about | {"call": call, "status": "ok" if engine == about["engine"] else f"not timed: {engine} took over"}
        row |= {"seconds": {"median": statistics.median(seconds), "p20": low, "p80": high}}
        yield row | {"must": BOUNDS[engine] if call == "enhance" else None}


def _memory(browser: "Browser", address: str, file: Path) -> Row:
    """The highest memory while a picture is chosen, shown and saved."""
    tab = browser.new_page()
    tab.set_default_timeout(_TIMEOUT)
    tab.goto(f"{address}#engine=JavaScript")
    tab.wait_for_timeout(1000)
    before, most, done = _resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        tab.set_input_files("#files", file)
        tab.locator("#save").wait_for(state="visible")
        with tab.expect_download() as download:
            tab.click("#save")
        download.value.path()
    finally:
        done.set()
        watcher.join()
    about = {"width": LARGE[1], "height": LARGE[0], "engine": "JavaScript", "call": "memory", "status": "ok"}
    return about | {"bytes": most - before, "must": MOST_BYTES}


def _resident() -> int:
    """Bytes of all of Chromium's processes; what several share counts once."""
    total = 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):  # it may have ended
                if "chrom" in (process / "comm").read_text():
                    total += 1024 * int((process / "smaps_rollup").read_text().split("\nPss:")[1].split()[0])
    return total


def text_of(row: Row) -> str:
    """A row as a line."""
    start = f"{row['call']}, {row['width']}x{row['height']}, {row['engine']}"
    if row["status"] != "ok":
        return f"{start}: {row['status']}"
    measured = f"{row['bytes'] / 1e6:.0f} MB" if "bytes" in row else f"{row['seconds']['median']:.2f} s"
    bound = f"{row['must'] / 1e6:.0f} MB" if "bytes" in row else f"{row['must']} s"
    return f"{start}: {measured}" + (f" (must: {bound})" if row["must"] else "")


def is_kept(row: Row) -> bool:
    """Whether a row is right and keeps its bound."""
    return row["status"] == "ok" and (
        not row["must"] or row.get("bytes", row.get("seconds", {}).get("median")) <= row["must"]
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    machine, rows = environment(), []
    try:
        if args.pictures:
            print(*write_pictures(args.pictures), sep="\n")
            return 0
        for row in measure(args.size, args.repeats):
            rows.append(row)
            print(text_of(row), flush=True)
        if args.json:
            content = {"kind": "page", "device": "cpu", "command": "python -m bench page"}
            write_json(args.json, {"environment": machine, "rows": rows} | content)
    except NoBrowser as error:
        print(f"page: not measured: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"page: {error.filename}: cannot be written ({error.strerror}); name another", file=sys.stderr)
        return 2
    return 0 if all(map(is_kept, rows)) else 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench page", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--size", type=size_of, default=size_of(SIZE), metavar="WxH", help=f"of the picture that is timed ({SIZE})")
    add("--repeats", type=int, default=5, metavar="N", help="calls to time of each (5)")
    add("--json", type=Path, metavar="FILE", help="also write the rows, with machine and versions")
    add(
        "--pictures", type=Path, metavar="DIR", help="measure nothing; write pictures of the page for the documentation"
    )
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats: expected 1 or more; got {args.repeats}")
    return args
