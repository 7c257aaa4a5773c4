"""The options of command lines that say how bright pictures become, and what is done against noise."""

import argparse
import sys

from sci_kernels.constants import MAX_DENOISING, MAX_EXPOSURE

PUBLISHED = "published"
# Flags of a rule that is no more, and what took its place.
_GUARDS = {
    "--guard": "bright pictures are always left alone, by --exposure auto, the default",
    "--no-guard": "taken for --published; --exposure takes a number for a picture that is bright already",
}


def add_exposure_options(parser: argparse.ArgumentParser, guards: bool = False) -> None:
    """Add the options to a command line, and with `guards` the flags that are no more."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--exposure",
        default="auto",
        type=_exposure,
        metavar="auto|C|published",
        help="auto: dark pictures become as bright as well exposed ones, others are left as they are; C, from 0 to 20: "
        "that much; published: the official division (default: auto)",
    )
    ways.add_argument(
        "--published", dest="exposure", action="store_const", const=PUBLISHED, help="the same as --exposure published"
    )
    parser.set_defaults(guard=None)
    for flag in _GUARDS if guards else ():
        ways.add_argument(flag, dest="guard", action="store_const", const=flag, help=argparse.SUPPRESS)
    parser.add_argument(
        "--denoise",
        type=_denoise,
        metavar="S",
        help=f"filter the noise that is brightened, from 0, off, to {MAX_DENOISING:g} (default: 1; published: off)",
    )


def settle_exposure(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Set `args.exposure` to "auto", a number, or None for the published division."""
    if args.guard:
        print(f"note: {args.guard}: this rule is no more; {_GUARDS[args.guard]}", file=sys.stderr)
        args.exposure = PUBLISHED if args.guard == "--no-guard" else args.exposure
    if args.exposure == PUBLISHED:
        args.exposure = None
        if args.denoise:
            parser.error(f"--denoise {args.denoise:g}: the published division has no filter; leave one of them out")


def _exposure(text: str) -> str | float:
    if text in ("auto", PUBLISHED):
        return text
    return number_from_zero(text, MAX_EXPOSURE, "auto, published or ")


def _denoise(text: str) -> float:
    return number_from_zero(text, MAX_DENOISING)


def number_from_zero(text: str, most: float, others: str = "") -> float:
    """The number from 0 to `most` that an option was given; `others` is what else it takes."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= most:
        raise argparse.ArgumentTypeError(f"expected {others}a number from 0 to {most:g}; got {text!r}")
    return value
