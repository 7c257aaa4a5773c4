"""The exported network: any size, the plain network's numbers, and nothing written that differs."""

import io
import json
import os
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model import EnhanceNetwork, FinetuneNetwork, Network, enhance_image, load_weights, read_image, save_weights
from model import export as exporting
from model.export import PICTURE, ExportError, export, export_official, main
from model.weights import DEFAULT_WEIGHTS
from sci_kernels import __version__
from tests.conftest import GOLDEN
from tests.runs import assert_equal, load_as_official


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict:
    """Each format once, by the command's function: path and the differences it reports."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {"torch": folder / "sci.pt2"}
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401

        paths["onnx"] = folder / "sci.onnx"
    except ModuleNotFoundError:
        pass
    return {name: (path, export(name, path)) for name, path in paths.items()}


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


def test_onnx_holds_standard_operators_and_metadata(written):
    path, _ = of(written, "onnx")
    import onnx

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""} and not model.functions
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["sci_kernels"] == __version__ and metadata["weights"] == "default.safetensors"
    (image,) = model.graph.input
    assert [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim] == [
        "batch",
        3,
        "height",
        "width",
    ]


def test_torch_program_holds_no_custom_operator(written):
    path, _ = of(written, "torch")
    notes = {"sci-kernels.json": ""}
    program = torch.export.load(str(path), extra_files=notes)
    assert json.loads(notes["sci-kernels.json"])["weights"] == "default.safetensors"
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert called and all(name.startswith("aten.") for name in called)
    assert not any(output.requires_grad for output in program.module()(torch.rand(1, 3, 8, 9)))


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_another_network_is_not_written(written, name, tmp_path, monkeypatch, capsys):
    """The file of the default weights, offered for other weights, is what a faulty exporter would make."""
    data = of(written, name)[0].read_bytes()
    torch.manual_seed(1)
    save_weights(FinetuneNetwork(), tmp_path / "other.pt")
    monkeypatch.setattr(exporting, f"_build_{name}", lambda network, metadata: data)
    out = tmp_path / f"new{exporting.EXTENSIONS[name]}"
    assert main(["--format", name, "-o", str(out), "--weights", str(tmp_path / "other.pt")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out}: not written; for {PICTURE} as 1 x 3 x ") and "more than 1e-05" in line
    assert os.listdir(tmp_path) == ["other.pt"]


def test_nan_is_a_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: b"")
    monkeypatch.setattr(exporting, "_load_torch", lambda data: lambda image: (image * torch.nan, image))
    with pytest.raises(ExportError, match="differs from the network by nan"):
        export("torch", tmp_path / "a.pt2")


def test_the_command(written, tmp_path, monkeypatch, capsys):
    data = of(written, "torch")[0].read_bytes()
    monkeypatch.setattr(exporting, "_build_torch", lambda network, metadata: data)
    out = tmp_path / "a.pt2"
    assert main(["--format", "torch", "-o", str(out)]) == 0
    height, width = read_image(PICTURE).pixels.shape[:2]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1 x 3 x {height} x {width}: differs from the network by at most 0.0e+00 (allowed: 1e-05)"
    assert lines[-1] == f"torch, weights default.safetensors, in {out}"
    assert out.read_bytes() == data and torch.export.load(io.BytesIO(data))


def test_the_default_weights_for_the_official_code_and_back(tmp_path, capsys):
    out = tmp_path / "weights.pt"
    assert main(["--format", "official", "-o", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "83 entries, read back: the same to the bit",
        f"official, weights default.safetensors, in {out}",
    ]
    theirs, ours = Network(), Network()
    assert load_as_official(theirs, out) == list(theirs.state_dict())
    load_weights(ours, out)
    for network in (theirs, ours):
        assert_equal(network.state_dict(), load_file(DEFAULT_WEIGHTS))
    with open(out, "rb") as file:
        assert file.read(2) == b"\x80\x02"  # as before PyTorch 1.6, which all read
    assert os.listdir(tmp_path) == ["weights.pt"]


@pytest.mark.parametrize("kind", [FinetuneNetwork, EnhanceNetwork])
@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_the_enhance_part_for_the_official_code(tmp_path, kind, extension):
    """Whether its names begin with `enhance.` or not."""
    source, out, network, theirs = tmp_path / f"w{extension}", tmp_path / "out.pt", kind(), FinetuneNetwork()
    save_weights(network, source)
    assert export_official(out, source) == len(theirs.state_dict())
    assert load_as_official(theirs, out) == list(theirs.state_dict())
    assert_equal(getattr(network, "enhance", network).state_dict(), theirs.enhance.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_entries_keep_their_dtype(tmp_path, dtype):
    state = {name: value.clone() for name, value in Network().to(dtype).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    export_official(tmp_path / "out.pt", tmp_path / "w.safetensors")
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert_equal(written, state)
    assert written["enhance.in_conv.0.weight"].dtype == dtype


@pytest.mark.parametrize("name", ["easy", "difficult"])
def test_official_weights_come_back_as_they_were(tmp_path, official, name):
    source = official / "weights" / f"{name}.pt"
    assert export_official(tmp_path / "out.pt", source) == 83
    wanted = torch.load(source, map_location="cpu", weights_only=True)
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(written) == list(wanted)
    assert_equal(written, wanted)


def change_sign_of_zero(state):
    return state | {"enhance.out_conv.0.bias": -state["enhance.out_conv.0.bias"]}


@pytest.mark.parametrize(
    "change",
    [
        change_sign_of_zero,
        lambda state: {name: tensor for name, tensor in state.items() if name != "enhance.out_conv.0.bias"},
        lambda state: {name: tensor.to(torch.float64) for name, tensor in state.items()},
    ],
    ids=["a bit", "an entry missing", "dtypes"],
)
def test_what_reads_back_differently_is_not_written(tmp_path, monkeypatch, capsys, change):
    save_weights(Network(), tmp_path / "w.safetensors")  # its biases are zeros
    original = exporting.to_pt
    monkeypatch.setattr(exporting, "to_pt", lambda state: original(change(state)))
    out = tmp_path / "out.pt"
    assert main(["--format", "official", "-o", str(out), "-n", str(tmp_path / "w.safetensors")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out}: not written; read back, ") and " of 83 entries differ from " in line
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_state_dict_is_replaced_when_asked_and_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.pt"
    out.write_bytes(b"precious")
    command = ["--format", "official", "-o", str(out)]
    assert main(command) == 2 and "use --overwrite" in capsys.readouterr().err

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main([*command, "--overwrite"]) == 2
    assert capsys.readouterr().err == f"error: {out}: cannot be written (No space left on device); choose another -o\n"
    assert out.read_bytes() == b"precious" and os.listdir(tmp_path) == ["out.pt"]
    assert main([*command, "--overwrite"]) == 0 and len(torch.load(out, weights_only=True)) == 83


@pytest.mark.parametrize(
    "arguments, status, line",
    [
        ("--format torch -o there.pt2", 2, "error: there.pt2: exists and was left alone; use --overwrite"),
        ("--format torch -o new.onnx", 1, "error: new.onnx: expected a name that ends in .pt2 for torch"),
        ("--format torch -o new.pt2 --weights none.pt", 2, "error: none.pt: no such file; name a weight file"),
        ("--format torch -o new.pt2 --image there.pt2", 2, "error: there.pt2: not a picture in a known format"),
        ("--format torch -o no/new.pt2", 2, "error: no/new.pt2: cannot be written (No such file or directory)"),
        ("--format official -o there.pt2", 2, "error: there.pt2: exists and was left alone; use --overwrite"),
        ("--format official -o new.pt2", 1, "error: new.pt2: expected a name that ends in .pt for official"),
        ("--format official -o new.pt -n there.pt2", 2, "error: there.pt2: truncated, or no weight file at all"),
        ("--format official -o no/new.pt", 2, "error: no/new.pt: cannot be written (No such file or directory)"),
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
