"""Recorded steps, on a CPU with a tape in place of CUDA graphs: bits, counts, errors."""

import pytest
import torch

import train.step.cuda_graphs
from model.network.batch_statistics import planned_for_gpu
from sci_kernels import native
from tests.conftest import interpreter_fault
from tests.fake_cuda_graphs import TapeRecorder, assert_same, picture, start
from train.step.cuda_graphs import MOST, VISITS, Graphs
from train.step.update import NotFinite, make_optimizer, training_step

pytestmark = pytest.mark.usefixtures("one_thread")


def tape_graphs(optimizer, tell=lambda line: None):
    recorder = TapeRecorder()
    return Graphs(optimizer, recorder, tell), recorder


CASES = {
    "native": {"impl": "native"},
    "blocked": {"impl": "blocked"},
    "reference": {"impl": "reference"},
    "exact": {"exact": True},
    "bf16": {"amp": "bf16"},
    "reference bf16": {"impl": "reference", "amp": "bf16"},
    "stage": {"checkpoint": "stage"},
    "block": {"checkpoint": "block"},
    "finetune": {"kind": "finetune"},
}


@pytest.mark.quick(every=2)
@pytest.mark.parametrize("case", CASES)
def test_recorded_steps_are_ordinary_steps_to_the_bit(case):
    options = dict(CASES[case])
    amp = options.pop("amp", "off")
    if options.get("impl") == "native" and (reason := native.compiler_error()):
        pytest.skip(reason)
    ours, theirs = start(**options), start(**options)
    graphs, recorder = tape_graphs(ours[2])
    results = [training_step(*ours, picture(seed, 2), amp, graphs=graphs) for seed in range(7)]
    # Read at the end: no replay may change what the results before it hold.
    assert [result.read() for result in results] == [
        training_step(*theirs, picture(seed, 2), amp).read() for seed in range(7)
    ]
    assert (recorder.recorded, recorder.replayed) == (1, 7 - VISITS + 1)
    assert_same(ours, theirs)


def test_each_size_is_recorded_at_its_third_visit_and_no_more_than_a_few_are():
    ours, theirs = start(), start()
    lines = []
    graphs, recorder = tape_graphs(ours[2], lines.append)
    heights = [8, 9, 8, 10, 8, 9, 9, 8, 11, 11, 11, 10, 12, 10, 12, 12, 13, 13, 13, 8, 9, 13, 12]
    visits, recorded, replayed = {}, [], 0
    for seed, h in enumerate(heights):
        visits[h] = visits.get(h, 0) + 1
        if visits[h] >= VISITS and h not in recorded and len(recorded) < MOST:
            recorded.append(h)
        replayed += h in recorded
        result = training_step(*ours, picture(seed, h=h), graphs=graphs)
        assert result.read() == training_step(*theirs, picture(seed, h=h)).read()
        assert (recorder.recorded, recorder.replayed) == (len(recorded), replayed)
    assert len(recorded) == MOST < len(set(heights)) and [line.split(" x ", 1)[1] for line in lines] == [
        f"{h}x10 (height x width) is recorded, and replayed from now on" for h in recorded
    ]
    assert_same(ours, theirs)


def test_batches_of_other_sizes_are_other_steps():
    ours, theirs = start(), start()
    graphs, recorder = tape_graphs(ours[2])
    for seed in range(9):
        n = 1 if seed % 3 == 2 else 2  # the last batch of an epoch is short
        assert (
            training_step(*ours, picture(seed, n), graphs=graphs).read()
            == training_step(*theirs, picture(seed, n)).read()
        )
    assert recorder.recorded == 2 and recorder.replayed == 5
    assert_same(ours, theirs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_recorded_step_that_is_not_finite_changes_no_weight(bad):
    parts = start()
    graphs, recorder = tape_graphs(parts[2])
    for seed in range(VISITS):
        training_step(*parts, picture(seed), graphs=graphs)
    assert recorder.recorded == 1
    state = [p for p in parts[0].parameters()]
    state += [value for of in parts[2].state.values() for value in of.values()]
    before = [tensor.detach().clone() for tensor in state]
    spoilt = picture(9)
    spoilt[0, 1, 5, 5] = bad
    result = training_step(*parts, spoilt, graphs=graphs)
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))
    training_step(*parts, picture(10), graphs=graphs)  # begun before the number is read, as the loop does
    with pytest.raises(NotFinite):
        result.read()
    assert not all(torch.equal(a, b) for a, b in zip(state, before, strict=True))


def test_an_error_while_recording_loses_nothing():
    """Midway, and with a size recorded before; all that follows are ordinary steps."""
    ours, theirs = start(), start()
    lines, asked = [], []
    graphs, recorder = tape_graphs(ours[2], lines.append)

    def criterion(*pair):
        loss = theirs[1](*pair)
        if pair[0].shape[2] == 9 and torch._C._len_torch_dispatch_stack():
            asked.append(float(loss.detach()))  # what no recording can give
        return loss

    for seed, h in enumerate([12, 12, 12, 9, 9, 12, 9, 9, 12, 12, 12]):
        result = training_step(ours[0], criterion, ours[2], picture(seed, h=h), graphs=graphs)
        assert result.read() == training_step(*theirs, picture(seed, h=h)).read()
        assert not any(group["capturable"] for group in ours[2].param_groups)
    assert recorder.recorded == 1 and recorder.replayed == 2 and not asked
    assert lines[1:] == [
        "graphs: off from here on, a step of 1 x 9x10 (height x width) cannot be recorded (a number was asked for "
        "while recording); training goes on"
    ]
    assert_same(ours, theirs)


def test_adam_is_told_that_it_is_recorded_for_as_long_as_it_is(monkeypatch):
    parts = start()
    graphs, _ = tape_graphs(parts[2])
    seen = []
    parts[2].register_step_pre_hook(lambda adam, *_: seen.append(adam.param_groups[0]["capturable"]))
    for seed in range(VISITS + 1):
        training_step(*parts, picture(seed), graphs=graphs)
    assert seen == [False] * (VISITS - 1) + [True]
    assert not parts[2].state_dict()["param_groups"][0]["capturable"]


@pytest.mark.parametrize("now", [False, True])
def test_capturable_changes_no_bit_of_fused_adam(now):
    """Nor does a checkpoint that was written with it keep anything from being loaded."""
    runs = []
    for capturable in (False, True):
        model, criterion, optimizer = start()
        for group in optimizer.param_groups:
            group["capturable"] = capturable
        for seed in range(2):
            training_step(model, criterion, optimizer, picture(seed))
        state = optimizer.state_dict()
        optimizer = make_optimizer(model, 3e-4)
        optimizer.load_state_dict(state)
        for group in optimizer.param_groups:
            group["capturable"] = now
        training_step(model, criterion, optimizer, picture(2))
        runs.append((model, criterion, optimizer))
    assert_same(*runs)


@pytest.mark.slow
def test_kernels_and_memory_of_a_gpu_as_a_recording_sees_them(monkeypatch):
    """Interpreted kernels, features as on a GPU; backward gives back memory that a replay needs again."""
    if reason := interpreter_fault():
        pytest.skip(reason)
    monkeypatch.setattr(train.step.cuda_graphs, "VISITS", 2)
    with planned_for_gpu():
        ours, theirs = (start("finetune", impl="triton") for _ in range(2))
        graphs, recorder = tape_graphs(ours[2])
        for seed in range(2):
            result = training_step(*ours, picture(seed, h=5, w=6), graphs=graphs)
            assert result.read() == training_step(*theirs, picture(seed, h=5, w=6)).read()
    assert recorder.replayed == 1
    assert_same(ours, theirs)
