"""What users type: names, commands and flags of every release so far, all of which are tried here."""

import contextlib
import importlib
import io
import re
import sys

import pytest

NAMES = {
    "sci_kernels": "EnhanceWeights LossFunction Retinex SmoothLoss accelerate batch_norm convolution default_impl "
    "denoise enhance exposure illumination_loss restore retinex smooth_loss",
    "sci_kernels.constants": "COLORS FIDELITY_WEIGHT IMPLS MIN_SIDE MIN_SIGMA OFFSETS PAIRS SIGMA SMOOTH_WEIGHT",
    "sci_kernels.reference": "smooth_loss illumination_loss retinex enhance denoise find_exposure",
    "sci_kernels.functional": "illumination_loss retinex smooth_loss",
    "sci_kernels.modules": "LossFunction Retinex SmoothLoss",
    "sci_kernels.pictures": "denoise enhance exposure",
    "sci_kernels.drop_in": "Acceleration Refusal Replacement Verification accelerate restore",
    "model": "CalibrateNetwork DEFAULT_WEIGHTS EnhanceNetwork Enhanced Enhancer FinetuneNetwork ImageError Metadata "
    "Network Picture Stages WeightsError enhance_image find_images fold load_weights quantize read_image save_weights "
    "write_image",
    "model.enhance": "main",
    "model.video": "Report VideoError enhance_video",
    "model.export": "main",
    "train.evaluate": "loe psnr ssim",
    "train.step": "StepResult make_optimizer training_step",
}
# The flags of each command.
FLAGS = {
    "bench all": "--device --out --seconds",
    "bench convolutions": "--device --json --size",
    "bench demo": "--data --out",
    "bench environments": "--folder --keep --only",
    "bench enhance": (
        "--check --device --dtype --folder --json --keep-cache --parts --plot --providers --repeats --seconds --size"
    ),
    "bench exposing": "--device --json --repeats --size",
    "bench figures": "--json",
    "bench gain": "--device --json --repeats --size",
    "bench gpu": "--out --rehearse --seconds --stages",
    "bench kernels": "--json --only --target",
    "bench loss": (
        "--check --color --device --dtype --json --keep-cache --parts --plot --providers --repeats --seconds --size"
    ),
    "bench page": "--json --pictures --repeats --size",
    "bench profile": "--color --device --dtype --out --size",
    "bench quality": "--out",
    "bench report": "--check --results",
    "bench retinex": (
        "--check --device --dtype --json --keep-cache --parts --plot --providers --repeats --seconds --size"
    ),
    "bench sweep": "--json --only",
    "bench step": (
        "--batch --check --device --dtype --graph --json --keep-cache --memory --parts --plot --providers "
        "--repeats --seconds --size"
    ),
    "bench tritons": "--all --folder --record",
    "model.enhance": (
        "--bits --data_path --denoise --device --exposure --ext --gallery --gpu --illumination --input "
        "--lossless --max-pixels --model --model_path --output --overwrite --published --raw-half "
        "--report --save_path --seed --shard --skip-existing --smooth --strength --strip --suffix --tile "
        "--weights --workers -i -n -o -t"
    ),
    "model.export": "--denoise --exposure --format --image --output --overwrite --published --weights -n -o",
    "train": (
        "--amp --batch-size --batch_size --checkpoint --color --compile --convolutions --crop --cuda "
        "--data --data_path --device --epochs --exact --fidelity-weight --fidelity_weight --finetune "
        "--gpu --graph --impl --lr --model --no-compile --no-graph --out --overwrite --resume "
        "--sample-every --sample_every --save --save-every --save_every --save_path --seed --sigma "
        "--stage --steps --sync-bn --sync_bn --workers"
    ),
    "train plan": "--amp --batch-size --checkpoint --exact --finetune --memory --official --stage",
    "train.evaluate": "--csv --denoise --exposure --input --niqe --overwrite --pred --published --truth --weights",
}


@pytest.mark.parametrize("module", NAMES)
def test_names_are_there(module):
    if module == "model.video":
        pytest.importorskip("av")
    there = importlib.import_module(module)
    assert not [name for name in NAMES[module].split() if getattr(there, name, None) is None]


@pytest.mark.parametrize("module", ["sci_kernels", "model", "train"])
def test_every_name_that_is_announced_can_be_had(module):
    there = importlib.import_module(module)
    assert not [name for name in there.__all__ if getattr(there, name, None) is None]
    with pytest.raises(AttributeError, match="no_such_name"):
        there.no_such_name  # noqa: B018


def help_of(command: str, monkeypatch) -> str:
    """What a command prints for --help, from this process: each would take seconds to load by itself."""
    package, _, rest = command.partition(" ")
    module = {"bench": "bench.__main__", "train": "train.__main__", "train.evaluate": "train.evaluate.__main__"}
    main = importlib.import_module(module.get(package, package)).main
    arguments = [*rest.split(), "--help"]
    out = io.StringIO()
    monkeypatch.setattr(sys, "argv", [package, *arguments])
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stopped:
        main() if package == "bench" else main(arguments)
    assert stopped.value.code == 0
    return out.getvalue()


@pytest.mark.parametrize("command", FLAGS)
def test_commands_take_their_flags(command, monkeypatch):
    if command in ("bench kernels", "bench sweep"):
        pytest.importorskip("triton")
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_of(command, monkeypatch)))
    assert not set(FLAGS[command].split()) - known


def test_every_command_of_bench_is_listed_here():
    from bench.__main__ import COMMANDS

    assert {f"bench {name}" for name in COMMANDS} == {name for name in FLAGS if name.startswith("bench ")}
