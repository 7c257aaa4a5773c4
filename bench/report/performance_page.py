"""Writes the README's performance section, and its pictures, from the results: nothing in it is typed by hand.

    python -m bench report [--results DIR] [--check]

Reads every JSON file below DIR (bench/results), writes what stands between `<!-- performance -->` and
`<!-- /performance -->`, and draws bench/pictures/<as in DIR>/*.svg; drawings of results that are gone are removed.
--check writes nothing and exits with status 1 if anything would change.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from model.files import write_atomically

from ..measure import GPUS, ROOT
from . import tables
from .plots import draw
from .results import ResultsError, Source, commit, date, device, read_sources
from .roofline import draw_rooflines, shown

README = ROOT / "README.md"
PICTURES = ROOT / "bench" / "pictures"
BEGIN, END = "<!-- performance -->", "<!-- /performance -->"
_INTRODUCTION = """\
## Performance

`python -m bench report` writes this section from the JSON files in [bench/results](bench/results), and `--check` tells
whether it still says what they say. A number that no file has is printed as "not measured". No provider is timed before
it has agreed with the reference in the same process."""
_FIGURES = """\
### Promised, and measured

`make figures` measures these on the machine it runs on, parity before time, and fails if one misses its bound. Relative
errors are of the loss, of the gradients in norm, and of a gradient's worst element."""
_WHY = """\
The ratios depend on the processor: the networks of a training step are the same in both, and where they are most of
it, the fused loss has less to give. Most of the reference's time for the loss on a CPU is `torch.norm` over a strided
dimension, as the official code calls it. A user who replaces that by `abs().sum()` and computes each pair once gets
far in plain PyTorch: that rewrite is the honest baseline, and is measured beside the reference."""
_PROVIDERS = """\
Times are of a call from Python: the median, in brackets the 20th and 80th percentile, in parentheses how many times
faster than the eager reference. GB/s count each value once, and are compared with a copy measured in the same run;
memory is the peak beyond the inputs. `reference` is what the official code computes, `pairs` a careful eager rewrite
with 12 pairs, `compiled` and `compiled-dynamic` are `torch.compile` of the reference, `blocked`, `native` and
`triton` this library. The first two find their gradients on the way forward: their backward pass alone only scales
them. Of training and enhancing, `reference` is the plain network with the reference operators, `compiled` the same as
one graph, and `ours` what this library does by default."""
_FOLDER = """\
Pictures a second of `python -m model.enhance`, several at a time, beside the same reading and writing with nothing
computed in between. The bound is for PNG, the command's default; JPEG is coded so quickly that the network takes most
of the time. The command's files are first compared with those of the pictures taken one by one."""
_NO_GPU = """\
Not yet measured on a GPU. `make gpu` does all of it in one command, with the Python and torch that are there
(`make gpu VENV=`): tests, memory checks, every speed beside its bound."""
_GPU = """\
*On the device* is the time between two events with all launches queued ahead; the other times are those of a call from
Python, with the launches' share of the processor in it. A *floor* is the least time that issuing a kernel's counted
instructions takes at the card's highest clock, or that moving its bytes takes at the bandwidth of a copy in the same
run; a bound on a share is on the larger of the two (`bench/report/gpu_bounds.py`). What misses its bound says so, and
[bench/NOTES.md](bench/NOTES.md) says why. `make gpu` measures all of it again, with the Python and torch that are there
(`make gpu VENV=`), in under seven minutes."""
_COUNTED = """\
Counted, not measured: `python -m bench kernels` compiles every kernel as it is launched, for sm_80 to sm_120, gfx90a
and gfx942, with no GPU present, and counts the machine code. *issue* and *memory* are the least times that issuing
those instructions and moving those bytes can take at the vendor's clock and bandwidth (`gpu_specs.py`); a kernel
takes at least the larger. *both*: the gradients of input and illumination; *illumination*: that of the illumination
alone, all that the first stage of training needs. With `reference` colours a kernel of its own transforms them, and
another takes the gradient back."""
_UNCHECKED = """\
Results are checked under Triton's interpreter, and as compiled: the tests execute the PTX for sm_90 and sm_80, inline
PTX included, on a CPU (`tests/ptx`). What ptxas makes of it only an NVIDIA GPU can run."""
_GAIN = """\
One training step of three stages, in one run, all from the same weights; a way whose first loss or gradient differed
from the official one's would not be timed. Memory is the peak beyond network and picture. The convolutions, the same in
all ways, are most of what the last two take: the better a processor is at them, the larger the ratios
([bench/NOTES.md](bench/NOTES.md))."""
_EXPOSING = """\
One uint8 picture of a dark scene, with the default weights: the published division, the same pass with an exposure,
that with the gain written as well, and the filter that takes it, beside OpenCV's bilateral filter of the same width.
Finding the exposure is of 4000x3000 pixels. Each was compared with its definition in float64 before."""
_NOTES = """\
`make bench` times the same operations under pytest-benchmark and saves each run, with parity and GB/s beside the times;
`pytest-benchmark compare` then shows what became slower between two commits. What was tried on the kernels, with its
outcome: [bench/NOTES.md](bench/NOTES.md)."""


