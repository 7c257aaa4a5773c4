"""The text of docs/performance.md. Every number in it comes from a file of results."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from ..measure import GPUS, ROOT
from . import call_tables, tables
from .results import Source, commit, date, device
from .roofline import shown

_INTRODUCTION = """\
# Performance

`python -m bench report` writes this page from the JSON files in [bench/results](../bench/results), and `--check`
tells whether the page still says what they say. A number that no file contains is printed as "not measured". No
provider is timed before its results have agreed with the reference in the same process. Machines differ even where
their processors have the same name, and change their speed from hour to hour: compare numbers of one table only. How to
measure: [measuring.md](measuring.md). How the kernels reach these times: [kernels.md](kernels.md)."""
_FIGURES = """\
## Promised and measured

`make figures` measures these on the machine it runs on, agreement before time, and fails if one misses
its bound. Relative errors are given for the loss, for the gradients in norm, and for a gradient's worst element."""
_WHY = """\
The ratios depend on the processor: the networks of a training step are the same in both, and where they take
most of the time, a faster loss changes less. Most of the reference's time for the loss on a CPU is `torch.norm` over
a strided dimension, as the official code calls it. Replacing it by `abs().sum()` and computing each pair once already
gains a lot in plain PyTorch: that rewrite, `pairs`, is the fair baseline, and is measured next to the reference."""
_PROVIDERS = """\
Times are those of a call from Python: the median, in brackets the 20th and 80th percentile, in parentheses how many
times faster than the eager reference. GB/s count each value once, and are compared with a copy measured in the same
run; memory is the peak beyond the inputs. *A new size* is the first call for an image of another size, compared with
the next such calls; *20 sizes* is the time for 20 images of 20 sizes. What `ycbcr` and `reference` colors are:
[library.md](library.md#colors). The providers are:

- `reference`: what the official code computes, in eager PyTorch;
- `pairs`: a careful eager rewrite with 12 pairs instead of 24 directions;
- `compiled`, `compiled-dynamic`: `torch.compile` of the reference;
- `blocked`, `native`, `triton`: this library. `blocked` and `native` compute their gradients during the forward pass,
  so that their backward pass only scales them;
- of training and enhancing, `reference` is the plain network with the reference operators, `compiled` the same as one
  graph, and `ours` what this library does by default."""
_FOLDER = """\
Pictures per second of `python -m model.enhance`, which works on several at a time, compared with the same reading and
writing with nothing computed in between. The bound is for PNG, the command's default; JPEG is coded so quickly that
the network takes most of the time. Before anything is timed, the command's files are compared with those of the
pictures enhanced one by one."""
_NO_GPU = """\
Not yet measured on a GPU. `make gpu` does all of it in one command, with the Python and torch that are there
(`make gpu VENV=`): tests, memory checks, every speed next to its bound."""
_GPU = """\
*On the device* is the time between two events with all launches queued ahead; the other times are those of a call
from Python, which include the processor's work for the launches. A *floor* is the least time in which the card can
issue a kernel's counted instructions at its highest clock, or move the kernel's bytes at the bandwidth of a copy in
the same run; a bound on a share refers to the larger of the two (`bench/report/gpu_bounds.py`). What misses its bound
is marked, and [bench/NOTES.md](../bench/NOTES.md) says why. `make gpu` measures all of it again, with the Python and
torch that are there (`make gpu VENV=`), in under nine minutes."""
_COUNTED = """\
Counted, not measured: `python -m bench kernels` compiles every kernel as it is launched, for sm_80 to sm_120, gfx90a
and gfx942, with no GPU present, and counts the machine code. *issue* and *memory* are the least times that issuing
those instructions and moving those bytes can take at the vendor's clock and bandwidth (`bench/measure/gpu_specs.py`);
a kernel takes at least the larger of the two. *both* means the gradients of input and illumination, *illumination*
that of the illumination alone, which is all that the first stage of training needs. With `reference` colors one more
kernel transforms the colors, and another transforms the gradient back."""
_UNCHECKED = """\
The kernels' results are checked under Triton's interpreter, and as compiled: the tests execute the PTX for sm_90 and
sm_80, inline PTX included, on a CPU (`tests/ptx`). What ptxas makes of that PTX only an NVIDIA GPU can run."""
_GAIN = """\
One training step of three stages, all in one run and from the same weights; a way whose first loss or gradient
differed from the official one's would not be timed. Memory is the peak beyond the network and the picture. The
convolutions, which are the same in all ways, take most of the time of the last two: the better a processor is at
them, the larger the ratios ([bench/NOTES.md](../bench/NOTES.md))."""
_EXPOSING = """\
One uint8 picture of a dark scene, with the default weights: the published division, the same pass with an exposure,
the same again with the gain written as well, and the filter that uses this gain, next to OpenCV's bilateral filter of
the same width. The exposure is found for a picture of 4000x3000 pixels. Each call was first compared with its
definition in float64."""
_CONVOLUTIONS = """\
One 3x3 convolution from 16 to 16 channels, as most of a training step consists of, by the kernels that cuDNN chooses
and by those of `python -m train --convolutions triton`: times on the device, for 1920x1080 pixels. With TF32, which is
PyTorch's default for convolutions, factors are rounded to 10 bits. The names of cuDNN's kernels are in the file, and
in [bench/NOTES.md](../bench/NOTES.md)."""
_PAGE = """\
The page of `python -m model.export --format html` in a headless Chromium, from a JPEG file to results. WebGL2 is
computed by the processor there (SwiftShader); a device with a graphics processor, and WebGPU, were not measured. Each
engine's result was first compared with that of `model.enhance`. Memory is that of all of Chromium's processes, less
what they had with the empty page."""
_NOTES = """\
`make bench` times the same operations with pytest-benchmark and saves each run, with agreement and GB/s next to the
times; `pytest-benchmark compare` then shows what became slower between two commits. What was tried on the kernels,
with its outcome: [bench/NOTES.md](../bench/NOTES.md)."""


