"""The command line of `python -m train`."""

import argparse
import math
from pathlib import Path

from model.command_line import Parser
from model.network import CHECKPOINTS, CONVOLUTIONS
from sci_kernels.constants import COLORS, IMPLS


def parse(argv: list[str] | None = None) -> tuple[dict, bool, bool]:
    """The settings that the command line gave, without any defaults, and whether to resume or to overwrite."""
    parser = Parser(
        said_by="train: ",
        prog="python -m train",
        description="Train SCI on a folder of dark photographs; no bright counterparts are needed.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    # In the order of --help.
    _add_folders(parser)
    _add_schedule(parser)
    _add_device(parser)
    _add_computation(parser)
    _add_loss(parser)
    _add_saving(parser)
    given = vars(parser.parse_args(argv))
    _take_official_device(parser, given)
    resume, overwrite = given.pop("resume", False), given.pop("overwrite", False)
    if "crop" in given:
        given["crop"] = tuple(given["crop"])
    for name in ("data", "out", "finetune"):
        if name in given:
            given[name] = str(Path(given[name]).absolute())
    return given, resume, overwrite


def _add_folders(parser: Parser) -> None:
    """The photographs, the results, and the weights to start from."""
    add = parser.add_argument
    add("--data", "--data_path", metavar="DIR", help="folder of photographs, searched recursively")
    add(
        "--out",
        "--save",
        "--save_path",
        metavar="DIR",
        type=_named,
        required=True,
        help="folder for everything the run makes",
    )
    add("--finetune", "--model", metavar="FILE", help="start from these weights, training the enhance network alone")


def _add_schedule(parser: Parser) -> None:
    """How long to train, and on what in each step."""
    add = parser.add_argument
    add("--stage", type=int, metavar="N", help="stages of the network (3); not used when fine-tuning")
    add("--epochs", type=int, metavar="N", help="passes over the photographs (1000)")
    add(
        "--steps",
        type=_steps,
        metavar="N",
        help="training steps in all; overrides --epochs (fine-tuning: 100). The official finetune.py counts "
        "passes over the photographs: its --steps is --epochs here",
    )
    add("--lr", type=float, help="learning rate of Adam (3e-4; fine-tuning 5e-4)")
    add(
        "--batch-size",
        "--batch_size",
        type=int,
        metavar="N",
        help="photographs per step and process (1); more need --crop",
    )
    add("--crop", type=int, nargs=2, metavar=("H", "W"), help="train on random crops of this size")
    add("--seed", type=int, help="of the initial weights, the order and the crops (2)")


def _add_device(parser: Parser) -> None:
    """Where to compute; `_take_official_device` merges these options."""
    add = parser.add_argument
    add("--device", help="auto, cpu, cuda or cuda:N (auto: a GPU if there is one)")
    add("--gpu", type=int, metavar="N", help="GPU number; without a GPU, the CPU")
    add(
        "--cuda",
        type=_true_or_false,
        metavar="True|False",
        help="True: a GPU, without one the CPU; False: the CPU, whatever --gpu",
    )
    add("--workers", type=int, metavar="N", help="processes that load photographs (0: this one)")


def _add_computation(parser: Parser) -> None:
    """How a step is computed."""
    add = parser.add_argument
    add("--amp", choices=("off", "bf16"), help="bfloat16 convolutions (off); the loss stays in float32")
    add("--sync-bn", "--sync_bn", action="store_true", help="BatchNorm over all processes (torchrun, GPUs only)")
    add(
        "--impl",
        choices=IMPLS,
        help="kernels to use (auto: triton on a GPU, native or blocked on a CPU)",
    )
    add(
        "--exact",
        action="store_true",
        help="also compute the last stage's calibration, as the official code does; it changes nothing but the "
        "running averages of the calibrate network",
    )
    add(
        "--checkpoint",
        choices=CHECKPOINTS,
        help="recompute in backward instead of keeping: nothing (off), a "
        "stage, or block by block; the same numbers in less memory",
    )
    add(
        "--convolutions",
        choices=CONVOLUTIONS,
        help="triton: tensor-core kernels of this project, on NVIDIA GPUs from sm_80 on, not yet measured; library: "
        "PyTorch's (auto: these)",
    )
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the step with torch.compile; the first step takes minutes",
    )
    add(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="on a GPU, record the step of a size that recurs as a CUDA graph, and replay it (on with --crop); "
        "the same numbers",
    )


def _add_loss(parser: Parser) -> None:
    add = parser.add_argument
    add("--fidelity-weight", "--fidelity_weight", type=float, help="of the loss (1.5)")
    add("--sigma", type=float, help="color scale of the smoothness loss (10)")
    add("--color", choices=COLORS, help="color transform of the smoothness loss (reference)")


def _add_saving(parser: Parser) -> None:
    """What is saved when, and what happens to an earlier run."""
    add = parser.add_argument
    add(
        "--save-every",
        "--save_every",
        type=int,
        metavar="N",
        help="steps between checkpoints (0: none but that at the end of each epoch)",
    )
    add("--sample-every", "--sample_every", type=int, metavar="N", help="epochs between sample pictures (20; 0: none)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue the run in --out; its settings are kept")
    existing.add_argument("--overwrite", action="store_true", help="delete the run in --out and start anew")


def _take_official_device(parser: Parser, given: dict) -> None:
    """Turn --cuda and --gpu into the setting of --device, with which they may not be given."""
    for name in ("cuda", "gpu"):
        if name in given and "device" in given:
            parser.error(f"--{name}: expected to be given without --device, which says the same; leave one of them out")
    cuda, gpu = given.pop("cuda", None), given.pop("gpu", None)
    if cuda is False:
        given["device"] = "cpu"
    elif gpu is not None:
        given["device"] = f"gpu:{gpu}"
    elif cuda:
        given["device"] = "gpu"


def _named(text: str) -> str:
    if not text:  # from an unset shell variable; it would mean the current folder
        raise argparse.ArgumentTypeError("expected a folder; got an empty name")
    return text


def _true_or_false(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False; got {text!r}")
    return values[text.lower()]


def _steps(text: str) -> int:
    """A whole number, which the official code takes as a float."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"expected a whole number; got {text!r}")
    return int(value)