def section(sources: list[Source], pictures: dict[Path, list[Path]]) -> str:
    """The text between the markers.

    Args:
        sources: every result.
        pictures: of each source's path, its drawings.
    """
    rows = [source for source in sources if source.kind == "rows"]
    on_cpu, on_gpu = ([source for source in rows if source.on_gpu is gpu] for gpu in (False, True))
    blocks = [_INTRODUCTION, _FIGURES, *_figures([source for source in sources if source.kind == "figures"])]
    gains = [source for source in sources if source.kind == "gain"]
    blocks += ["### In the official code's own script", *_gains(gains)]
    exposing = [source for source in sources if source.kind == "exposing"]
    blocks += ["### On a CPU", _PROVIDERS, *_operations(on_cpu, pictures), *_exposing(exposing), *_folders(on_cpu)]
    gpu = [_GPU, *_bounds(on_gpu), *_operations(on_gpu, pictures), *_folders(on_gpu)] if on_gpu else [_NO_GPU]
    blocks += ["### On a GPU", *gpu]
    blocks += _kernels([source for source in sources if source.kind == "kernels"], on_gpu, pictures)
    return "\n\n".join([*blocks, _NOTES])


def _figures(sources: list[Source]) -> Iterator[str]:
    if not sources:
        yield f"{tables.NOT_MEASURED}: no file of `python -m bench figures --json bench/results/cpu/figures.json`."
        return
    letters = [f"{chr(ord('A') + index)}: {device(source.environment)}" for index, source in enumerate(sources)]
    yield tables.figures_table(sources, letters)
    yield "\n".join(
        f"- {letter.split(':')[0]}: {_origin(source)}" for letter, source in zip(letters, sources, strict=True)
    )
    yield _WHY


def _gains(sources: list[Source]) -> Iterator[str]:
    """A training step after each change to a script."""
    yield _GAIN if sources else "Not measured: no file of `python -m bench gain`."
    for source in sources:
        yield _origin(source)
        yield tables.gain_table(source.rows)
        seconds = ", ".join(
            f"{float(value):.2f} s where {losses} of them {'is a loss' if losses == '1' else 'are losses'}"
            for losses, value in source.content["accelerate_seconds"].items()
        )
        yield f"`accelerate` itself takes, for a network of 50 modules, {seconds} (bound: 1 s)."


def _exposing(sources: list[Source]) -> Iterator[str]:
    """Exposure and the filter against noise."""
    yield "#### Exposure and noise"
    yield _EXPOSING if sources else "Not measured: no file of `python -m bench exposing`."
    for source in sources:
        yield _origin(source)
        yield tables.exposing_table(source.rows)


def _operations(sources: list[Source], pictures: dict[Path, list[Path]]) -> Iterator[str]:
    """Every operation that can be measured, in order; of each its files."""
    for op, title in tables.OPERATIONS.items():
        yield f"#### {title}"
        found = [source for source in sources if any(row["op"] == op for row in source.rows)]
        found.sort(key=lambda source: -len(source.rows))  # the fullest first
        if not found:
            yield f"Not measured: no file of `python -m bench {op}`."
        for source in found:
            yield _origin(source)
            yield from _groups([row for row in source.rows if row["op"] == op], pictures.get(source.path, []))
            if not source.content.get("complete", True):
                yield "That run was stopped before its end: what is missing was not measured."


def _bounds(sources: list[Source]) -> Iterator[str]:
    """What each GPU reached, beside what it must; a table for each folder, which is a card."""
    for folder in sorted({source.path.parent for source in sources}):
        # Of what several files have, the fullest comparison counts.
        here = sorted((s for s in sources if s.path.parent == folder), key=lambda source: -len(source.rows))
        yield f"On {device(here[0].environment)}:"
        yield tables.bounds_table([row for source in here for row in source.rows], here[0].environment)


def _folders(sources: list[Source]) -> Iterator[str]:
    """Whole folders by the command."""
    found = [source for source in sources if any(row["op"] == "folder" for row in source.rows)]
    yield "#### Enhancing a folder"
    yield _FOLDER if found else "Not measured: no file of `python -m bench enhance --folder 12`."
    for source in found:
        yield _origin(source)
        yield tables.folder_table([row for row in source.rows if row["op"] == "folder"])


