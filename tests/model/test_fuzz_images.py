"""Damaged files of every format: each is read, or refused in one line; none crashes, hangs or prints."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("imagecodecs")
pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")
pytest.importorskip("rawpy")
pytest.importorskip("tifffile")

from tests.pictures import every_format  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# In all; SCI_FUZZ asks for more, once, after a change of decoders.
MUTATIONS = int(os.environ.get("SCI_FUZZ", 2000))
SECONDS_A_FILE = 20
BYTES_OF_MEMORY = 6 << 30
# Reads the files that it is told of, one a line, and answers each; stops itself where one takes too long.
READER = f"""
import faulthandler, os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({BYTES_OF_MEMORY}, {BYTES_OF_MEMORY}))
from model.streams import own_stderr
own_stderr()
from model import ImageError, read_image
from model.images import pixel_count
answers = os.fdopen(os.dup(1), "w", buffering=1)
for line in sys.stdin:
    path = line.rstrip("\\n")
    faulthandler.dump_traceback_later({SECONDS_A_FILE}, exit=True, file=sys.stderr)
    answers.write(f"reading {{path}}\\n")
    try:
        pixel_count(path)
        picture = read_image(path)
        good = picture.pixels.ndim == 3 and picture.pixels.shape[2] == 3 and picture.pixels.size
        answers.write("ok\\n" if good else f"odd picture {{picture.pixels.shape}}\\n")
    except ImageError as error:
        text = str(error)
        good = text.startswith(path + ": ") and len(text.splitlines()) == 1
        answers.write("ok\\n" if good else f"odd line {{text!r}}\\n")
    except BaseException as error:
        answers.write(f"raised {{error!r}}\\n")
    faulthandler.cancel_dump_traceback_later()
"""


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The data, damaged in one of the ways in which files are."""
    whole = bytearray(data)
    at = chance.randrange(len(whole))
    kind = chance.randrange(7)
    if kind == 0:  # some bytes, mostly of the header
        for _ in range(chance.randint(1, 8)):
            whole[chance.randrange(min(len(whole), chance.choice([32, 256, 1 << 30])))] = chance.randrange(256)
    elif kind == 1:
        del whole[at:]
    elif kind == 2:
        end = at + chance.randint(1, 64)
        whole[at:at] = whole[at:end]
    elif kind == 3:
        end = min(len(whole), at + chance.randint(1, 64))
        whole[at:end] = bytes(end - at)
    elif kind == 4:  # the header of another file
        head = chance.randint(4, 64)
        whole[:head] = chance.choice(others)[:head]
    elif kind == 5:
        whole[at] ^= 1 << chance.randrange(8)
    else:  # a number that is far too large, or as large as it may be
        at = min(at, chance.choice([64, 512, 1 << 30])) % max(1, len(whole) - 4)
        whole[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\xff\xff\0\0"])
    return bytes(whole)


@pytest.mark.slow
@pytest.mark.timeout(max(300, MUTATIONS))
def test_damaged_files(tmp_path):
    """By one process, since importing what reads them takes longer than reading hundreds."""
    originals = every_format()
    names, paths = sorted(originals), []
    others = [originals[name] for name in names]
    for number in range(MUTATIONS):
        name = names[number % len(names)]
        path = tmp_path / f"{number} {name}"
        path.write_bytes(mutated(originals[name], others, random.Random(f"{number} {name}")))
        paths.append(str(path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input="\n".join(paths) + "\n",
        capture_output=True,
        text=True,
        env=environment,
    )
    lines = done.stdout.splitlines()
    wrong = [(asked, answer) for asked, answer in zip(lines[::2], lines[1::2], strict=False) if answer != "ok"]
    assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
    assert not wrong and len(lines) == 2 * len(paths)
    assert not done.stderr
