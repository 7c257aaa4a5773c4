"""The options `--exposure`, `--published` and `--denoise`, which several commands share."""

import argparse
import sys

from sci_kernels.constants import MAX_DENOISING, MAX_EXPOSURE

PUBLISHED = "published"
# Flags of a rule that was removed, and what replaced it.
_GUARDS = {
    "--guard": "--exposure auto, the default, always leaves bright pictures alone",
    "--no-guard": "treated as --published; to brighten a bright picture, give --exposure a number",
}


def add_exposure_options(parser: argparse.ArgumentParser, guards: bool = False) -> None:
    """Add the options to a parser, and with `guards` the removed flags, which still work but print a note."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--exposure",
        default="auto",
        type=_exposure,
        metavar="auto|C|published",
        help="auto: dark pictures become as bright as well exposed ones, others stay as they are; C, from 0 to 20: "
        "this exposure for all; published: the official division (default: auto)",
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
        help=f"strength of the noise filter, from 0 (off) to {MAX_DENOISING:g} (default: 1; with published: off)",
    )


def settle_exposure(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Set `args.exposure` to "auto", a number, or None for the published division."""
    if args.guard:
        print(f"note: {args.guard}: this rule was removed; {_GUARDS[args.guard]}", file=sys.stderr)
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
    """The number from 0 to `most` that an option was given; `others` names what else it accepts, for the error."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= most:
        raise argparse.ArgumentTypeError(f"expected {others}a number from 0 to {most:g}; got {text!r}")
    return value