def _groups(rows: list[dict], pictures: list[Path]) -> Iterator[str]:
    """Pictures and tables of each dtype and colour, all but the first folded away."""
    keys = dict.fromkeys((row["dtype"], row.get("color")) for row in rows)
    for index, (dtype, color) in enumerate(keys):
        group = [row for row in rows if (row["dtype"], row.get("color")) == (dtype, color)]
        name = dtype + (f", {color} colours" if color else "")
        start = "-".join(filter(None, (rows[0]["op"], color, dtype, "")))
        blocks = [*_pictures([path for path in pictures if path.name.startswith(start)]), *_tables(group)]
        if index:
            yield "\n\n".join([f"<details><summary>the same, {name}</summary>", *blocks, "</details>"])
        else:
            yield "\n\n".join([f"{name}:", *blocks])


def _tables(group: list[dict]) -> Iterator[str]:
    if not any(map(tables.is_measured, group)):
        yield f"Not measured: {group[0]['status'].removeprefix('not measured: ')}."
        return
    width, height = size = tables.fullest_size(group)
    yield tables.sizes_table(group)
    if group[0]["op"] == "step":
        yield tables.breakdown_table(group, size)
    yield f"<details><summary>everything measured at {width}x{height}</summary>"
    yield tables.details_table(group, size)
    yield "</details>"


def _kernels(sources: list[Source], on_gpu: list[Source], pictures: dict[Path, list[Path]]) -> Iterator[str]:
    """A table for each target: from the file beside a GPU's times if there is one, else from the fullest."""
    yield "#### What the compiled kernels need"
    if not sources:
        yield f"{tables.NOT_MEASURED.capitalize()}: no file of `python -m bench kernels`."
        return
    yield _COUNTED
    folders = {source.path.parent for source in on_gpu}
    for target in sorted({row["target"] for source in sources for row in source.rows} & set(GPUS)):
        fit = [source for source in sources if shown(source.rows, target)]
        if not fit:
            continue
        source = max(fit, key=functools.partial(_fullness, target, folders))
        rows = [row for row in source.rows if row["target"] == target]
        spilled = sum(row.get("stack", 0) > 0 for row in rows)
        yield f"For {target} ({GPUS[target].name}), float32, three channels, at 3840x2160. {_origin(source)}"
        yield from _pictures([path for path in pictures.get(source.path, []) if path.stem == f"roofline-{target}"])
        yield tables.kernels_table(source.rows, target)
        yield f"Of the {len(rows)} kernels in that file, {spilled or 'none'} spilled registers to a stack."
    if not on_gpu:
        yield _UNCHECKED


def _fullness(target: str, folders: set[Path], source: Source) -> tuple[bool, int]:
    return source.path.parent in folders, len(shown(source.rows, target))


def _origin(source: Source) -> str:
    """Where a table's numbers come from, so that a reader can ask for them again."""
    name = source.path.name
    if source.path.is_relative_to(ROOT):
        name = f"[{name}]({source.path.relative_to(ROOT).as_posix()})"
    machine = "Compiled" if source.kind == "kernels" else f"On {device(source.environment)}"
    return (
        f"{machine}, {source.versions or 'versions not recorded'}, commit `{commit(source.environment)}`, "
        f"{date(source.environment)}, by `{source.command}` ({name})."
    )


def _pictures(paths: list[Path]) -> Iterator[str]:
    kinds = {
        "time": "Time against image size",
        "memory": "Peak memory against image size",
        "breakdown": "The parts of a training step",
    }
    for path in paths:
        *about, kind = path.stem.split("-")
        text = f"{kinds[kind]}: {', '.join(about)}" if kind in kinds else f"A roofline with each kernel on it, {kind}"
        yield f"![{text}](bench/pictures/{path.as_posix()})"


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
    """The README with its section replaced. Raises ResultsError where the markers are not there, once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ResultsError(
            f"{README.name}: expected one {BEGIN} and after it one {END}; put them where the section belongs"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def changes(results: Path, folder: Path) -> dict[Path, bytes | None]:
    """Files that differ from what the results give, with what they should be; None: should not be there."""
    sources = read_sources(results)
    drawn = draw_all(sources, results, folder)
    text = README.read_text("utf-8")
    wanted = {README: with_section(text, section(sources, drawn)).encode()}
    wanted |= {PICTURES / path: (folder / path).read_bytes() for paths in drawn.values() for path in paths}
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
