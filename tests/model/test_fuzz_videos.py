"""Damaged videos, by the hundred: each ends with a result or with one line, and nothing of it hangs or crashes.

They are enhanced in a process of their own, which says before each what it does: what crashes it has a name.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="videos need PyAV: pip install '.[video]'")

from tests.conftest import ROOT  # noqa: E402
from tests.videos import in_tmp_path as in_tmp_path  # noqa: E402  its fixture
from tests.videos import scene, write  # noqa: E402

MUTATIONS = int(os.environ.get("VIDEO_MUTATIONS", "25"))  # of each source
SOURCES = {
    "a.mp4": {"codec": "libx264", "pix_fmt": "yuv420p", "audio": "aac"},
    "a.mkv": {"codec": "mpeg4", "pix_fmt": "yuv420p", "audio": "pcm_s16le", "options": {}},
    "a.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuv420p", "audio": "libopus", "options": {"cpu-used": "8"}},
    "a.ts": {"codec": "libx264", "pix_fmt": "yuv420p", "audio": "aac"},
    "a.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio": "pcm_s16le", "options": {}},
    "a.mov": {"codec": "mpeg4", "pix_fmt": "yuv420p", "audio": "aac", "options": {}},
}

WORKER = """
import sys
from pathlib import Path
import torch
from model.video.enhance_frames import VideoError, enhance_video
torch.set_num_threads(1)
for name in sys.argv[1:]:
    print("begun", name, flush=True)
    result = Path(name).with_suffix(".out.mp4" if hash(name) % 2 else ".out.mkv")
    try:
        said = enhance_video(name, result, lambda image: 2 * image.clamp(0, 0.5)).fault or "whole"
    except VideoError as error:
        said = str(error)
    assert len(said.splitlines()) == 1, said
    print("done", said, flush=True)
    for path in Path().glob(Path(name).stem + ".out*"):
        path.unlink()
"""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A copy with flipped bits, a piece of zeros or of noise, a piece missing, or the end cut off."""
    changed, kind, at = bytearray(data), rng.randrange(5), rng.randrange(len(data))
    if kind == 0:
        for _ in range(rng.choice((1, 4, 30))):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        size = min(rng.choice((4, 40, 400)), len(data) - at)
        changed[at : at + size] = bytes(size)
    elif kind == 2:
        size = min(rng.choice((2, 20, 200)), len(data) - at)
        changed[at : at + size] = rng.randbytes(size)
    elif kind == 3:
        del changed[at : at + rng.choice((1, 10, 300))]
    else:
        del changed[at:]
    return bytes(changed)


def damaged(source: str) -> list[str]:
    """Writes a video and damaged copies of it; the names of all, its own first."""
    write(source, scene(10, size=(48, 32)), **SOURCES[source])
    data, names = Path(source).read_bytes(), [source]
    for seed in range(MUTATIONS):
        names.append(f"{Path(source).suffix[1:]}{seed}{Path(source).suffix}")
        Path(names[-1]).write_bytes(mutate(data, random.Random(f"{source} {seed}")))
    return names


@pytest.mark.slow
@pytest.mark.timeout(max(300, 40 * MUTATIONS))
def test_damage_ends_in_a_result_or_a_line():
    names = [name for source in SOURCES for name in damaged(source)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    limit = 60 + 4 * len(names)
    command = [sys.executable, "-c", WORKER, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), lines[-1:]
    assert lines[::2] == [f"begun {name}" for name in names]
    said = dict(zip(names, lines[1::2], strict=True))
    assert [said[source] for source in SOURCES] == ["done whole"] * len(SOURCES)
    for source in SOURCES:
        kinds = {line for name, line in said.items() if Path(name).suffix == Path(source).suffix and name != source}
        assert len(kinds) > 2, source  # the damage is of many kinds