def page(sources: list[Source], pictures: dict[Path, list[Path]]) -> str:
    """The whole page.

    Args:
        sources: every result.
        pictures: the drawings of each source, by its path.
    """
    rows = _of("rows", sources)
    on_cpu, on_gpu = ([source for source in rows if source.on_gpu is gpu] for gpu in (False, True))
    blocks = [_INTRODUCTION, _FIGURES, *_figures(_of("figures", sources))]
    blocks += ["## In the official code's own script", *_gains(_of("gain", sources))]
    blocks += ["## On a CPU", _PROVIDERS, *_operations(on_cpu, pictures)]
    blocks += [*_exposing(sources, False), *_folders(on_cpu)]
    blocks += _calls("## In a browser", _PAGE, "page", _of("page", sources), call_tables.browser_table)
    gpu = [_NO_GPU]
    if on_gpu:
        gpu = [_GPU, *_bounds(on_gpu), *_operations(on_gpu, pictures)]
        found = [source for source in _of("convolutions", sources) if source.on_gpu]
        title = "### The convolutions of training"
        gpu += _calls(title, _CONVOLUTIONS, "convolutions", found, call_tables.convolutions_table)
        gpu += [*_exposing(sources, True), *_folders(on_gpu)]
    blocks += ["## On a GPU", *gpu]
    blocks += _kernels(_of("kernels", sources), on_gpu, pictures)
    return "\n\n".join([*blocks, _NOTES]) + "\n"


def _of(kind: str, sources: list[Source]) -> list[Source]:
    return [source for source in sources if source.kind == kind]


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
        yield call_tables.gain_table(source.rows)
        seconds = ", ".join(
            f"{float(value):.2f} s where {losses} of them {'is a loss' if losses == '1' else 'are losses'}"
            for losses, value in source.content["accelerate_seconds"].items()
        )
        yield f"`accelerate` itself takes, for a network of 50 modules, {seconds} (bound: 1 s)."


def _calls(
    title: str, text: str, command: str, sources: list[Source], table: Callable[[list[dict]], str]
) -> Iterator[str]:
    """A section with a table for each file of a command that does not compare providers."""
    yield title
    yield text if sources else f"Not measured: no file of `python -m bench {command}`."
    for source in sources:
        yield _origin(source)
        yield table(source.rows)


def _exposing(sources: list[Source], on_gpu: bool) -> Iterator[str]:
    """Exposure and the filter against noise."""
    found = [source for source in _of("exposing", sources) if source.on_gpu is on_gpu]
    return _calls("### Exposure and noise", _EXPOSING, "exposing", found, call_tables.exposing_table)


def _operations(sources: list[Source], pictures: dict[Path, list[Path]]) -> Iterator[str]:
    """Every operation that can be measured, in order; of each its files."""
    for op, title in tables.OPERATIONS.items():
        yield f"### {title}"
        found = [source for source in sources if any(row["op"] == op for row in source.rows)]
        found.sort(key=lambda source: -len(source.rows))  # the fullest first
        if not found:
            yield f"Not measured: no file of `python -m bench {op}`."
        for source in found:
            yield _origin(source)
            yield from _groups([row for row in source.rows if row["op"] == op], pictures.get(source.path, []))
            if not source.content.get("complete", True):
                yield "This run was stopped before its end: what is missing was not measured."


def _bounds(sources: list[Source]) -> Iterator[str]:
    """What each GPU reached, next to its bounds; a table for each folder, which stands for a card."""
    for folder in sorted({source.path.parent for source in sources}):
        # Where several files have a row, that of the fullest comparison counts.
        here = sorted((s for s in sources if s.path.parent == folder), key=lambda source: -len(source.rows))
        yield f"On {device(here[0].environment)}:"
        yield tables.bounds_table([row for source in here for row in source.rows], here[0].environment)


def _folders(sources: list[Source]) -> Iterator[str]:
    """Whole folders by the command."""
    found = [source for source in sources if any(row["op"] == "folder" for row in source.rows)]
    yield "### Enhancing a folder"
    yield _FOLDER if found else "Not measured here: `python -m bench enhance --folder 12` measures it."
    for source in found:
        yield _origin(source)
        yield call_tables.folder_table([row for row in source.rows if row["op"] == "folder"])


def _groups(rows: list[dict], pictures: list[Path]) -> Iterator[str]:
    """Pictures and tables of each dtype and color, all but the first folded away."""
    keys = dict.fromkeys((row["dtype"], row.get("color")) for row in rows)
    for index, (dtype, color) in enumerate(keys):
        group = [row for row in rows if (row["dtype"], row.get("color")) == (dtype, color)]
        name = dtype + (f", {color} colors" if color else "")
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
    if any(row.get("breakdown_ms") for row in group):
        yield tables.breakdown_table(group, size)
    yield f"<details><summary>everything measured at {width}x{height}</summary>"
    yield tables.details_table(group, size)
    yield "</details>"


def _kernels(sources: list[Source], on_gpu: list[Source], pictures: dict[Path, list[Path]]) -> Iterator[str]:
    """A table for each target: from the file next to a GPU's times if there is one, else from the fullest."""
    yield "### What the compiled kernels need"
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
    """Where a table's numbers come from, so that a reader can measure them again."""
    name = source.path.name
    if source.path.is_relative_to(ROOT):
        name = f"[{name}](../{source.path.relative_to(ROOT).as_posix()})"
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
        yield f"![{text}](../bench/pictures/{path.as_posix()})"
