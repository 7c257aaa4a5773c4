"""The planner against memory that is really kept."""

import contextlib
import dataclasses
import functools
import gc
import itertools
from pathlib import Path

import pytest
import torch

from model.network.architecture import Network
from sci_kernels import LossFunction
from train.__main__ import main
from train.memory_plan import GIB, OFFICIAL, RESERVE, PlannedStep, measure, plan
from train.step.update import make_optimizer, stage_losses, training_step

ROOT = Path(__file__).resolve().parents[2]
STEPS = [
    PlannedStep(stage=2, impl="blocked"),
    PlannedStep(stage=2, impl="blocked", checkpoint="stage"),
    PlannedStep(stage=2, impl="blocked", checkpoint="block"),
    PlannedStep(finetune=True, impl="blocked"),
]


pytestmark = pytest.mark.usefixtures("one_thread")
planned = functools.cache(plan)  # seconds for the whole network
two_whole_networks = pytest.mark.xdist_group("plan")


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_tensors_without_memory_are_counted_as_real_ones(step, monkeypatch):
    """At a size the plan has not seen, and in the layout of a GPU, which a CPU can compute in as well."""
    height, width = 30, 52
    found, pixels = plan(step), height * width
    monkeypatch.setattr("train.memory_plan.FakeTensorMode", contextlib.nullcontext)
    real = measure(step, height, width)
    for part, bytes_a_pixel in found.kept.items():
        assert real.kept[part] == pytest.approx(bytes_a_pixel * pixels, rel=0.01, abs=20_000), part
    assert real.peak == pytest.approx(found.peak * pixels + found.constant, rel=0.03)


def official_loss(model, criterion, image):
    """As the official code adds it up, with all that the network returned at hand."""
    stages = model(image)
    return sum(criterion(*pair) for pair in zip(stages.inputs, stages.illuminations, strict=True))


def allocated(step, height, width):
    """The peak of a step as the allocator reports it, in bytes, from a network, an image and no gradients on."""
    losses = official_loss if step.held else stage_losses
    model = Network(step.stage, step.impl, step.exact, step.checkpoint).train()
    criterion, image = LossFunction(impl=step.impl), torch.rand(1, 3, height, width) * 0.3
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        losses(model, criterion, image).sum().backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return image.nbytes + max(itertools.accumulate(sizes))


@pytest.mark.parametrize(
    "step", [PlannedStep(impl="blocked"), OFFICIAL, dataclasses.replace(OFFICIAL, held=False)], ids=str
)
def test_the_count_is_that_of_the_allocator(step):
    """Which knows nothing of tensors: what a library takes for itself, and what is freed late, shows here."""
    assert allocated(step, 60, 80) == pytest.approx(measure(step, 60, 80, fake=False).peak, rel=0.01)


@pytest.mark.slow
@two_whole_networks
def test_a_fifth_of_the_official_step():
    assert 5 * planned(PlannedStep()).peak <= planned(OFFICIAL).peak


def test_what_is_kept_falls_with_checkpoints_and_bf16():
    peaks = [
        plan(PlannedStep(stage=2, amp=amp, checkpoint=c)).peak for amp in ("off", "bf16") for c in ("off", "block")
    ]
    assert peaks[0] > peaks[1] > peaks[3] and peaks[0] > peaks[2] > peaks[3]


def test_the_largest_image_fits_and_a_larger_one_does_not():
    found = plan(PlannedStep(finetune=True))
    for batch in (1, 3):
        height, width = found.largest(4 * GIB, batch)
        assert height * 16 == width * 9
        assert found.total(height * width * batch) <= 4 * GIB < found.total((height + 9) * (width + 16) * batch)
    assert found.largest(RESERVE) == (0, 0)


def test_the_command(capsys):
    assert main(["plan", "--memory", "8GB", "--finetune"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "planned, not measured" in lines[0] and " x " in lines[-1] and "bytes per pixel" in lines[-2]
    assert main(["plan", "--official", "--finetune"]) == 0
    assert capsys.readouterr().out.startswith("the official code, fine-tuning")
    for arguments in (
        ["--memory", "much"],
        ["--stage", "0"],
        ["--checkpoint", "all"],
        ["--checkpoint", "stage", "--official"],
    ):
        with pytest.raises(SystemExit) as error:
            main(["plan", *arguments])
        assert error.value.code == 2 and arguments[0] in capsys.readouterr().err


@two_whole_networks
def test_the_table_of_the_documentation_is_what_is_planned():
    steps = {"| float32 | off |": PlannedStep(), "| bf16 | block |": PlannedStep(amp="bf16", checkpoint="block")}
    lines = (ROOT / "docs" / "training.md").read_text("utf-8").splitlines()
    for start, step in (steps | {"| the official code | off |": OFFICIAL}).items():
        rows = [line for line in lines if line.startswith(start)]
        found = planned(step)
        sizes = ["{1} x {0}".format(*found.largest(memory * GIB)) for memory in (8, 16, 24, 80)]
        assert rows == [f"{start} {found.peak:.0f} | {' | '.join(sizes)} |"]


@pytest.mark.gpu
def test_the_plan_holds_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use")
    for checkpoint in ("off", "block"):
        model = Network(exact=False, checkpoint=checkpoint).cuda()
        optimizer, criterion = make_optimizer(model, 3e-4), LossFunction()
        image = torch.rand(1, 3, 1080, 1920, device="cuda")
        for _ in range(2):
            training_step(model, criterion, optimizer, image).read()
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        training_step(model, criterion, optimizer, image).read()
        bound = plan(PlannedStep(checkpoint=checkpoint)).total(1080 * 1920)
        assert torch.cuda.max_memory_allocated() <= bound
