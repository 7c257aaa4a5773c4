"""Arguments that several commands take: the size of an image, a word from a list, a device."""

import argparse
import re
import sys
from collections.abc import Callable

from model.machine import DeviceError, device_named
from sci_kernels.constants import MIN_SIDE

SIZES = {"600x400": (400, 600), "1080p": (1080, 1920), "4k": (2160, 3840), "8k": (4320, 7680)}


def size_of(text: str) -> tuple[int, int]:
    """(height, width) from a name in `SIZES` or from WIDTHxHEIGHT."""
    if text in SIZES:
        return SIZES[text]
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= MIN_SIDE):
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(SIZES)} or WIDTHxHEIGHT of at least {MIN_SIDE}x{MIN_SIDE}; got {text!r}"
        )
    return int(height), int(width)


def one_of(known: list[str]) -> Callable[[str], str]:
    """The type of an argument that must be one of the known words; its error lists them."""

    def check(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(known)}; got {text!r}")
        return text

    return check


def pattern(text: str) -> str:
    """The type of an argument that must be a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"expected a regular expression; got {text!r} ({error})") from None
    return text


def choose_device(name: str) -> str:
    """The device for "auto", "cpu" or "cuda". Ends the program with status 2 if there is no GPU for "cuda"."""
    try:
        return device_named(name).type
    except DeviceError:
        print("--device cuda: PyTorch finds no GPU here; use --device cpu", file=sys.stderr)
        sys.exit(2)
