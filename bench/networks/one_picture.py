"""What the commands that measure one picture share: their options, and how results are written."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..measure import Row, save_json, size_of


def parse(
    command: str, description: str, size: str, repeats: int, timed: str, argv: Sequence[str] | None
) -> argparse.Namespace:
    """The options of `python -m bench COMMAND`.

    Args:
        size, repeats: defaults.
        timed: what is repeated, for the help text.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench {command}", description=description)
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: on a GPU if there is one"
    )
    parser.add_argument("--size", type=size_of, default=size_of(size), metavar="WxH", help=f"of the picture ({size})")
    parser.add_argument(
        "--repeats", type=int, default=repeats, metavar="N", help=f"{timed} to time of each ({repeats})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows, with machine and versions")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats: expected 1 or more; got {args.repeats}")
    return args


def save(args: argparse.Namespace, command: str, size: str, device: str, content: Row) -> bool:
    """Writes `content` with its kind, device and command to the file of --json, if given; False if that failed."""
    if not args.json:
        return True
    height, width = args.size
    text = f"python -m bench {command} --device {device}"
    text += "" if args.size == size_of(size) else f" --size {width}x{height}"
    return not save_json(args.json, content | {"kind": command, "device": device, "command": text})
