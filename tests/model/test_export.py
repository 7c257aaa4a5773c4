"""What is exported: any size, the library's numbers, and nothing written that differs."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sci_kernels
from model import EnhanceNetwork, FinetuneNetwork, enhance_image, fold, load_weights, read_image, save_weights
from model import export as exporting
from model.export import PICTURE, ExportError, export, main
from model.export_graph import Exposed, graph
from tests.conftest import GOLDEN

pytestmark = pytest.mark.xdist_group("export")  # files that take seconds to make are made once


def write_each(folder, exposure: str | None) -> dict:
    """Each format that can be written here, by the command's function: path and the differences it reports."""
    paths = {"torch": folder / "sci.pt2"}
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401

        paths["onnx"] = folder / "sci.onnx"
    except ModuleNotFoundError:
        pass
    return {name: (path, export(name, path, exposure=exposure)) for name, path in paths.items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A corner of the picture that files are compared on, where any will do."""
    path = tmp_path_factory.mktemp("small") / "corner.png"
    Image.fromarray(read_image(PICTURE).pixels[:90, :120]).save(path)
    return path


RULES = {
    "written": {"exposure": "published", "target": None, "denoise": None},
    "exposed": {"exposure": "auto", "target": "0.40", "denoise": "1"},
}
WITH_EXPOSURE = pytest.param("exposed", marks=pytest.mark.slow)  # half a minute of following the network
OUTPUTS = {"written": "reflectance", "exposed": "result"}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict:
    """Of the published division, which is made and loaded in a moment."""
    return write_each(tmp_path_factory.mktemp("published"), None)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> dict:
    """With an exposure, as by default: path, differences, and the file as `export` loaded it again.

    What takes seconds is done once: following the network, for both formats, and loading each.
    """
    follow, programs, loaded = exporting._traced, [], {}

    def once(network):
        if not programs:
            programs.append(follow(network))
        return programs[0]

    def kept(name):
        load = getattr(exporting, f"_load_{name}")
        return lambda data: loaded.setdefault(name, load(data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_traced", once)
        for name in ("torch", "onnx"):
            patch.setattr(exporting, f"_load_{name}", kept(name))
        written = write_each(tmp_path_factory.mktemp("exposed"), "auto")
    return {name: (*rest, loaded[name]) for name, rest in written.items()}


def by_definition(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Result, illumination and exposures by the library's functions, one image after another."""
    network = EnhanceNetwork()
    load_weights(network)
    weights, results = fold(network), []
    for one in image.split(1):
        c = sci_kernels.exposure(one, weights, impl="reference")
        asked = {"exposure": c, "return_illumination": True, "return_gain": True, "impl": "reference"}
        result, light, gain = sci_kernels.enhance(one, weights, **asked)
        results.append((sci_kernels.denoise(result, gain, impl="reference") if c > 0 else one, light, c))
    return tuple(map(torch.cat, zip(*results, strict=True)))


def of(written: dict, name: str):
    if name not in written:
        pytest.skip("ONNX needs packages that are not installed: pip install '.[onnx]'")
    return written[name]


def run(name: str, path, image: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of a file as another program would get them."""
    if name == "torch":
        return list(torch.export.load(str(path)).module()(image))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(array) for array in session.run(["reflectance", "illumination"], {"image": image.numpy()})]


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_numbers_at_other_sizes(written, name):
    path, differences = of(written, name)
    assert len(differences) == 2 and all(0 <= value <= 1e-5 for value in differences.values())
    network = EnhanceNetwork()
    load_weights(network)
    photograph = torch.from_numpy(np.load(GOLDEN / "train_3stage.npz")["images"]).float()
    for image in (photograph, photograph[:1, :, :7, :31], torch.rand(3, 3, 1, 1), torch.rand(1, 3, 16, 1)):
        illumination, reflectance = enhance_image(network, image)
        for got, wanted in zip(run(name, path, image), (reflectance, illumination), strict=True):
            assert got.shape == wanted.shape and (got - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", ["written", WITH_EXPOSURE])
def test_onnx_holds_standard_operators_and_metadata(request, kind):
    path = of(request.getfixturevalue(kind), "onnx")[0]
    import onnx

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""} and not model.functions
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["sci_kernels"] == sci_kernels.__version__ and metadata["weights"] == "default.safetensors"
    assert {name: metadata.get(name) for name in RULES[kind]} == RULES[kind]
    (image,), outputs = model.graph.input, model.graph.output
    for value in (image, *outputs):
        shape = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        assert shape == ["batch", 3, "height", "width"]
    assert [value.name for value in outputs] == [OUTPUTS[kind], "illumination"]


@pytest.mark.parametrize("kind", ["written", WITH_EXPOSURE])
def test_torch_program_holds_no_custom_operator(request, kind):
    path, *_, compute = request.getfixturevalue(kind)["torch"]
    with zipfile.ZipFile(path) as file:
        (name,) = (name for name in file.namelist() if name.endswith("sci-kernels.json"))
        metadata = json.loads(file.read(name))
    assert metadata["weights"] == "default.safetensors"
    assert {name: metadata.get(name) for name in RULES[kind]} == RULES[kind]
    program = torch.export.load(str(path)).module() if kind == "written" else compute
    called = {node.target for node in program.graph.nodes if node.op == "call_function"}
    operators = {target for target in called if isinstance(target, torch._ops.OpOverload)}
    assert operators and {target.namespace for target in operators} == {"aten"}
    assert all(target.__module__ in ("_operator", "torch") for target in called - operators)  # arithmetic of sizes
    assert not any(output.requires_grad for output in program(torch.rand(1, 3, 8, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_exposures_at_other_sizes(exposed, name):
    """Sides from 1 to some beyond 512, where the rule begins to skip points; each image of a batch has its own."""
    _, differences, compute = of(exposed, name)
    assert len(differences) == 2 and all(0 <= value <= 1e-5 for value in differences.values())
    photograph = torch.from_numpy(np.load(GOLDEN / "train_3stage.npz")["images"]).float()
    torch.manual_seed(3)
    scale = torch.tensor([0.02, 0.5]).view(2, 1, 1, 1)
    lamps = (torch.rand(1, 1, 90, 70) > 0.99).float() + 0.01 * torch.rand(1, 3, 90, 70)
    images = [photograph, photograph[:1, :, :7, :31], lamps.clamp(max=1), scale * torch.rand(2, 3, 513, 40)]
    images += [scale * torch.rand(2, 3, *size) for size in ((1, 1), (16, 1), (2, 3), (1, 1500))]
    for image in images:
        result, illumination, c = by_definition(image)
        assert (c > 0).any()
        for got, wanted in zip(compute(image), (result, illumination), strict=True):
            assert got.shape == wanted.shape and (got - wanted).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_what_gets_no_exposure_stays_as_it_is(exposed, name):
    compute = of(exposed, name)[-1]
    dark = 0.1 * torch.rand(1, 3, 20, 30)
    broken = dark.clone()
    broken[0, 1, 5, 7] = torch.nan
    images = torch.cat([torch.zeros(1, 3, 20, 30), 0.3 + 0.5 * torch.rand(1, 3, 20, 30), broken, dark])
    wanted, _, c = by_definition(images)
    assert (c > 0).tolist() == [False, False, False, True]
    result, _ = compute(images)
    assert torch.equal(result[:3].nan_to_num(9), images[:3].nan_to_num(9))
    assert (result[3] - wanted[3]).abs().max() <= 1e-5


@pytest.mark.parametrize("exposure, denoise", [("auto", 4), (2.5, None), (20, 0), (0, 1)])
def test_what_is_exported_is_what_the_library_defines(exposure, denoise):
    network = graph(exposure=exposure, denoise=denoise)
    for image in (0.3 * torch.rand(2, 3, 33, 45), 0.3 * torch.rand(1, 3, 2, 600)):
        for got, wanted in zip(network(image), network.expected(image), strict=True):
            assert (got - wanted).abs().max() <= 2e-6
        assert exposure != 0 or torch.equal(network(image)[0], image)


def test_a_filter_left_out_is_not_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: b"")
    monkeypatch.setattr(exporting, "_load_torch", lambda data: Exposed(denoise=0.0))
    with pytest.raises(ExportError, match="differs from the network by"):
        export("torch", tmp_path / "a.pt2", picture=small)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_another_network_is_not_written(written, name, tmp_path, monkeypatch, capsys):
    """The file of the default weights, offered for other weights, is what a faulty exporter would make."""
    data = of(written, name)[0].read_bytes()
    torch.manual_seed(1)
    save_weights(FinetuneNetwork(), tmp_path / "other.pt")
    monkeypatch.setattr(exporting, f"_build_{name}", lambda network, metadata: data)
    out = tmp_path / f"new{exporting.EXTENSIONS[name]}"
    command = ["--format", name, "-o", str(out), "--published"]
    assert main([*command, "--weights", str(tmp_path / "other.pt")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out}: not written; for {PICTURE} as 1 x 3 x ") and "more than 1e-05" in line
    assert os.listdir(tmp_path) == ["other.pt"]


def test_nan_is_a_difference(small, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: b"")
    monkeypatch.setattr(exporting, "_load_torch", lambda data: lambda image: (image * torch.nan, image))
    with pytest.raises(ExportError, match="differs from the network by nan"):
        export("torch", tmp_path / "a.pt2", picture=small)


def test_the_command(written, tmp_path, monkeypatch, capsys):
    data = of(written, "torch")[0].read_bytes()
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: data)
    out = tmp_path / "a.pt2"
    assert main(["--format", "torch", "-o", str(out), "--published"]) == 0
    height, width = read_image(PICTURE).pixels.shape[:2]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1 x 3 x {height} x {width}: differs from the network by at most 0.0e+00 (allowed: 1e-05)"
    assert lines[-1] == f"torch, weights default.safetensors, in {out}"
    assert out.read_bytes() == data and torch.export.load(io.BytesIO(data))


def test_the_command_exposes_by_default(small, tmp_path, monkeypatch, capsys):
    networks = []
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: networks.append(network) or b"program")
    monkeypatch.setattr(exporting, "_load_torch", lambda data: networks[0].expected)
    assert main(["--format", "torch", "-o", str(tmp_path / "a.pt2"), "--image", str(small)]) == 0
    assert networks[0].metadata == {"exposure": "auto", "target": "0.40", "denoise": "1"}


def test_a_picture_of_one_pixel_is_compared_too(tmp_path, monkeypatch):
    networks = []
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: networks.append(network) or b"program")
    monkeypatch.setattr(exporting, "_load_torch", lambda data: networks[0].expected)
    Image.new("RGB", (1, 1), (30, 20, 9)).save(tmp_path / "one.png")
    assert list(export("torch", tmp_path / "a.pt2", picture=tmp_path / "one.png")) == ["1 x 3 x 1 x 1", "2 x 3 x 1 x 1"]


def test_the_command_with_a_number_and_no_filter(small, tmp_path, capsys):
    out = tmp_path / "a.pt2"
    command = ["--format", "torch", "-o", str(out), "--image", str(small)]
    assert main([*command, "--exposure", "2.5", "--denoise", "0"]) == 0
    notes = {"sci-kernels.json": ""}
    program = torch.export.load(str(out), extra_files=notes).module()
    metadata = json.loads(notes["sci-kernels.json"])
    assert metadata["exposure"] == "2.5" and metadata["denoise"] == "0" and "target" not in metadata
    image = torch.rand(2, 3, 9, 1)
    network = EnhanceNetwork()
    load_weights(network)
    wanted = sci_kernels.enhance(image, fold(network), exposure=2.5, impl="reference")
    assert (program(image)[0] - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "arguments, status, line",
    [
        ("--format torch -o there.pt2", 2, "error: there.pt2: exists and was left alone; use --overwrite"),
        ("--format torch -o new.onnx", 2, "error: new.onnx: expected a name that ends in .pt2 for torch"),
        ("--format torch -o new.pt2 --weights none.pt", 2, "error: none.pt: no such file; name a weight file"),
        ("--format torch -o new.pt2 --image there.pt2", 2, "error: there.pt2: not a picture in a known format"),
        (
            "--format torch --published -o no/new.pt2",
            2,
            "error: no/new.pt2: cannot be written (No such file or directory)",
        ),
        ("--format official -o new.pt2", 2, "error: new.pt2: expected a name that ends in .pt for official"),
        ("--format html -o there.pt2 --overwrite", 2, "error: there.pt2: expected a name that ends in .html for html"),
        ("--format official -o new.pt -n there.pt2", 2, "error: there.pt2: truncated, or no weight file at all"),
        ("--format official -o no/new.pt", 2, "error: no/new.pt: cannot be written (No such file or directory)"),
        (
            "--format torch -o new.pt2 --exposure 2 --published",
            2,
            "error: argument --published: not allowed with argument",
        ),
        (
            "--format torch -o new.pt2 --published --denoise 1",
            2,
            "error: --denoise 1: the published division has no filter;",
        ),
        (
            "--format torch -o new.pt2 --exposure 21",
            2,
            "error: argument --exposure: expected auto, published or a number from 0 to 20",
        ),
        (
            "--format torch -o new.pt2 --exposure bright",
            2,
            "error: argument --exposure: expected auto, published or a number from 0 to 20",
        ),
        (
            "--format torch -o new.pt2 --denoise nan",
            2,
            "error: argument --denoise: expected a number from 0 to 4; got 'nan'",
        ),
        ("--format official -o new.pt --denoise 1", 2, "error: --format official writes the weights alone; leave out"),
        ("--format tflite -o new.pt2", 2, "error: argument --format: invalid choice: 'tflite'"),
        ("--format onnx -o new.onnx", 1, "error: --format onnx needs onnxruntime, which is not installed; pip install"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, monkeypatch, capsys, written, arguments, status, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    data = of(written, "torch")[0].read_bytes()
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: data)
    (tmp_path / "there.pt2").write_text("precious")
    try:
        got = main(arguments.split())
    except SystemExit as stop:
        got = stop.code
    lines = capsys.readouterr().err.splitlines()
    assert got == status and len(lines) == 1 and lines[0].startswith(line), lines
    assert os.listdir(tmp_path) == ["there.pt2"] and (tmp_path / "there.pt2").read_text() == "precious"
