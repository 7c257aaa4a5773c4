"""Several processes on a CPU: one step is that of their photographs together, and a lost one ends the run well."""

import json
import os
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch

import train.distributed
from model.network.architecture import Network
from sci_kernels import LossFunction
from tests.training_runs import assert_same_weights, photographs, start_process, wait_for
from train.__main__ import main
from train.data import Place, Schedule, order, place_of
from train.distributed import Processes
from train.prepare import _silent, pick_device
from train.step.update import make_optimizer, training_step

ROOT = Path(__file__).resolve().parents[2]
SIZES = ((20, 23), (17, 19))
PHOTOGRAPHS = {f"{name}.png": (15 + k, 20 - k) for k, name in enumerate("abcde")}
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "train"]

# What each of two processes does, which takes them seconds to begin: gradients, which are saved.
GRADIENTS = """
import functools, sys, torch
from tests.train.test_train_distributed import images, network
from train.distributed import join, leave
from train.step import losses_function, make_optimizer, training_step
from sci_kernels import LossFunction

folder, = sys.argv[1:]
torch.compile = functools.partial(torch.compile, backend="eager")  # what else it does takes long, alone as in company
processes, device = join("cpu")
for stage, compiled in ((3, False), (1, True)):
    model = network(stage)
    for parameter in model.parameters():
        parameter.data.mul_(1 if processes.first else 2)  # process 0's weights are everyone's
    replica = processes.wrap(model, torch.device(device), False)
    idle = make_optimizer(model, 0.0)
    losses = losses_function(compiled, model, replica)
    for _ in range(2):  # gradients are put into buckets anew after the first step
        result = training_step(replica, LossFunction(), idle, images()[processes.rank], "off", losses)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save((gradients, result.gradient_norm), f"{folder}/got-{stage}-{processes.rank}.pt")
assert processes.largest(processes.rank + 4) == 5 and processes.mean(processes.rank) == 0.5
leave()
"""

# A run that a signal ends, and another that is left alone; their ports are the last arguments.
RUNS = """
import os, pathlib, sys, time, torch
from model.files import write_atomically
from tests.train.test_train_distributed import OPTIONS, STEPS_MORE
from train.__main__ import main

folder, *ports = sys.argv[1:]

def run(name, port, steps):
    os.environ["MASTER_PORT"] = port
    return main(["--data", f"{folder}/photos", "--out", f"{folder}/{name}", *OPTIONS, "--steps", str(steps)])

assert run("out", ports[0], 10000) == 143
# Process 0 saves; the other one may end before, and must not read an earlier checkpoint.
saved = pathlib.Path(folder, "saved")
if os.environ["RANK"] == "0":
    step = torch.load(f"{folder}/out/checkpoint.pt", weights_only=True)["step"]
    write_atomically(saved, str(step).encode())
deadline = time.monotonic() + 60
while not saved.exists() and time.monotonic() < deadline:
    time.sleep(0.01)
assert run("whole", ports[1], int(saved.read_text()) + STEPS_MORE) == 0
"""
OPTIONS = ["--sample-every", "0", "--stage", "2"]
STEPS_MORE = 7  # two epochs and a part of one


def network(stage):
    torch.manual_seed(3)
    return Network(stage).double()


def images():
    return [torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.manual_seed(7)) / 3 for size in SIZES]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(rank=0, port=0, count=2):
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in names.items()} | {"OMP_NUM_THREADS": "1"}


def finish(workers):
    """What they say; none may fail."""
    try:
        said = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()  # one that waits for a process that failed would wait forever
    assert [worker.returncode for worker in workers] == [0, 0], said
    return said


