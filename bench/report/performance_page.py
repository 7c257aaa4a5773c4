"""Writes docs/performance.md, the README's chart and all drawings from the results: no number is typed by hand.

    python -m bench report [--results DIR] [--check]

Reads every JSON file below DIR (bench/results) and writes docs/performance.md; in README.md what stands between
`<!-- gain -->` and `<!-- /gain -->`, with its chart docs/pictures/gain.svg; and bench/pictures/<as in DIR>/*.svg, of
which drawings of results that are gone are removed. The drawings of docs/kernels.md, docs/pictures/kernels/*.svg,
are written as well, though no result is in them.
--check writes nothing and exits with status 1 if anything would change.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from model.files import write_atomically

from ..measure import ROOT
from .gain_chart import draw_gain, gain_text, panels
from .kernel_drawings import drawings
from .performance_text import page
from .plots import draw
from .results import ResultsError, Source, read_sources
from .roofline import draw_rooflines

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PICTURES = ROOT / "bench" / "pictures"
BEGIN, END = "<!-- gain -->", "<!-- /gain -->"


def draw_all(sources: list[Source], results: Path, folder: Path) -> dict[Path, list[Path]]:
    """Each source's pictures in a folder of its own; returns their paths below `folder`."""
    drawn = {}
    for source in sources:
        own = folder / source.path.relative_to(results).with_suffix("")
        # Times from the same folder, so that kernels stand below their roof at what they reached.
        beside = [other for other in sources if other.on_gpu and other.path.parent == source.path.parent]
        if source.kind == "rows":
            paths = draw(source.rows, source.environment, own)
        elif source.kind == "kernels":
            environment = (beside or [source])[0].environment
            paths = draw_rooflines(source.rows, [row for other in beside for row in other.rows], environment, own)
        else:
            paths = []
        drawn[source.path] = [path.relative_to(folder) for path in paths]
    return drawn


def with_section(text: str, content: str) -> str:
    """The README with its section replaced. Raises ResultsError unless both markers are there, once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ResultsError(
            f"{README.name}: expected one {BEGIN} and after it one {END}; put them where the chart belongs"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def changes(results: Path, folder: Path) -> dict[Path, bytes | None]:
    """Files that differ from what the results give, with what they should contain; None: should not exist."""
    sources = read_sources(results)
    drawn = draw_all(sources, results, folder)
    found = panels(sources)
    text = with_section(README.read_text("utf-8"), gain_text(sources, bool(found)))
    wanted = {README: text.encode(), DOCS / "performance.md": page(sources, drawn).encode()}
    wanted |= {PICTURES / path: (folder / path).read_bytes() for paths in drawn.values() for path in paths}
    if found:
        draw_gain(found, folder / "gain.svg")
        wanted[DOCS / "pictures" / "gain.svg"] = (folder / "gain.svg").read_bytes()
    wanted |= {DOCS / "pictures" / "kernels" / name: content for name, content in drawings().items()}
    stale = {path: None for path in PICTURES.glob("*/**/*.svg") if path not in wanted}
    return stale | {
        path: content for path, content in wanted.items() if not path.exists() or path.read_bytes() != content
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR", help="bench/results")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if anything would change")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="sci-report-") as folder:
            found = changes(args.results.resolve(), Path(folder))
        if not args.check:
            for path, content in found.items():
                _replace(path, content)
    except ModuleNotFoundError as error:
        print(f"bench report: {error.name} is not installed, which draws; pip install '.[bench]'", file=sys.stderr)
        return 2
    except (ResultsError, OSError) as error:
        print(f"bench report: {error}", file=sys.stderr)
        return 2
    verdict = "differs from the results; run python -m bench report" if args.check else "written"
    for path in found:
        print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}: {verdict}")
    if not found:
        print("up to date")
    return 1 if args.check and found else 0


def _replace(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
