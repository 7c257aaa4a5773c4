"""Settings of a run: defaults, what may change when it is resumed, and the JSON file that keeps them.

Defaults are those of the published method: Adam(lr 3e-4, betas (0.9, 0.999), weight decay 3e-4), gradients
clipped at norm 5, full-size photographs one at a time, 3 stages, 1000 epochs, seed 2; fine-tuning takes 100
steps at lr 5e-4.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from model.network import CHECKPOINTS, CONVOLUTIONS
from sci_kernels.constants import COLORS, FIDELITY_WEIGHT, IMPLS, MIN_SIDE, MIN_SIGMA, SIGMA

from .errors import TrainError

FINETUNE_LR = 5e-4
FINETUNE_STEPS = 100

# What may differ between a run and its resumption: none of these changes what a step computes from the
# steps before it (another device rounds differently). `data` may move as long as it holds the same photographs.
MAY_CHANGE = (
    *("data", "out", "epochs", "steps", "workers", "device", "save_every", "sample_every"),
    *("checkpoint", "compile", "graph"),
)


@dataclass(frozen=True)
class Settings:
    """One run. `steps`, where given, overrides `epochs`; `crop` is (height, width); `graph` None: with `crop`."""

    data: str
    out: str
    finetune: str | None = None
    stage: int = 3
    epochs: int = 1000
    steps: int | None = None
    lr: float = 3e-4
    batch_size: int = 1
    crop: tuple[int, int] | None = None
    seed: int = 2
    device: str = "auto"
    workers: int = 0
    amp: str = "off"
    impl: str = "auto"
    exact: bool = False
    checkpoint: str = "off"
    convolutions: str = "auto"
    compile: bool = False
    graph: bool | None = None
    fidelity_weight: float = FIDELITY_WEIGHT
    sigma: float = SIGMA
    color: str = "reference"
    save_every: int = 0
    sample_every: int = 20
    sync_bn: bool = False

    def __post_init__(self):
        # Limits far beyond any use; larger values would fill the memory before any other check.
        _require("stage", self, lambda value: _whole(value) and 1 <= value <= 100, "a whole number from 1 to 100")
        _require("workers", self, lambda value: _whole(value) and 0 <= value <= 256, "a whole number from 0 to 256")
        for name in ("epochs", "batch_size"):
            _require(name, self, lambda value: _whole(value) and value >= 1, "a whole number, 1 or more")
        for name in ("save_every", "sample_every"):
            _require(name, self, lambda value: _whole(value) and value >= 0, "a whole number, 0 or more")
        _require(
            "seed", self, lambda value: _whole(value) and 0 <= value < 1 << 63, "a whole number from 0 to 2**63 - 1"
        )
        # Also far beyond any use; larger numbers overflow inside the optimizer.
        _require("lr", self, lambda value: 0 < value <= 1e6, "a positive number, at most 1e6")
        _require("sigma", self, lambda value: math.isfinite(value) and value >= MIN_SIGMA, "a positive number")
        _require("fidelity_weight", self, lambda value: abs(value) <= 1e6, "a number of at most 1e6")
        _require(
            "steps", self, lambda value: value is None or (_whole(value) and value >= 1), "a whole number, 1 or more"
        )
        _require("crop", self, lambda value: value is None or min(value) >= MIN_SIDE, f"sides of {MIN_SIDE} or more")
        for name in ("exact", "compile", "sync_bn"):
            _require(name, self, lambda value: isinstance(value, bool), "true or false")
        _require("graph", self, lambda value: value is None or isinstance(value, bool), "true or false")
        choices = {"amp": ("off", "bf16"), "impl": IMPLS, "color": COLORS, "checkpoint": CHECKPOINTS}
        choices["convolutions"] = CONVOLUTIONS
        for name, accepted in choices.items():
            _require(name, self, accepted.__contains__, f"one of {', '.join(accepted)}")
        if self.checkpoint != "off" and (self.compile or self.impl == "reference"):
            other = "--compile" if self.compile else "--impl reference"
            raise TrainError(f"--checkpoint: expected off with {other}; got {self.checkpoint}; leave one of them out")
        if self.convolutions == "triton" and (self.compile or self.impl in ("reference", "blocked") or self.sync_bn):
            raise TrainError(
                "--convolutions: expected auto with --compile, --sync-bn, --impl reference or --impl blocked; got "
                "triton; leave one of them out"
            )
        if self.sync_bn and self.compile:
            raise TrainError("--sync-bn: expected a step that is not compiled; got --compile; leave one of them out")

    def fixed(self) -> dict:
        """The settings that a resumed run must share with the run it continues."""
        fixed = {name: value for name, value in dataclasses.asdict(self).items() if name not in MAY_CHANGE}
        if self.convolutions == "auto":
            fixed["convolutions"] = "library"  # what it means everywhere so far
        return fixed


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(name: str, settings: Settings, accepts, expected: str) -> None:
    value = getattr(settings, name)
    try:
        accepted = accepts(value)
    except TypeError:
        accepted = False
    if not accepted:
        raise TrainError(f"{flag(name)}: expected {expected}; got {value!r}")


def flag(name: str) -> str:
    """The command-line name of a setting."""
    return "--" + name.replace("_", "-")


def new_settings(given: dict) -> Settings:
    """Settings of a run that begins, from what the command line gave."""
    if "data" not in given:
        raise TrainError("--data: expected a folder of photographs; none was given")
    if given.get("finetune"):
        given = {"lr": FINETUNE_LR} | given
        if "epochs" not in given:
            given = {"steps": FINETUNE_STEPS} | given
    return Settings(**given)


def resumed_settings(saved: Settings, given: dict) -> Settings:
    """The saved settings with what the command line gave; refuses changes that a resumed run must not make."""
    if "epochs" in given and "steps" not in given:
        given = given | {"steps": None}
    settings = dataclasses.replace(saved, **given)
    refuse_changes(saved.fixed(), settings.fixed(), f"the run in {saved.out}")
    return settings


def refuse_changes(before: dict, now: dict, where: str) -> None:
    """Raise TrainError naming every setting that differs."""
    changes = [f"{flag(name)} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]
    if changes:
        raise TrainError(
            f"--resume: expected the settings of {where}; got {', '.join(changes)}; give the same, or start a new "
            f"run in another --out (only {', '.join(flag(name) for name in MAY_CHANGE)} may change)"
        )


def to_json(settings: Settings, versions: dict[str, str]) -> str:
    """The text of config.json."""
    return json.dumps({"settings": dataclasses.asdict(settings), "versions": versions}, indent=2) + "\n"


def from_dict(values: dict) -> Settings:
    """Settings from their saved form, in which a tuple has become a list."""
    crop = values.get("crop")
    values = {"exact": True} | values  # runs begun before there was a choice
    return Settings(**(values | {"crop": None if crop is None else tuple(crop)}))


def read_json(path: Path) -> Settings:
    """Settings from a config.json."""
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except FileNotFoundError:
        raise TrainError(
            f"{path.parent}: expected a run to resume (config.json); found none; leave --resume out to start one"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainError(
            f"{path}: expected the settings of a run; got {type(error).__name__}: {error}; "
            "restore the file, or start a new run in another --out"
        ) from None
