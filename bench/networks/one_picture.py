"""What commands share that measure one picture: their options, and the file that results go to."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..measure import size_of, write_json


def parse(
    command: str, description: str, size: str, repeats: int, timed: str, argv: Sequence[str] | None
) -> argparse.Namespace:
    """The options of `python -m bench COMMAND`; defaults are `size` and `repeats`, `timed` is what it repeats."""
    parser = argparse.ArgumentParser(prog=f"python -m bench {command}", description=description)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where (auto)")
    parser.add_argument("--size", type=size_of, default=size_of(size), metavar="WxH", help=f"of the picture ({size})")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="N", help=f"{timed} timed of each ({repeats})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and what they depend on")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats: expected 1 or more; got {args.repeats}")
    return args


def save(args: argparse.Namespace, command: str, size: str, device: str, content: dict) -> bool:
    """Writes `content`, its kind, device and command to --json, where one is named; whether that could be done."""
    if not args.json:
        return True
    height, width = args.size
    told = f"python -m bench {command} --device {device}"
    told += "" if args.size == size_of(size) else f" --size {width}x{height}"
    try:
        write_json(args.json, content | {"kind": command, "device": device, "command": told})
    except OSError as error:
        print(f"--json: {args.json}: cannot be written ({error.strerror or error}); name another file", file=sys.stderr)
        return False
    return True
