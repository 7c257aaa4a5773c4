"""Everything from start to finish on a few photographs: train, enhance, show, and compare with the reference.

    python -m bench.demo --out DIR [--data DIR]

Without --data it makes its own low-light photographs (`bench/low_light_photos.py`). The output folder must be new,
empty, or that of an earlier demo, whose results then move to DIR/earlier-N.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import model.enhance
import train
from model import EnhanceNetwork, ImageError, enhance_image, find_images, load_weights
from model.enhancement import plan_jobs
from model.files import make_output_folder, write_atomically
from model.gallery import Pair, write_contact_sheet, write_gallery
from model.page import PageError, write_page
from sci_kernels import default_impl, illumination_loss
from train import Photos, TrainError

from .low_light_photos import write_photographs
from .measure import Row, environment
from .networks import step_times
from .promises import compare, gradients

MARKER = "demo.json"
PAGE = "enhance.html"
TRIED = 5  # photographs that the page is tried on, at most
EARLIER = "earlier-"
MIN_SIDE = 32  # of a photograph, pixels


class DemoError(Exception):
    """A mistake that the user can correct; the message is one line."""


@dataclass(frozen=True)
class Settings:
    """Settings with which the demo takes less than 3 minutes on 2 CPU cores."""

    steps: int = 1200
    crop: int = 64
    lr: float = 3e-3
    seed: int = 3  # after so short a training some starts end in a color cast, this one does not
    photographs: int | None = None  # how many to make; None: all
    max_side: int | None = None  # of those that are made; None: as they are
    timed_size: tuple[int, int] = (400, 600)
    timed_steps: int = 3


def run(out: Path, data: Path | None = None, settings: Settings | None = None) -> Row:
    """Make, train, enhance, show and measure; everything is written into `out`. Returns the content of demo.json.

    Raises DemoError, TrainError, ImageError, PageError, OSError, each with one line for the user.
    """
    settings = settings or Settings()
    start = time.perf_counter()
    photos = _scan(data) if data else None  # may fail, which it should before an earlier demo is moved away
    claim(out, data)
    data = data or out / "photographs"
    if photos is None:
        write_photographs(data, settings.photographs, settings.max_side)
        photos = _scan(data)
    print(f"photographs    {len(photos)} in {data}", flush=True)
    weights = _train(data, out, photos, settings)
    pairs = _enhance(data, out, weights)
    title = "Low-light photographs, enhanced"
    write_gallery(pairs, out / "index.html", title)
    write_contact_sheet(pairs, out / "contact_sheet.png")
    tried = write_page(out / PAGE, photos.files[:TRIED], weights)
    results = _compare(photos, weights, settings)
    results |= {"seconds": round(time.perf_counter() - start, 1), "settings": vars(settings)}
    results["page"] = [one._asdict() for one in tried.compared]
    write_atomically(out / MARKER, (json.dumps(results | environment(), indent=2, default=str) + "\n").encode())
    print(f"\nphotographs    {data}")
    print(f"weights        {weights}")
    print(f"enhanced       {out / 'enhanced'}")
    print(f"contact sheet  {out / 'contact_sheet.png'}")
    print(f"page           {out / 'index.html'}, before and after")
    print(f"browser        {out / PAGE}, a page that enhances pictures; {tried.line}")
    print(f"done in {results['seconds']:.0f} s", flush=True)
    return results


def claim(out: Path, data: Path | None) -> None:
    """Prepares `out`, which must be new, empty, or an earlier demo's, whose results move to `out`/earlier-N."""
    if data:
        here, there = out.resolve(), data.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise DemoError(f"--out {out}: expected a folder apart from --data {data}; choose another --out")
    try:
        make_output_folder(out)
    except OSError as error:
        reason = "a file has that name" if out.is_file() else error.strerror or error
        raise DemoError(f"--out {out}: cannot be written ({reason}); choose another folder") from None
    found = [path for path in out.iterdir() if not path.name.startswith(EARLIER)]
    if found and not (out / MARKER).is_file():
        raise DemoError(
            f"--out {out}: expected a new or empty folder, or an earlier demo's; it holds {found[0].name} and no "
            f"{MARKER}; choose another folder"
        )
    if found:
        numbers = [0, *(int(n) for p in out.iterdir() if (n := p.name.removeprefix(EARLIER)).isdecimal())]
        earlier = out / f"{EARLIER}{max(numbers) + 1}"
        earlier.mkdir()
        # The marker moves last, so that the folder is still known as a demo's if this is interrupted.
        for path in sorted(found, key=lambda path: path.name == MARKER):
            path.rename(earlier / path.name)
        print(f"earlier results moved to {earlier}")
    write_atomically(out / MARKER, b"{}\n")


