"""The network for other runtimes: `python -m model.export --format onnx|torch -o FILE`.

What is written is run first, on a photograph, and compared with the plain network; a file that differs is not kept.
Exit status: 0 written, 1 the comparison failed, 2 a mistake in the arguments.
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
from typing import NoReturn

import torch
from torch import Tensor, nn

import sci_kernels

from .files import write_atomically
from .images import ImageError, read_image
from .networks import EnhanceNetwork
from .weights import DEFAULT_WEIGHTS, WeightsError, load_weights

BOUND = 1e-5  # on the difference of any value, between the file and the plain network
EXTENSIONS = {"onnx": ".onnx", "torch": ".pt2"}
PICTURE = Path(__file__).resolve().parent.parent / "bench" / "pictures" / "before-after.jpg"
_NOTES = "sci-kernels.json"  # of a torch export: the metadata, beside the program

Run = Callable[[Tensor], tuple[Tensor, Tensor]]


class ExportError(Exception):
    """Something that keeps the export from being written; one line."""


class Enhance(nn.Module):
    """Eval mode of the plain network, of PyTorch's own operators alone: image to (reflectance, illumination).

    Args:
        weights: as for `load_weights`.
    """

    def __init__(self, weights: Path = DEFAULT_WEIGHTS):
        super().__init__()
        self.enhance = EnhanceNetwork(impl="reference")
        load_weights(self.enhance, weights)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        illumination, reflectance = self.enhance(image)
        return reflectance, illumination


def export(
    format: str, path: str | Path, weights: str | Path = DEFAULT_WEIGHTS, picture: str | Path = PICTURE
) -> dict[str, float]:
    """Write the network for another runtime, once what is to be written has proven itself on a picture.

    The input is `image`, float32 `(batch, 3, height, width)`, RGB in [0, 1], every size of it free; the outputs are
    `reflectance` (the bright picture) and `illumination`, of the same shape. Metadata: the version of this project, and
    name and SHA-256 of the weights.

    Args:
        format: "onnx", run in ONNX Runtime, or "torch", a program of `torch.export`, run as it is loaded again.
        path: the file, .onnx or .pt2; it appears whole or not at all and replaces an older one.
        weights: as for `load_weights`.
        picture: compared at its own size, and as a batch of two smaller pieces with odd sides.

    Returns:
        The largest difference from the plain network for each shape compared.

    Raises:
        ExportError: a value differs by more than 1e-5 or is NaN; packages for ONNX are missing; another extension.
        WeightsError, ImageError: the weights or the picture cannot be read.
        OSError: the file cannot be written.
    """
    path, weights = Path(path), Path(weights)
    if path.suffix.lower() != EXTENSIONS[format]:
        raise ExportError(f"{path}: expected a name that ends in {EXTENSIONS[format]} for {format}")
    network, image = Enhance(weights), read_image(picture).tensor()[None]
    metadata = {
        "sci_kernels": sci_kernels.__version__,
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    build, load = {"onnx": (_build_onnx, _load_onnx), "torch": (_build_torch, _load_torch)}[format]
    data = build(network, metadata)
    differences = _compare(load(data), network, image)
    for shape, difference in differences.items():
        if not difference <= BOUND:  # NaN neither
            raise ExportError(
                f"{path}: not written; for {picture} as {shape} it differs from the network by {difference:.1e}, "
                f"more than {BOUND:.0e}"
            )
    write_atomically(path, data)
    return differences


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _parse(argv)
    try:
        if os.path.lexists(args.output) and not args.overwrite:
            raise WeightsError(f"{args.output}: exists and was left alone; use --overwrite, or another name")
        differences = export(args.format, args.output, args.weights, args.image)
    except (WeightsError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {args.output}: cannot be written ({error.strerror}); choose another -o", file=sys.stderr)
        return 2
    for shape, difference in differences.items():
        print(f"{shape}: differs from the network by at most {difference:.1e} (allowed: {BOUND:.0e})")
    print(f"{args.format}, weights {Path(args.weights).name}, in {args.output}")
    return 0


def _sizes() -> dict[str, dict[int, object]]:
    return {"image": {axis: torch.export.Dim(name) for axis, name in ((0, "batch"), (2, "height"), (3, "width"))}}


def _traced(network: Enhance) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(network, (torch.rand(2, 3, 31, 45),), dynamic_shapes=_sizes())


def _build_onnx(network: Enhance, metadata: dict[str, str]) -> bytes:
    try:
        import onnxruntime  # noqa: F401  before the work, not after it
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(f"--format onnx needs {error.name}, which is not installed; pip install '.[onnx]'") from None
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # warns of torchvision operators that nobody asked for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _traced(network),
                dynamo=True,
                verbose=False,
                input_names=["image"],
                output_names=["reflectance", "illumination"],
                dynamic_shapes=_sizes(),  # for their names, which the program has lost
            )
    finally:
        quiet.setLevel(level)
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


def _load_onnx(data: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda image: tuple(map(torch.from_numpy, session.run(None, {"image": image.numpy()})))


def _build_torch(network: Enhance, metadata: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_traced(network), buffer, extra_files={_NOTES: json.dumps(metadata)})
    return buffer.getvalue()


def _load_torch(data: bytes) -> Run:
    return torch.export.load(io.BytesIO(data)).module()


@torch.no_grad()
def _compare(run: Run, network: Enhance, image: Tensor) -> dict[str, float]:
    """Largest differences of both outputs, by the shape compared."""
    height, width = ((size // 2 - 1) | 1 for size in image.shape[2:])
    pieces = torch.cat([image[..., :height, :width], image[..., -height:, -width:]])
    return {
        " x ".join(map(str, sample.shape)): max(
            float((got - wanted).abs().max()) for got, wanted in zip(run(sample), network(sample), strict=True)
        )
        for sample in (image, pieces.contiguous())
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see python -m model.export --help\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m model.export",
        description="Write the network for ONNX Runtime or torch.export, any image size, once it agrees on a picture.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--format", required=True, choices=tuple(EXTENSIONS), help="onnx, or torch for a torch.export program")
    add("-o", "--output", required=True, type=Path, metavar="FILE", help=".onnx or .pt2")
    add("-n", "--weights", default=DEFAULT_WEIGHTS, type=Path, metavar="FILE", help="as for model.enhance")
    add("--image", default=PICTURE, type=Path, metavar="FILE", help="compare on this picture (default: the README's)")
    add("--overwrite", action="store_true", help="replace an existing file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
