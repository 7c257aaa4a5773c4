"""Settings of a run: defaults, aliases, what is kept of them."""

import dataclasses
import json

import pytest

from train.arguments import parse
from train.config import Settings, from_dict, new_settings, read_json, resumed_settings, to_json
from train.prepare import passes


def test_defaults_are_those_of_the_method():
    settings = new_settings(parse(["--data", "d", "--out", "o"])[0])
    expected = dict(stage=3, epochs=1000, steps=None, lr=3e-4, batch_size=1, crop=None, seed=2, amp="off")
    expected |= dict(fidelity_weight=1.5, sigma=10.0, color="reference", finetune=None, impl="auto", device="auto")
    assert dataclasses.asdict(settings).items() >= expected.items()
    tuned = new_settings(parse(["--data", "d", "--out", "o", "--finetune", "w.pt"])[0])
    assert (tuned.lr, tuned.steps) == (5e-4, 100)
    chosen = parse(["--data", "d", "--out", "o", "--finetune", "w.pt", "--epochs", "7", "--lr", "1e-3"])[0]
    assert (new_settings(chosen).lr, new_settings(chosen).steps, new_settings(chosen).epochs) == (1e-3, None, 7)


def test_official_names_are_understood():
    same = ["--stage", "2", "--epochs", "5", "--lr", "0.1", "--seed", "7"]
    ours = ["--data", "d", "--out", "o", "--finetune", "w.pt", "--batch-size", "4", *same]
    for save in ("--save", "--save_path"):
        assert parse(ours) == parse(["--data_path", "d", save, "o", "--model", "w.pt", "--batch_size", "4", *same])
    assert parse(["--data", "d", "--out", "o", "--gpu", "0"])[0]["device"] == "gpu:0"


@pytest.mark.parametrize(
    "flags, device",
    [
        *((f"--cuda {value}", "gpu") for value in ("True", "true", "1")),
        *((f"--cuda {value}", "cpu") for value in ("False", "false", "0")),
        ("--cuda True --gpu 0", "gpu:0"),
        ("--cuda False --gpu 0", "cpu"),
    ],
)
def test_the_official_device(flags, device):
    given = parse(["--data", "d", "--out", "o", *flags.split()])[0]
    assert new_settings(given).device == device
    assert not given.keys() & {"cuda", "gpu"}


@pytest.mark.parametrize("text, steps", [("100", 100), ("10.0", 10), ("1e3", 1000)])
def test_steps_as_the_official_code_writes_them(text, steps):
    given = parse(["--data", "d", "--out", "o", "--steps", text])[0]
    assert new_settings(given).steps == steps and type(given["steps"]) is int


@pytest.mark.parametrize(
    "steps, count, batch, text",
    [
        (100, 10, 1, "100 steps are 10 passes over the 10 photographs"),
        (5, 10, 1, "5 steps are 0.5 passes over the 10 photographs"),
        (1, 1, 1, "1 step is 1 pass over the 1 photograph"),
        (100, 3, 1, "100 steps are about 33.33 passes over the 3 photographs"),
        (1999, 1000, 1, "1999 steps are about 2 passes over the 1000 photographs"),
        (1, 1000, 1, "1 step is under 0.01 passes over the 1000 photographs"),
        (100, 7, 4, "100 steps are 50 passes over the 7 photographs"),  # the second step of a pass takes three
        (1000, 1, 1, "1000 steps are 1000 passes over the 1 photograph"),
    ],
)
def test_what_steps_come_to(steps, count, batch, text):
    settings = Settings(data="d", out="o", finetune="w.pt", steps=steps)
    line = passes(settings, steps, count, batch)
    advice = f"the official finetune.py counts passes in --steps: its --steps {steps} is --epochs {steps} here"
    assert line == f"{text}; {advice}"
    asked = Settings(data="d", out="o", finetune="w.pt", epochs=9)
    assert passes(asked, steps, count, batch) == text  # they were asked for already


def test_help_tells_steps_from_passes(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "The official finetune.py counts passes over the photographs: its --steps is --epochs here" in text


def test_epochs_and_steps_when_resuming():
    saved = Settings(data="d", out="o", epochs=5, steps=12)
    assert (resumed_settings(saved, {}).epochs, resumed_settings(saved, {}).steps) == (5, 12)
    assert resumed_settings(saved, {"epochs": 9}).steps is None
    assert resumed_settings(saved, {"epochs": 9, "steps": 20}).steps == 20


def test_settings_survive_their_file(tmp_path):
    settings = Settings(data="d", out="o", crop=(64, 96), steps=12, lr=1e-3, amp="bf16", sigma=1.0)
    (tmp_path / "config.json").write_text(to_json(settings, {"torch": "2"}))
    assert read_json(tmp_path / "config.json") == settings
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(settings)))) == settings
