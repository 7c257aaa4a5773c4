"""Programs whose reader ends before they do: their work is done all the same, with nothing on stderr but their own."""

import contextlib
import csv
import io
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from model.streams.console import own_streams
from tests.conftest import ROOT
from tests.training_runs import photographs

# Without the package itself, which would bring all of torch.
IMPORT = """
import os, sys
from model.streams.console import own_streams
"""
SAYING = f"""{IMPORT}
from tqdm import tqdm
own_streams()
own_streams()
for k in range(20000):
    print("line", k)
    tqdm.write("written %d" % k)
    print("error", k, file=sys.stderr)
with open(sys.argv[1], "w") as file:
    file.write("done")
print("last")
sys.exit(3)
"""


def run(*arguments: object, out=subprocess.PIPE, error=subprocess.PIPE, **variables: str) -> subprocess.Popen:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=out, stderr=error, env=os.environ | {"PYTHONUNBUFFERED": ""} | variables
    )


def left_by_its_reader(*arguments: object, **variables: str) -> tuple[int, bytes, str]:
    """Exit status, the line that is read before stdout is closed, and all of stderr."""
    process = run(*arguments, **variables)
    line = process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    return process.wait(120), line, errors


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_that_nobody_reads_are_dropped(tmp_path, unbuffered):
    variables = {"PYTHONUNBUFFERED": unbuffered}
    status, line, errors = left_by_its_reader("-c", SAYING, tmp_path / "done", **variables)
    assert status == 3 and line == b"line 0\n" and (tmp_path / "done").read_text() == "done"
    assert errors.splitlines() == [f"error {k}" for k in range(20000)]


def test_both_streams_in_one_pipe_that_nobody_reads(tmp_path):
    process = run("-c", SAYING, tmp_path / "done", error=subprocess.STDOUT)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 3 and (tmp_path / "done").read_text() == "done"


def test_a_socket_whose_other_end_is_closed(tmp_path):
    ours, theirs = socket.socketpair()
    process = run("-c", SAYING, tmp_path / "done", out=theirs, error=theirs)
    theirs.close()
    ours.recv(5)
    ours.close()
    assert process.wait(120) == 3 and (tmp_path / "done").read_text() == "done"


def test_all_lines_arrive_where_they_are_read(tmp_path):
    out, errors = run("-c", SAYING, tmp_path / "done").communicate(timeout=120)
    lines = [text for k in range(20000) for text in (f"line {k}", f"written {k}")]
    assert out.decode().splitlines() == [*lines, "last"] and errors.count(b"\n") == 20000


def test_streams_that_are_closed(tmp_path):
    command = f'exec "{sys.executable}" -c "$0" "{tmp_path}/done" >&- 2>&-'
    assert subprocess.run(["sh", "-c", command, SAYING], cwd=ROOT, timeout=120).returncode == 3
    assert (tmp_path / "done").read_text() == "done"


NAMING = f"""{IMPORT}
if len(sys.argv) > 1:
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="ascii", errors="strict")
own_streams()
for stream in (sys.stdout, sys.stderr):
    print(os.fsdecode(b"caf\\xe9.png"), "\\u2713", file=stream)
"""


@pytest.mark.parametrize("own", [(), ("own",)], ids=["", "a copy of stderr"])
def test_names_that_the_encoding_lacks(tmp_path, own):
    escaped = b"caf\\udce9.png \\u2713\n"
    assert run("-c", NAMING, *own, PYTHONIOENCODING="ascii").communicate(timeout=120) == (escaped, escaped)
    with open(tmp_path / "out", "wb") as file:
        assert run("-c", NAMING, *own, out=file, error=file, PYTHONIOENCODING="ascii").wait(120) == 0
    assert (tmp_path / "out").read_bytes() == escaped * 2


def test_what_stands_for_the_streams_is_left_alone(capsys, tmp_path):
    before = sys.stdout, sys.stderr
    own_streams()
    assert (sys.stdout, sys.stderr) == before
    with open(tmp_path / "out", "w") as file, contextlib.redirect_stdout(file):
        own_streams()
        assert sys.stdout is file
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.redirect_stderr(text):
        own_streams()
        print("kept")
        assert sys.stdout is text and sys.stderr is text and text.getvalue() == "kept\n"


@pytest.fixture
def pictures(tmp_path):
    """More than a pipe holds: 64 kB, in lines of about 250 characters."""
    for k in range(300):
        path = tmp_path / "pictures" / f"{k:03}{'x' * 200}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), k % 256, np.uint8)).save(path)
    with contextlib.suppress(OSError):  # not every file system takes a name that is no UTF-8
        path.rename(path.with_name(os.fsdecode(b"caf\xe9.png")))
    return tmp_path / "pictures"


@pytest.mark.slow
def test_evaluate(tmp_path, pictures):
    """The table is longer than what a pipe holds; the numbers are all in the file."""
    status, line, errors = left_by_its_reader("-m", "train.evaluate", "--pred", pictures, "--csv", tmp_path / "all.csv")
    assert status == 0 and line.split() == [b"DE", b"EME"] and not errors
    with open(tmp_path / "all.csv", newline="", errors="surrogateescape") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names == sorted(os.listdir(pictures)) and len(names) == 300


def test_train(tmp_path):
    folder, out = photographs(tmp_path / "photos", {"a.png": (8, 9)}), tmp_path / "out"
    options = ["--data", folder, "--out", out, "--epochs", 9, "--sample-every", 0]
    status, line, errors = left_by_its_reader("-m", "train", *options, OMP_NUM_THREADS="1")
    assert status == 0 and line.startswith(b"1 photographs") and not errors
    assert (out / "weights.safetensors").exists() and (out / "log.txt").read_text().count("epoch ") == 9


def test_export(tmp_path):
    process = run("-m", "model.export", "--format", "official", "-o", tmp_path / "a.pt")
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(120) == 0 and (tmp_path / "a.pt").exists()


@pytest.mark.slow
def test_bench():
    process = run("-m", "bench", "kernels", "--help")
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(120) == 0