def _scan(data: Path) -> Photos:
    photos = Photos(str(data), None, 0, lambda line: print(f"demo: {line}", file=sys.stderr))
    smallest = min(range(len(photos)), key=lambda index: min(photos.sizes[index]))
    if min(photos.sizes[smallest]) < MIN_SIDE:
        h, w = photos.sizes[smallest]
        raise DemoError(
            f"{photos.files[smallest]}: expected at least {MIN_SIDE} pixels a side; got {w}x{h}; take it out of --data"
        )
    return photos


def _train(data: Path, out: Path, photos: Photos, settings: Settings) -> Path:
    """Runs the trainer's command without printing its lines, which are in its log; returns the weight file."""
    crop = str(min(settings.crop, *map(min, photos.sizes)))
    argv = ["--data", str(data), "--out", str(out / "run"), "--steps", str(settings.steps), "--crop", crop, crop]
    argv += ["--batch-size", "1", "--lr", str(settings.lr), "--seed", str(settings.seed)]
    log = out / "run" / "log.txt"
    print(f"training       {settings.steps} steps on crops of {crop}x{crop}; log in {log}", flush=True)
    lines = io.StringIO()  # there are many: an epoch has only as many steps as there are photographs
    # More threads would gain little on crops this small and lose a lot where other programs use the cores. The pictures
    # would also differ between machines.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(lines):
            status = train.main(argv)
    finally:
        torch.set_num_threads(threads)
    if status:
        sys.exit(status)  # it has printed why
    print(f"               {[line for line in lines.getvalue().splitlines() if line.startswith('epoch ')][-1]}")
    return out / "run" / "weights.safetensors"


def _enhance(data: Path, out: Path, weights: Path) -> list[Pair]:
    """Runs the enhancer's command; returns the pictures that it wrote. It prints the names of those that failed."""
    folder = out / "enhanced"
    status = model.enhance.main(["-i", str(data), "-o", str(folder), "--weights", str(weights)])
    jobs = plan_jobs(find_images([data]), folder)
    pairs = [Pair(str(job.result.relative_to(folder)), job.source, job.result) for job in jobs if job.result.is_file()]
    if not pairs:
        sys.exit(status or 1)
    return pairs


def _compare(photos: Photos, weights: Path, settings: Settings) -> Row:
    """Compares the fused loss with the reference on a photograph and its illumination, then times a step."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fused = default_impl(device)
    network = EnhanceNetwork()
    load_weights(network, weights)
    image = photos.image(0)[None, :, :256, :256]
    illumination, _ = enhance_image(network, image)

    def loss_and_gradients(impl: str, dtype: torch.dtype) -> list[torch.Tensor]:
        x, light = (tensor.to(device, dtype, copy=True).requires_grad_() for tensor in (image, illumination))
        loss = illumination_loss(x, light, impl=impl)
        loss.backward()
        return [loss, *gradients(x, light)]

    oracle = loss_and_gradients("reference", torch.float64)
    results: Row = {}
    print(f"\nthe fused loss ({fused}) against the reference in float64, relative error:")
    for dtype in (torch.float64, torch.float32):
        name = str(dtype).removeprefix("torch.")
        loss, norm, element = compare(loss_and_gradients(fused, dtype), oracle)
        results[f"parity_{name}"] = {"loss": loss, "gradient_norm": norm, "gradient_element": element}
        print(f"  {name}      loss {loss:.1e}, gradients {norm:.1e} in norm, {element:.1e} per element")
    seconds, reference, difference = step_times(settings.timed_size, settings.timed_steps, device)
    results |= {"step_seconds": seconds, "reference_step_seconds": reference, "first_loss_difference": difference}
    h, w = settings.timed_size
    print(f"a training step, 3 stages, {w}x{h}, {device}, measured in turns:")
    print(f"  fused {seconds:.3f} s, reference {reference:.3f} s: {reference / seconds:.1f} times faster", flush=True)
    return results


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for everything the demo makes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="use your own dark photographs")
    args = parser.parse_args(argv)
    try:
        run(args.out, args.data)
    except (DemoError, TrainError, ImageError, PageError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"demo: error: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