@pytest.mark.slow
def test_gradients_are_those_of_accumulated_batches(tmp_path):
    place, port = tmp_path, free_port()
    command = [sys.executable, "-c", GRADIENTS, str(place)]
    finish([start_process(command, **environment(rank, port)) for rank in (0, 1)])
    for stage in (3, 1):
        got = [torch.load(place / f"got-{stage}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        model, alone = network(stage), {}
        idle = make_optimizer(model, 0.0)
        for image in images():
            # As a step leaves it, but for the clipping of each half.
            training_step(model, lambda *pair: LossFunction()(*pair) * 1e-6, idle, image)
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    alone[name] = alone.get(name, 0) + parameter.grad * 1e6 / 2
        norm = torch.stack([gradient.norm() for gradient in alone.values()]).norm()
        scale = min(1.0, 5 / norm.item())
        for gradients, gradient_norm in got:
            assert gradient_norm == pytest.approx(norm.item(), rel=1e-6)
            for name, gradient in gradients.items():
                expected = alone.get(name)
                if expected is None:  # no gradient, so that Adam leaves the weight alone
                    assert gradient is None and stage == 1 and name.startswith("calibrate."), name
                else:
                    assert (gradient - scale * expected).abs().max() <= 1e-6 * scale * norm, name
        assert len(alone) == (22 if stage == 3 else 8)


@pytest.fixture
def folder(tmp_path):
    return photographs(tmp_path / "photos", PHOTOGRAPHS)


def child_of(pid, rank):
    """The process of that rank which torchrun has started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_one_killed_ends_the_run_and_another_number_goes_on(folder, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--data", str(folder), "--out", str(out), "--sample-every", "0"]
    process = start_process([*LAUNCH, *options])
    wait_for((out / "checkpoint.pt").exists, process)
    os.kill(child_of(process.pid, 1), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    (line,) = [line for line in errors.splitlines() if line.startswith("train: error: ")]
    assert process.returncode != 0
    assert "process 0 of 2" in line and "killed" in line and "keeps step" in line and "--resume" in line
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    step, (epoch, taken) = state["step"], state["place"]
    assert step == 3 * epoch and taken == 0  # 5 photographs by two processes: 3 steps an epoch
    assert json.loads((out / "config.json").read_text())["versions"]["processes"] == "2"
    assert main(["--out", str(out), "--resume", "--epochs", str(epoch + 2)]) == 0
    lines = capsys.readouterr().out.splitlines()
    last = [line for line in lines if line.startswith("epoch ")][-1]
    assert last.startswith(f"epoch {epoch + 2}/{epoch + 2}  step {step + 10}/{step + 10}")
    assert not list(out.glob(".*"))


def last_loss(out):
    """The mean loss of the last epoch, as it was logged."""
    return (out / "log.txt").read_text().rpartition(" loss ")[2].split()[0]


@pytest.mark.slow
def test_interrupted_and_resumed_by_as_many_and_by_one(folder, tmp_path):
    """Two processes go on to the bits of a run left alone; one alone finishes from the same place."""
    whole, out, alone = tmp_path / "whole", tmp_path / "out", tmp_path / "alone"
    command = [sys.executable, "-c", RUNS, str(tmp_path), str(free_port()), str(free_port())]
    workers = [start_process(command, **environment(rank)) for rank in (0, 1)]
    wait_for((out / "checkpoint.pt").exists, *workers)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    errors, other = finish(workers)
    step = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    (line,) = [line for line in errors.splitlines() if line.startswith("train: saved at step")]
    assert f"step {step} of 10000" in line and "--nproc_per_node=2" in line and "train: " not in other
    shutil.copytree(out, alone)

    command = [*shlex.split(line.partition("to resume: ")[2]), "--steps", str(step + STEPS_MORE)]
    process = start_process(command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_same_weights(out, whole)
    assert last_loss(out) == last_loss(whole) and float(last_loss(out)) > 0

    assert main(["--out", str(alone), "--resume", "--steps", str(step + 4)]) == 0
    state = torch.load(alone / "checkpoint.pt", weights_only=True)
    assert state["step"] == step + 4 and (alone / "weights.safetensors").exists()


def test_shares_of_a_schedule():
    shares = [list(Schedule(7, 2, 2, 0, 4, rank=rank, processes=2)) for rank in (0, 1)]
    assert [[len(batch) for batch in share] for share in shares] == [[2, 2, 2, 2]] * 2
    first = order(2, 0, 7).tolist()
    both = [key for step in range(2) for pair in zip(shares[0][step], shares[1][step], strict=True) for key in pair]
    assert both == [(0, index) for index in [*first, first[0]]]  # the last share is made equal by the first photograph
    alone = [list(Schedule(7, 1, 2, 0, 20, rank=rank, processes=5)) for rank in range(5)]
    assert all(len(batch) == 1 for share in alone for batch in share)


@pytest.mark.parametrize("before, after", [(1, 3), (3, 1), (2, 2)])
def test_another_number_of_processes_goes_on_in_the_epoch(before, after):
    """Seven photographs, a few steps by some processes, the rest of the epoch by others: each is seen."""
    for steps in range(4):
        place = place_of(steps, 7, before)
        seen = [
            key for rank in range(before) for keys in Schedule(7, 1, 2, 0, steps, None, rank, before) for key in keys
        ]
        left = place.steps_to(place.epoch + 1, 7, after)
        for rank in range(after):
            share = Schedule(7, 1, 2, steps, steps + left, place, rank, after)
            seen += [key for keys in share for key in keys]
        assert {index for epoch, index in seen if epoch == place.epoch} == set(range(7))
        assert place.epochs_after(left, 7, after) == place.epoch + 1
        for _ in range(left):
            place = place.next(7, after)
        assert place == Place(place.epoch, 0)


def test_epochs_and_places_agree_with_counting():
    for step in range(20):
        place = place_of(step, 7, 2)
        assert (place.epoch, place.taken) == (step // 4, step % 4 * 2)
        assert place.steps_to(9, 7, 2) == 36 - step
        for more in range(1, 9):
            assert place.epochs_after(more, 7, 2) == -(-(step + more) // 4)


def run_alone(monkeypatch, capsys, folder, tmp_path, variables, *arguments):
    """The trainer in this process, as one of several that are not there; returns its only line."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(train.distributed, "JOIN_SECONDS", 1)
    assert main(["--data", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train: error: ") and not (tmp_path / "out").exists()
    return line


def test_a_missing_rank(monkeypatch, capsys, folder, tmp_path):
    line = run_alone(monkeypatch, capsys, folder, tmp_path, environment(0, free_port(), 3))
    assert "WORLD_SIZE 3" in line and "process 1, 2 did not come" in line
    line = run_alone(monkeypatch, capsys, folder, tmp_path, environment(1, free_port()))
    assert "expected process 0 of 2 to answer" in line


def test_a_port_in_use(monkeypatch, capsys, folder, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = run_alone(monkeypatch, capsys, folder, tmp_path, environment(0, port))
    assert f"MASTER_PORT {port}" in line and "in use" in line


@pytest.mark.parametrize(
    "change, named",
    [
        ({"RANK": "2"}, "RANK: expected a number from 0 to 1"),
        ({"RANK": "x"}, "RANK: expected a number in the environment"),
        ({"MASTER_PORT": ""}, "MASTER_PORT"),
    ],
)
def test_an_environment_that_makes_no_sense(monkeypatch, capsys, folder, tmp_path, change, named):
    assert named in run_alone(monkeypatch, capsys, folder, tmp_path, environment(0, 1) | change)


def test_one_gpu_a_process(monkeypatch, capsys, folder, tmp_path):
    variables = environment(1, 1)
    assert "--device" in run_alone(monkeypatch, capsys, folder, tmp_path, variables, "--device", "cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "--nproc_per_node: expected at most 1" in run_alone(monkeypatch, capsys, folder, tmp_path, variables)


@pytest.mark.parametrize("name", ["auto", "cuda", "gpu"])
def test_the_device_of_each_process(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    assert train.distributed._own_device(name, 1) == "cuda:1"


def test_cuda_true_among_processes_without_a_gpu(monkeypatch, capsys):
    """One of them says that there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(train.distributed._own_device("gpu", 1), _silent) == torch.device("cpu")
    assert capsys.readouterr().err == ""
    assert pick_device(train.distributed._own_device("gpu", 0)) == torch.device("cpu")
    assert capsys.readouterr().err.startswith("train: --cuda: there is no GPU")


def test_fewer_photographs_than_processes_and_sync_bn_on_a_cpu(monkeypatch, capsys, folder, tmp_path):
    monkeypatch.setattr("train.loop.join", lambda device: (Processes(0, 6), "cpu"))
    line = run_alone(monkeypatch, capsys, folder, tmp_path, {})
    assert "--data: expected at least as many photographs as processes, 6; got 5" in line
    monkeypatch.setattr("train.loop.join", lambda device: (Processes(), "cpu"))
    assert "--sync-bn: expected GPUs" in run_alone(monkeypatch, capsys, folder, tmp_path, {}, "--sync-bn")
