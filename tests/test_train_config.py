"""Settings of a run: defaults, aliases, what is kept of them."""

import dataclasses
import json

from train.config import Settings, from_dict, new_settings, parse, read_json, resumed_settings, to_json


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
