"""The network for other runtimes: `python -m model.export --format onnx|torch|official|html -o FILE`.

The exported program, or the page, is first run on a photograph and compared with the network here; one that differs is
not written. A page is written untried, and says so, where there is no browser.
For the official code only the weights are written; they are first read back and compared bit for bit.
Exit status: 0 if written, 1 if the comparison failed, 2 on a mistake in the arguments.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import sci_kernels

from .command_line import Parser, add_exposure_options, settle_exposure
from .export_graph import Exposed, Published, graph
from .files import ImageError, is_same, write_atomically
from .images import read_image
from .network import DEFAULT_WEIGHTS, WeightsError, official_state, to_pt
from .page import PageError, write_page
from .streams import own_streams

BOUND = 1e-5  # on the difference of any value between the exported program and the network here
EXTENSIONS = {"onnx": ".onnx", "torch": ".pt2", "official": ".pt", "html": ".html"}
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "before-after.jpg"
_METADATA_FILE = "sci-kernels.json"  # in a torch export, next to the program

Network = Published | Exposed
Run = Callable[[Tensor], Sequence[Tensor]]


class ExportError(Exception):
    """Why the export was not written, in one line."""


def export(
    format: str,
    path: str | Path,
    weights: str | Path = DEFAULT_WEIGHTS,
    picture: str | Path = PICTURE,
    exposure: float | str | None = "auto",
    denoise: float | None = None,
) -> dict[str, float]:
    """Write the network for another runtime, once the exported program gives the right result for a picture.

    The input is `image`, float32 `(batch, 3, height, width)`, RGB in [0, 1], of any batch, height and width. The
    outputs, of the same shape, are `result` (the bright picture; called `reflectance` for the published division) and
    `illumination`. The metadata are the version of this project, name and SHA-256 of the weights, `exposure` (with
    `target` where the program finds it) and `denoise`.

    Args:
        format: "onnx", compared in ONNX Runtime, or "torch", a program of `torch.export`, compared after loading it.
        path: the file, .onnx or .pt2; it is written whole or not at all and replaces an older one.
        weights: as for `load_weights`.
        picture: compared at its own size, and as a batch of two smaller pieces with odd sides.
        exposure: "auto", found by the program for each image of a batch, as `sci_kernels.exposure` does; a number
            from 0 to 20; or None, the division of the published method.
        denoise: strength of the filter of `sci_kernels.denoise` on the result, 0 to 4; 0 leaves it out. By default 1;
            the published division has none.

    Returns:
        The largest difference for each shape compared: from the plain network for the published division, and
        otherwise from `sci_kernels` with impl="reference".

    Raises:
        ValueError: `exposure` or `denoise` is out of range, or a filter is asked for with the published division.
        ExportError: a value differs by more than 1e-5 or is NaN; packages for ONNX are missing; wrong extension.
        WeightsError, ImageError: the weights or the picture cannot be read.
        OSError: the file cannot be written.
    """
    path, weights = Path(path), Path(weights)
    _check_extension(format, path)
    network, image = graph(weights, exposure, denoise), read_image(picture).tensor()[None]
    metadata = {
        "sci_kernels": sci_kernels.__version__,
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        **network.metadata,
    }
    build, load = {"onnx": (_build_onnx, _load_onnx), "torch": (_build_torch, _load_torch)}[format]
    data = build(network, metadata)
    differences = _compare(load(data), network, image)
    for shape, difference in differences.items():
        if not difference <= BOUND:  # also where it is NaN
            raise ExportError(
                f"{path}: not written; for {picture} as {shape} it differs from the network by {difference:.1e}, "
                f"more than {BOUND:.0e}"
            )
    write_atomically(path, data)
    return differences


def export_official(path: str | Path, weights: str | Path = DEFAULT_WEIGHTS) -> int:
    """Write the weights as a state dict for the official code, once they are found the same when read back.

    Args:
        path: the file, .pt; it is written whole or not at all and replaces an older one.
        weights: as for `load_weights`. A full checkpoint stays full, with 83 entries; one of the enhance part gives
            that part, named as in the official fine-tuning model.

    Returns:
        How many entries were written.

    Raises:
        ExportError: an entry read back differs; wrong extension.
        WeightsError: the weights cannot be read.
        OSError: the file cannot be written.
    """
    path = Path(path)
    _check_extension("official", path)
    state = official_state(weights)
    data = to_pt(state)
    read = torch.load(io.BytesIO(data), weights_only=True)  # without map_location, as in the official code
    differing = [name for name in state | read if not _same_bits(state.get(name), read.get(name))]
    if differing:
        raise ExportError(
            f"{path}: not written; read back, {len(differing)} of {len(state)} entries differ from {weights} "
            f"(first: {differing[0]})"
        )
    write_atomically(path, data)
    return len(state)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    own_streams()
    args = _parse(argv)
    try:
        if os.path.lexists(args.output) and not args.overwrite:
            raise WeightsError(f"{args.output}: exists and was left alone; use --overwrite, or another name")
        if is_same(args.output, args.weights):
            raise WeightsError(f"{args.output}: is the weight file to read and would be replaced; choose another -o")
        compared = _write(args)
    except (WeightsError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ExportError, PageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = error.strerror or error
        print(f"error: {args.output}: cannot be written ({reason}); choose another -o", file=sys.stderr)
        return 2
    print(*compared, f"{args.format}, weights {Path(args.weights).name}, in {args.output}", sep="\n")
    return 0


def _write(args: argparse.Namespace) -> list[str]:
    """Write the file; returns a line for each comparison."""
    if args.format == "official":
        return [f"{export_official(args.output, args.weights)} entries, read back: the same to the bit"]
    if args.format == "html":
        tried = write_page(args.output, [args.image], args.weights, args.exposure, args.denoise)
        return [one.line for one in tried.compared] or [tried.line]
    differences = export(args.format, args.output, args.weights, args.image, args.exposure, args.denoise)
    return [
        f"{shape}: differs from the network by at most {difference:.1e} (allowed: {BOUND:.0e})"
        for shape, difference in differences.items()
    ]


def _check_extension(format: str, path: Path) -> None:
    if path.suffix.lower() != EXTENSIONS[format]:
        raise ExportError(f"{path}: expected a name that ends in {EXTENSIONS[format]} for {format}")


def _same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether both exist and are equal bit for bit, so that -0.0 and 0.0 differ."""
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(tensor.reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _sizes() -> dict[str, dict[int, object]]:
    return {"image": {axis: torch.export.Dim(name) for axis, name in ((0, "batch"), (2, "height"), (3, "width"))}}


def _traced(network: Network) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(network, (torch.rand(2, 3, 31, 45),), dynamic_shapes=_sizes())


def _build_onnx(network: Network, metadata: dict[str, str]) -> bytes:
    try:
        import onnxruntime  # noqa: F401  before the work, not after it
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(f"--format onnx needs {error.name}, which is not installed; pip install '.[onnx]'") from None
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it would warn of missing torchvision operators, which are not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _traced(network),
                dynamo=True,
                verbose=False,
                input_names=["image"],
                output_names=list(network.outputs),
                dynamic_shapes=_sizes(),  # for the names of the dimensions, which the traced program has lost
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ExportError("--format onnx: expected a program from torch.onnx.export; got none; try another PyTorch")
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


def _load_onnx(data: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda image: tuple(map(torch.from_numpy, session.run(None, {"image": image.numpy()})))


def _build_torch(network: Network, metadata: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_traced(network), buffer, extra_files={_METADATA_FILE: json.dumps(metadata)})
    return buffer.getvalue()


def _load_torch(data: bytes) -> Run:
    return torch.export.load(io.BytesIO(data)).module()


@torch.no_grad()
def _compare(run: Run, network: Network, image: Tensor) -> dict[str, float]:
    """Largest differences of both outputs, by the shape compared."""
    height, width = (max(1, (size // 2 - 1) | 1) for size in image.shape[2:])
    pieces = torch.cat([image[..., :height, :width], image[..., -height:, -width:]])
    return {
        " x ".join(map(str, sample.shape)): max(
            float((got - wanted).abs().max()) for got, wanted in zip(run(sample), network.expected(sample), strict=True)
        )
        for sample in (image, pieces.contiguous())
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m model.export",
        description="Write a program that enhances pictures of any size, exposure included, for ONNX Runtime or "
        "torch.export, or a page that does it in a browser, once its result for a picture is right; or the weights for "
        "the official code, once they are found the same when read back.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    formats = "onnx, torch for a torch.export program, official for the official code's weights, html for a page"
    add("--format", required=True, choices=tuple(EXTENSIONS), help=formats)
    add("-o", "--output", required=True, type=Path, metavar="FILE", help=".onnx, .pt2, .pt or .html, in that order")
    add("-n", "--weights", default=DEFAULT_WEIGHTS, type=Path, metavar="FILE", help="as for model.enhance")
    add(
        "--image",
        default=PICTURE,
        type=Path,
        metavar="FILE",
        help="to compare on (default: the README's); not for official",
    )
    add("--overwrite", action="store_true", help="replace an existing file")
    add_exposure_options(parser)
    args = parser.parse_args(argv)
    try:
        _check_extension(args.format, args.output)
    except ExportError as error:
        parser.error(str(error))
    if args.format == "official" and (args.exposure != "auto" or args.denoise is not None):
        parser.error("--format official writes the weights alone; leave out --exposure, --published and --denoise")
    settle_exposure(parser, args)
    return args


if __name__ == "__main__":
    sys.exit(main())
